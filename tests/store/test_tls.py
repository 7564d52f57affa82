"""Stores with certificates of a site's own, and what is told where no connection comes about."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError
from lsst.resources import ResourcePath

from autoingest.butler.outage import cause, is_outage
from autoingest.errors import ConfigurationError, TransientError
from autoingest.store import profiles
from autoingest.store.listing import open_listing
from autoingest.store.profiles import resolve
from autoingest.store.reader import HeaderReader
from testing.tls import Authority, certificate, tls_before

from .test_reader import EXPOSURE, IMAGE, SENSOR, exposure_object

Certificate = Callable[[Path], tuple[tuple[Path, Path], Path | None]]


def good(folder: Path) -> tuple[tuple[Path, Path], Path | None]:
    authority = Authority(folder)
    return authority.certify("127.0.0.1"), authority.file


def unknown(folder: Path) -> tuple[tuple[Path, Path], Path | None]:
    return Authority(folder).certify("127.0.0.1"), None


def another(folder: Path) -> tuple[tuple[Path, Path], Path | None]:
    return Authority(folder).certify("127.0.0.1"), Authority(folder, "another").file


def expired(folder: Path) -> tuple[tuple[Path, Path], Path | None]:
    authority = Authority(folder)
    return authority.certify("127.0.0.1", expired=True), authority.file


def other_host(folder: Path) -> tuple[tuple[Path, Path], Path | None]:
    authority = Authority(folder)
    return authority.certify("s3.example.org"), authority.file


@asynccontextmanager
async def tls_store(make: Certificate, folder: Path, plain: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[str]:
    """Put TLS before an S3 server, and lead the environment there."""
    files, authorities = make(folder)
    if authorities:
        monkeypatch.setenv("AWS_CA_BUNDLE", str(authorities))
    async with tls_before(plain, files) as port:
        url = f"https://127.0.0.1:{port}"
        monkeypatch.setenv("S3_ENDPOINT_URL", url)
        yield url


@pytest.fixture
def stored(s3_client: Any, s3_bucket: str) -> str:
    """A bucket with an image."""
    s3_client.put_object(Bucket=s3_bucket, Key=EXPOSURE.key(SENSOR), Body=IMAGE)
    return s3_bucket


async def test_one_setting_for_all_clients(
    stored: str, s3_environment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = EXPOSURE.key(SENSOR)
    async with tls_store(good, tmp_path, s3_environment, monkeypatch):
        found = await HeaderReader(4).read(exposure_object(f"{stored}/{key}"), None)
        assert found.size == len(IMAGE)
        async with open_listing(stored) as listing:
            assert [item.path async for page in listing.objects("") for item in page] == [f"{stored}/{key}"]
        # As the Butler does, in a thread of its own: the server that passes on what is said runs in this one.
        assert await _in_thread(lambda: ResourcePath(f"s3://{stored}/{key}").size()) == len(IMAGE)


async def _in_thread(function: Callable[[], Any]) -> Any:

    return await asyncio.to_thread(function)


@pytest.mark.parametrize(
    ("make", "told", "told_by_python"),
    [
        (unknown, "authority that is not trusted", "unable to get local issuer certificate"),
        (another, "authority that is not trusted", "unable to get local issuer certificate"),
        (expired, "has expired", "certificate has expired"),
        (other_host, "another host name", "IP address mismatch|doesn.t match"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
async def test_certificate_that_is_not_accepted(
    stored: str, s3_environment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Certificate, told: str,
    told_by_python: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(profiles, "RETRIES", 1)
    async with tls_store(make, tmp_path, s3_environment, monkeypatch) as url:
        with pytest.raises(TransientError, match=told):
            await HeaderReader(4).read(exposure_object(f"{stored}/{EXPOSURE.key(SENSOR)}"), None)
        async with open_listing(stored) as listing:
            with pytest.raises(TransientError, match=told_by_python):
                await anext(listing.objects(""))
        error = await _in_thread(lambda: _error_of_boto(url))
    assert is_outage(error)
    assert re.search(told_by_python, cause(error))


@pytest.mark.parametrize(
    ("url", "told", "told_by_python"),
    [
        ("http://127.0.0.1:9", "can't be reached .*refused", "refused|Connect call failed"),
        ("http://no.such.host.invalid", "can't be resolved", "no.such.host.invalid"),
        ("https://{plain}", "does not speak TLS", "WRONG_VERSION_NUMBER|record layer failure|wrong version number"),
    ],
)
async def test_no_connection(
    s3_environment: str, monkeypatch: pytest.MonkeyPatch, url: str, told: str, told_by_python: str
) -> None:
    monkeypatch.setattr(profiles, "RETRIES", 1)
    monkeypatch.setattr(profiles, "CONNECT_TIMEOUT", timedelta(seconds=10))
    monkeypatch.setattr(profiles, "REQUEST_TIMEOUT", timedelta(seconds=10))
    url = url.format(plain=s3_environment.removeprefix("http://"))
    monkeypatch.setenv("S3_ENDPOINT_URL", url)
    with pytest.raises(TransientError, match=told):
        await HeaderReader(4).read(exposure_object(), None, use_sidecar=False)
    async with open_listing("rubin-summit") as listing:
        with pytest.raises(TransientError, match=told_by_python):
            await anext(listing.objects(""))
    error = await _in_thread(lambda: _error_of_boto(url))
    assert is_outage(error)


def _error_of_boto(url: str) -> Exception:
    """Ask as the Butler does, but once."""
    client = boto3.client("s3", endpoint_url=url, config=Config(retries={"max_attempts": 0}))
    try:
        client.list_objects_v2(Bucket="b")
    except BotoCoreError as err:
        return cast(Exception, err)
    finally:
        client.close()
    raise AssertionError("there was an answer")


@pytest.mark.parametrize("content", [None, b"", b"no certificate", b"-----BEGIN CERTIFICATE-----\nx\n"])
def test_unusable_authorities(
    s3_environment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None
) -> None:
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_bytes(content)
    monkeypatch.setenv("AWS_CA_BUNDLE", str(file))
    with pytest.raises(ConfigurationError, match=f"AWS_CA_BUNDLE: '{file}'"):
        resolve("rubin-summit")


async def test_server_that_certifies_itself(
    stored: str, s3_environment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reader's client does not take the certificate of an authority for one of a server; it says so."""

    def own(folder: Path) -> tuple[tuple[Path, Path], Path | None]:
        files = certificate(folder)
        return files, files[0]

    async with tls_store(own, tmp_path, s3_environment, monkeypatch):
        with pytest.raises(TransientError, match="that of an authority, not of a server"):
            await HeaderReader(4).read(exposure_object(f"{stored}/{EXPOSURE.key(SENSOR)}"), None)
