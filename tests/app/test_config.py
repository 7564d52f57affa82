import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from autoingest.app.config import Config
from autoingest.app.secrets import notification_secrets, redis_password, secret, strip_foreign_secrets
from autoingest.ceph.spec import Spec
from autoingest.errors import ConfigurationError

ROOT = Path(__file__).parents[2]
KAFKA: dict[str, Any] = {"bootstrapServers": ["host:9092"], "topics": ["t"], "groupId": "g"}
MINIMAL: dict[str, Any] = {"buckets": ["b"], "ingest": {"repo": "r"}}


@pytest.mark.parametrize("file", sorted((ROOT / "autoingest/data/config").glob("*.yaml")), ids=lambda file: file.name)
def test_shipped_files_load(file: Path) -> None:
    kind = Spec if file.name.startswith("ceph-") else Config
    assert kind.from_file(file).buckets


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bucket": []}, "bucket: there is no such key; did you mean buckets"),
        ({"buckets": []}, "buckets: "),
        ({"buckets": ["a/b"]}, "neither bucket nor profile@bucket"),
        ({"buckets": ["x@b", "y@b"]}, "listed twice"),
        ({"enqueue": {"filter": "("}}, "not a regular expression"),
        ({"enqueue": {"listen": None}}, "enqueue: .*set listen, kafka or both"),
        ({"enqueue": {"kafka": KAFKA | {"bootstrapServers": ["host"]}}}, "enqueue.kafka.bootstrapServers.0"),
        ({"enqueue": {"kafka": KAFKA | {"saslUsername": "u"}}}, "saslUsername and a securityProtocol"),
        ({"enqueue": {"kafka": KAFKA | {"securityProtocol": "SASL_SSL"}}}, "saslUsername and a securityProtocol"),
        ({"enqueue": {"kafka": KAFKA | {"caFile": "f"}}}, "need a securityProtocol with SSL"),
        ({"enqueue": {"kafka": KAFKA | {"securityProtocol": "SSL", "keyFile": "f"}}}, "keyFile needs certFile"),
        ({"ingest": {"repo": "r", "lease": 10}}, r"batchTimeout \(40"),
        ({"ingest": {"repo": "r", "maxAttempts": 0}}, "ingest.maxAttempts"),
        ({"roles": ["cook"]}, "roles.0"),
    ],
)
def test_errors_name_the_key(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Config.from_dict(MINIMAL | change, "site.yaml")


@pytest.mark.parametrize("text", ["{", "- 1", "\udcff"])
def test_unreadable_files(tmp_path: Path, text: str) -> None:
    file = tmp_path / "bad.yaml"
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ConfigurationError, match=r"bad\.yaml"):
        Config.from_file(file)


def test_secrets_come_from_environment_or_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("AUTOINGEST_REDIS_PASSWORD", raising=False)
    assert redis_password() is None
    file = tmp_path / "password"
    file.write_text("swordfish\n")
    monkeypatch.setenv("AUTOINGEST_REDIS_PASSWORD_FILE", str(file))
    password = redis_password()
    assert password is not None
    assert password.get_secret_value() == "swordfish"
    assert "swordfish" not in repr(password)
    monkeypatch.setenv("AUTOINGEST_NOTIFICATION_SECRETS", "old new")
    assert [secret.get_secret_value() for secret in notification_secrets()] == ["old", "new"]


@pytest.mark.parametrize("value", [" swordfish", "swordfish\n", "\tswordfish\r\n"])
@pytest.mark.parametrize(
    "name", ["AUTOINGEST_REDIS_PASSWORD", "AUTOINGEST_SENTINEL_PASSWORD", "AUTOINGEST_KAFKA_PASSWORD"]
)
def test_white_space_is_no_part_of_a_secret(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    assert secret(name) == "swordfish"


def test_white_space_is_no_part_of_other_programs_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_SECRET_ACCESS_KEY", "LSST_RESOURCES_S3_PROFILE_summit"):
        monkeypatch.setenv(name, " swordfish\n")
        strip_foreign_secrets()
        assert os.environ[name] == "swordfish"


@pytest.mark.parametrize("content", [b"", b" \n", b"\xff\xfe"])
def test_secret_file_that_holds_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "password"
    file.write_bytes(content)
    monkeypatch.setenv("AUTOINGEST_NOTIFICATION_SECRETS_FILE", str(file))
    with pytest.raises(ConfigurationError, match=f"AUTOINGEST_NOTIFICATION_SECRETS_FILE: {file}"):
        notification_secrets()


def test_reference_is_current() -> None:
    subprocess.run([sys.executable, str(ROOT / "docs" / "generate.py"), "--check"], check=True)
