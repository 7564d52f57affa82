"""The broker that other tests run knows neither SASL nor TLS: a proxy adds the latter here."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaConnectionError
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from autoingest.app.config import KafkaConfig
from autoingest.app.secrets import KAFKA_PASSWORD
from autoingest.errors import ConfigurationError
from autoingest.notify.kafka_client import settings
from testing.kafka import Kafka
from testing.messages import body, record

MINIMAL = {"bootstrapServers": ["127.0.0.1:9092"], "topics": ["t"], "groupId": "g"}


def config(**values: Any) -> KafkaConfig:
    return KafkaConfig.model_validate(MINIMAL | values)


def certificate(folder: Path) -> tuple[Path, Path]:
    """Files of a certificate for 127.0.0.1 that certifies itself, and of its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "broker")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
        .sign(key, hashes.SHA256())
    )
    folder.mkdir(exist_ok=True)
    files = folder / "cert.pem", folder / "key.pem"
    pem = serialization.Encoding.PEM
    files[0].write_bytes(made.public_bytes(pem))
    files[1].write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    return files


@asynccontextmanager
async def encrypted(broker: Kafka, context: ssl.SSLContext) -> AsyncIterator[str]:
    """Reach the broker by TLS only; where it is then."""
    port = int(broker.bootstrap.rpartition(":")[2])
    copies: set[asyncio.Task[None]] = set()

    async def copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await source.read(65536):
                sink.write(data)
                await sink.drain()
        sink.close()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", port)
        both = {asyncio.create_task(copy(reader, inner_writer)), asyncio.create_task(copy(inner_reader, writer))}
        copies.update(both)

    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=context)
    outside = server.sockets[0].getsockname()[1]
    broker.advertise(outside)
    try:
        yield f"127.0.0.1:{outside}"
    finally:
        server.close()
        await asyncio.wait_for(asyncio.gather(*copies), 60)


@pytest.mark.parametrize("with_certificate", [False, True])
async def test_tls(broker: Kafka, tmp_path: Path, with_certificate: bool) -> None:
    broker.create("t", 1)
    broker.send("t", [body(record())])
    broker_cert, broker_key = certificate(tmp_path / "broker")
    ours, our_key = certificate(tmp_path / "ours")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(broker_cert, broker_key)
    client = {"securityProtocol": "SSL", "caFile": str(broker_cert)}
    if with_certificate:
        context.load_verify_locations(ours)
        context.verify_mode = ssl.CERT_REQUIRED
        client |= {"certFile": str(ours), "keyFile": str(our_key)}
    async with encrypted(broker, context) as bootstrap:
        consumer = AIOKafkaConsumer("t", **settings(config(bootstrapServers=[bootstrap], **client)))
        try:
            await consumer.start()
            message = await asyncio.wait_for(consumer.getone(), 60)
            assert message.value == body(record())
        finally:
            await consumer.stop()


async def test_broker_that_nobody_certifies_is_refused(broker: Kafka, tmp_path: Path) -> None:
    cert, key = certificate(tmp_path / "broker")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert, key)
    async with encrypted(broker, context) as bootstrap:
        consumer = AIOKafkaConsumer("t", **settings(config(bootstrapServers=[bootstrap], securityProtocol="SSL")))
        with pytest.raises(KafkaConnectionError):
            await consumer.start()
        await consumer.stop()


@pytest.mark.parametrize("protocol", ["SASL_PLAINTEXT", "SASL_SSL"])
async def test_sasl(monkeypatch: pytest.MonkeyPatch, protocol: str) -> None:
    monkeypatch.setenv(KAFKA_PASSWORD, "swordfish")
    asked = config(securityProtocol=protocol, saslMechanism="SCRAM-SHA-256", saslUsername="enqueue")
    given = settings(asked)
    assert given["security_protocol"] == protocol
    assert given["sasl_mechanism"] == "SCRAM-SHA-256"
    assert (given["sasl_plain_username"], given["sasl_plain_password"]) == ("enqueue", "swordfish")
    assert ("ssl_context" in given) == (protocol == "SASL_SSL")
    assert "swordfish" not in repr(asked)
    await AIOKafkaConsumer("t", **given).stop()


def test_password_comes_from_a_file_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(KAFKA_PASSWORD, raising=False)
    asked = config(securityProtocol="SASL_PLAINTEXT", saslUsername="enqueue")
    with pytest.raises(ConfigurationError, match=r"set AUTOINGEST_KAFKA_PASSWORD, or AUTOINGEST_KAFKA_PASSWORD_FILE"):
        settings(asked)
    (tmp_path / "password").write_text("swordfish\n")
    monkeypatch.setenv(KAFKA_PASSWORD + "_FILE", str(tmp_path / "password"))
    assert settings(asked)["sasl_plain_password"] == "swordfish"


@pytest.mark.parametrize("field", ["caFile", "certFile"])
def test_files_that_can_not_be_used_are_named(tmp_path: Path, field: str) -> None:
    for content in (None, "no certificate"):
        file = tmp_path / "x.pem"
        if content:
            file.write_text(content)
        with pytest.raises(ConfigurationError, match=rf"enqueue\.kafka\.{field} .*x\.pem can't be used"):
            settings(config(securityProtocol="SSL", **{field: str(file)}))


def test_arguments_that_nothing_depends_on_the_default_of() -> None:
    given = settings(config())
    assert given["enable_auto_commit"] is False
    assert given["auto_offset_reset"] == "earliest"
    assert given["max_poll_interval_ms"] > 10**9
