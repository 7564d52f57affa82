from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import obstore
import pytest
from lsst.resources.s3utils import _get_s3_connection_parameters

from autoingest.errors import ConfigurationError
from autoingest.store.profiles import open_client, open_store, resolve
from testing.s3server import S3Server

from .conftest import BUCKET, store


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "S3_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.mark.parametrize(
    "variables",
    [
        {"LSST_RESOURCES_S3_PROFILE_embargo": "https://key:s%2Fe+c%3Aret@s3.example.org:9000"},
        {"LSST_RESOURCES_S3_PROFILE_embargo": "http://k%40y:%25@127.0.0.1:8080/prefix", "S3_ENDPOINT_URL": "https://o"},
        {"LSST_RESOURCES_S3_PROFILE_embargo": "", "S3_ENDPOINT_URL": "https://key:secret@other.example.org"},
        {"LSST_RESOURCES_S3_PROFILE_other": "https://a:b@c", "S3_ENDPOINT_URL": "https://key:secret@example.org"},
    ],
)
def test_same_as_lsst_resources(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    theirs = _get_s3_connection_parameters("embargo")
    ours = resolve("embargo@rubin-summit")
    credential = ours.credential()
    assert ours.bucket == "rubin-summit"
    assert (ours.endpoint, credential["access_key_id"], credential["secret_access_key"]) == (
        theirs.endpoint_url, theirs.access_key_id, theirs.secret_access_key,
    )  # fmt: skip


def test_credentials_of_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "credentials").write_text(
        "[default]\naws_access_key_id = d\naws_secret_access_key = ds\n"
        "[embargo]\naws_access_key_id = e\naws_secret_access_key = es\n"
    )
    monkeypatch.setenv("LSST_RESOURCES_S3_PROFILE_embargo", "https://s3.example.org")
    monkeypatch.setenv("S3_ENDPOINT_URL", "https://other.example.org")
    embargo, plain = resolve("embargo@b"), resolve("b")
    assert (embargo.endpoint, embargo.credential()["access_key_id"]) == ("https://s3.example.org", "e")
    assert (plain.endpoint, plain.credential()["access_key_id"]) == ("https://other.example.org", "d")
    expiry = plain.credential()["expires_at"]
    assert expiry
    assert expiry > datetime.now(UTC)


@pytest.mark.parametrize(
    ("bucket", "variables", "remedy"),
    [
        ("b", {}, "AWS_ACCESS_KEY_ID"),
        ("embargo@b", {}, "LSST_RESOURCES_S3_PROFILE_embargo=https://"),
        ("embargo@b", {"LSST_RESOURCES_S3_PROFILE_embargo": "https://key:top/secret@host"}, "%2F"),
        ("embargo@b", {"LSST_RESOURCES_S3_PROFILE_embargo": "https://topsecret@host"}, "accesskey:secret"),
        ("embargo@b", {"LSST_RESOURCES_S3_PROFILE_embargo": "key:top:secret@host"}, "https://"),
        ("b", {"S3_ENDPOINT_URL": "https://key:top:secret@host"}, "S3_ENDPOINT_URL"),
    ],
)
def test_errors_say_what_to_set_and_no_secret(
    monkeypatch: pytest.MonkeyPatch, bucket: str, variables: dict[str, str], remedy: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError) as info:
        resolve(bucket)
    error: BaseException | None = info.value
    assert remedy in str(error)
    while error:
        assert "top" not in str(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def test_nothing_shows_the_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LSST_RESOURCES_S3_PROFILE_embargo", "https://access:topsecret@host")
    assert "topsecret" not in repr(resolve("embargo@b")) + repr(open_store("embargo@b"))


async def test_profile_and_tenant_lead_to_the_server(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    url = resolve(BUCKET).endpoint
    assert url
    monkeypatch.setenv("LSST_RESOURCES_S3_PROFILE_embargo", url.replace("//", "//key:secret@"))
    monkeypatch.setenv("S3_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    server.buckets["tenant:bucket"] = {}
    store(server, "tenant:bucket/a b+c:ü.fits", b"1")
    found = await obstore.get_async(open_store("embargo@tenant:bucket"), "a b+c:ü.fits")
    assert bytes(await found.bytes_async()) == b"1"
    async with open_client("embargo@tenant:bucket") as client:
        listing: dict[str, Any] = await client.list_objects_v2(Bucket="tenant:bucket")
    assert [item["Key"] for item in listing["Contents"]] == ["a b+c:ü.fits"]
