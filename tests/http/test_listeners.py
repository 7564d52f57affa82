"""What all listeners have in common: certificates, tokens, and how they cope with their clients."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import aiohttp
import pytest
import redis.exceptions
import structlog
from aiohttp import web
from cryptography.x509 import load_pem_x509_certificate
from redis.asyncio import Redis

from autoingest.app import metrics
from autoingest.app.config import Config, Listen, RedisConfig
from autoingest.app.health import Admin
from autoingest.app.secrets import ADMIN_TOKEN, PRESENCE_TOKEN
from autoingest.errors import ConfigurationError
from autoingest.http.listener import Listener
from autoingest.queue.connection import Client, connect
from autoingest.roles.enqueue import EnqueueRole
from autoingest.roles.presence import PresenceRole
from testing.tls import certificate, tls_before

NAMES = ("enqueue", "presence", "admin")
TARGETS = {"enqueue": "/notify", "presence": "/presence/LSSTCam/g/0/R22_S11", "admin": "/metrics"}


@asynccontextmanager
async def listening(client: Redis, name: str, **listen: Any) -> AsyncIterator[int]:
    """Open one of the listeners; its port."""
    config = Config.from_dict(
        {
            "buckets": ["b"],
            "ingest": {"repo": "/nowhere"},
            "enqueue": {"hold": 0.1},
            name: {
                "listen": {"host": "127.0.0.1", "port": 0, **listen},
                **({"hold": 0.1} if name == "enqueue" else {}),
            },
        },
        "test",
    )
    made: Admin | EnqueueRole | PresenceRole
    match name:
        case "enqueue":
            made = EnqueueRole(config, client)
        case "presence":
            made = PresenceRole(config, client)
        case _:
            made = Admin(config, cast(Client, client), [])
    try:
        await made.start()
        yield made.port
    finally:
        await made.close()


async def get(port: int, target: str, token: str | None = None, tls: ssl.SSLContext | None = None) -> int:
    """Ask, with POST where that is meant; the status."""
    scheme = "https" if tls else "http"
    headers = {"Authorization": token} if token else {}
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls or True)) as session,
        session.request(
            "POST" if target == "/notify" else "GET",
            f"{scheme}://127.0.0.1:{port}{target}",
            headers=headers,
            data=b'{"Records": []}' if target == "/notify" else None,
        ) as answer,
    ):
        await answer.read()
        return answer.status


@pytest.mark.parametrize("name", NAMES)
async def test_tls(redis_client: Redis, name: str, tmp_path: Path) -> None:
    cert_file, key_file = certificate(tmp_path)
    trusting = ssl.create_default_context(cafile=str(cert_file))
    files = {"certFile": str(cert_file), "keyFile": str(key_file)}
    async with listening(redis_client, name, tls=files) as port:
        assert await get(port, TARGETS[name], tls=trusting) == 200
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await get(port, TARGETS[name], tls=ssl.create_default_context())
        with pytest.raises(aiohttp.ClientError):
            await get(port, TARGETS[name])
    valid_until = load_pem_x509_certificate(cert_file.read_bytes()).not_valid_after_utc.timestamp()
    assert metrics.CERTIFICATE_EXPIRY.labels(name)._value.get() == valid_until


@pytest.mark.parametrize("name", NAMES)
async def test_unusable_certificate(redis_client: Redis, name: str, tmp_path: Path) -> None:
    cert_file, _ = certificate(tmp_path)
    for files in ({"certFile": str(tmp_path / "none.pem")}, {"certFile": str(cert_file)}):
        with pytest.raises(ConfigurationError, match=rf"{name}\.listen\.tls: .*{Path(files['certFile']).name}"):
            async with listening(redis_client, name, tls=files):
                pass


@pytest.mark.parametrize(("name", "variable"), [("presence", PRESENCE_TOKEN), ("admin", ADMIN_TOKEN)])
async def test_tokens(redis_client: Redis, name: str, variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "old-token néw-token")
    async with listening(redis_client, name) as port:
        for token in (None, "old-token", "Bearer ", "Bearer old", "Bearer old-token néw-token", "Basic old-token"):
            assert await get(port, TARGETS[name], token) == 401, token
        for token in ("Bearer old-token", "Bearer néw-token"):
            assert await get(port, TARGETS[name], token) == 200, token
        if name == "admin":
            assert await get(port, "/livez") == await get(port, "/readyz") == 200


async def ends(reader: asyncio.StreamReader) -> bytes:
    """Wait until the server closes a connection; what it has said."""
    said = b""
    try:
        while part := await reader.read(1000):
            said += part
    except ConnectionResetError:
        pass
    return said


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("beginning", "more"),
    [
        (b"", b""),
        (b"GET /", b"x"),
        (b"POST /notify HTTP/1.1\r\nHost: x\r\nContent-Length: 999\r\n\r\n{", b" "),
    ],
    ids=["nothing", "part of a head", "part of a body"],
)
async def test_who_never_ends_a_request_is_let_go(
    redis_client: Redis, name: str, beginning: bytes, more: bytes
) -> None:
    """However often a little more comes."""
    async with listening(redis_client, name, patience=0.3) as port, asyncio.timeout(60):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(beginning)
        end = asyncio.create_task(ends(reader))
        while not (await asyncio.wait([end], timeout=0.02))[0]:
            with contextlib.suppress(ConnectionError):
                writer.write(more)
        writer.close()
        assert await get(port, TARGETS[name]) == 200


@pytest.mark.parametrize("name", NAMES)
async def test_rubbish_does_not_fill_the_log(redis_client: Redis, name: str, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever it is, one line tells of it, and it is counted."""
    head = b"POST /notify HTTP/1.1\r\nHost: x\r\n"
    rubbish = [
        b"rubbish\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03rubbish",
        b"GET rubbish HTTP/1.1\r\n\r\n",
        b"GET /" + b"rubbish" * 2000 + b" HTTP/1.1\r\n\r\n",
        head + b"rubbish\r\n\r\n",
        head + b"X: " + b"rubbish" * 2000 + b"\r\n\r\n",
        head + b"Transfer-Encoding: chunked\r\n\r\nrubbish\r\n\r\n",
    ]
    before = malformed(name)
    with structlog.testing.capture_logs() as logs:
        async with listening(redis_client, name) as port, asyncio.timeout(60):
            for content in rubbish:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(content)
                assert (await ends(reader)).split(b" ")[1] == b"400"
                writer.close()
            assert await get(port, TARGETS[name]) == 200
    assert malformed(name) - before == len(rubbish)
    assert caplog.records == []
    assert [entry["event"] for entry in logs].count("malformed requests") == 1
    assert "rubbish" not in repr(logs)


def malformed(name: str) -> float:
    labels = {"listener": name, "why": "malformed"}
    return metrics.REGISTRY.get_sample_value("autoingest_connections_closed_total", labels) or 0.0


async def test_our_own_errors_are_logged() -> None:
    async def fail(_: web.Request) -> web.Response:
        raise ZeroDivisionError

    listener = Listener("test", Listen(host="127.0.0.1", port=0), [("GET", "/", fail)])
    await listener.open()
    try:
        with structlog.testing.capture_logs() as logs:
            assert await get(listener.port, "/") == 500
    finally:
        await listener.close(1.0)
    assert [(entry["log_level"], entry["event"]) for entry in logs] == [("error", "request fails")]


@pytest.mark.parametrize("name", NAMES)
async def test_those_who_ask_find_room(redis_client: Redis, name: str) -> None:
    """Connections that say nothing do not keep others out, and one that asks again and again is kept."""
    async with listening(redis_client, name, maxConnections=5) as port, asyncio.timeout(60):
        method = "POST" if name == "enqueue" else "GET"
        request = f"{method} {TARGETS[name]} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        asking = await asyncio.open_connection("127.0.0.1", port)
        silent = []
        for _ in range(8):
            silent.append(await asyncio.open_connection("127.0.0.1", port))
            asking[1].write(request)
            assert (await asking[0].read(100)).startswith(b"HTTP/1.1 ")
            while len(asking[0]._buffer):  # type: ignore[attr-defined]
                await asking[0].read(100_000)
        assert await get(port, TARGETS[name]) == 200
        assert await asyncio.gather(*(ends(reader) for reader, _ in silent[:4])) == [b""] * 4
        for _, writer in (asking, *silent):
            writer.close()


async def test_redis_with_a_user_and_tls(valkey_url: str, redis_client: Redis, tmp_path: Path,
                                         monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    await redis_client.acl_setuser("autoingest", enabled=True, passwords=["+a-pass"], keys=["*"], categories=["+@all"])
    cert_file, key_file = certificate(tmp_path)
    monkeypatch.setenv("AUTOINGEST_REDIS_PASSWORD", "a-pass")
    try:
        async with tls_before(valkey_url, (cert_file, key_file)) as port:
            url = f"rediss://127.0.0.1:{port}/0"
            async with connect(RedisConfig(url=url, username="autoingest", ca_file=cert_file)) as client:
                assert await client.acl_whoami() == "autoingest"
            async with connect(RedisConfig(url=url, username="autoingest")) as client:
                with pytest.raises(redis.exceptions.ConnectionError, match="certificate verify failed"):
                    await client.ping()
            async with connect(RedisConfig(url=valkey_url, username="nobody")) as client:
                with pytest.raises(redis.exceptions.AuthenticationError):
                    await client.ping()
    finally:
        await redis_client.acl_deluser("autoingest")


@pytest.mark.parametrize("url", ["redis://:pw@127.0.0.1/0", "redis://u:pw@h", "redis://h/0?password=pw"])
def test_no_password_in_the_configuration(url: str) -> None:
    with pytest.raises(ConfigurationError, match="AUTOINGEST_REDIS_PASSWORD") as caught:
        Config.from_dict({"buckets": ["b"], "ingest": {"repo": "r"}, "redis": {"url": url}}, "f")
    assert ":pw" not in str(caught.value)
