"""Images that a store does not serve, and stores that serve nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import psutil
import pytest

from autoingest.dev.simulator import Exposure, sensors
from autoingest.errors import (
    AutoingestError,
    MetadataError,
    MissingObjectError,
    TransientError,
    UnreadableObjectError,
)
from autoingest.model.objects import ExposureObject, parse
from autoingest.store import availability, profiles
from autoingest.store.reader import LARGEST_SIDECAR, HeaderReader
from testing.s3server import Fault, S3Server

from .conftest import BUCKET, store

EXPOSURE = Exposure(20300101, 7, datetime(2030, 1, 2, 3, tzinfo=UTC))
BAD, GOOD, *OTHERS = sensors()[90:100]
IMAGE = EXPOSURE.image(BAD)

OF_ONE = [
    *((Fault(status=status), False) for status in (301, 307, 400, 401, 403, 416)),
    *((Fault(status=status), True) for status in (408, 412, 425, 429, 500, 502, 503, 504)),
    (Fault(status=403, code="AccessDenied"), False),
    (Fault(status=403, code="InvalidObjectState"), False),
    (Fault(status=403, code="SignatureDoesNotMatch"), True),
    (Fault(status=400, code="RequestTimeout"), True),
    (Fault(status=503, code="SlowDown"), True),
    (Fault(status=500, code=""), True),
    (Fault(cut=0), True),
    (Fault(cut=99), True),
    (Fault(delay=30), True),
    (Fault(drip=0.1), True),
]
"""What may happen to one object, and whether it may pass."""

OF_ALL = [
    (Fault(status=403, code="InvalidAccessKeyId"), "access key"),
    (Fault(status=403, code="SignatureDoesNotMatch"), "secret key"),
    (Fault(status=403, code="RequestTimeTooSkewed"), "clocks"),
    (Fault(status=403, code="AccessDenied"), "policy"),
    (Fault(status=403, code=""), "403"),
    (Fault(status=401), "401"),
    (Fault(status=404, code="NoSuchBucket"), "no such bucket"),
    (Fault(status=404, code=""), "404"),
    (Fault(status=301), "redirects"),
    (Fault(status=301, code="PermanentRedirect"), "redirects"),
    (Fault(status=400, code="ExpiredToken"), "renew"),
    (Fault(status=429), "429"),
    (Fault(status=500), "500"),
    (Fault(status=503, code="SlowDown"), "503 SlowDown"),
    (Fault(delay=30), "in time"),
    (Fault(drip=0.1), "in time"),
    (Fault(cut=10), "closed the connection"),
]
"""What may happen to all objects of a bucket, and what the operator is told."""


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profiles, "RETRIES", 1)
    monkeypatch.setattr(profiles, "REQUEST_TIMEOUT", timedelta(seconds=1))
    monkeypatch.setattr(availability, "FRESH", timedelta(seconds=0.2))


def path(sensor: object, bucket: str = BUCKET) -> str:
    return f"{bucket}/{EXPOSURE.key(sensor)}"  # type: ignore[arg-type]


def image(sensor: object, bucket: str = BUCKET) -> ExposureObject:
    obj = parse(path(sensor, bucket))
    assert isinstance(obj, ExposureObject)
    return obj


def fault_of(*sensors: object, fault: Fault) -> Callable[[str, str, str], Fault | None]:
    keys = {EXPOSURE.key(sensor) for sensor in sensors}  # type: ignore[arg-type]
    return lambda method, bucket, key: fault if key in keys else None


async def outcome(reader: HeaderReader, obj: ExposureObject) -> AutoingestError | None:
    try:
        await reader.read(obj, None)
    except AutoingestError as err:
        return err
    return None


@pytest.mark.parametrize(("fault", "passing"), OF_ONE, ids=repr)
@pytest.mark.parametrize("known", [True, False], ids=["another was read", "nothing is known"])
async def test_of_one_object(server: S3Server, fault: Fault, passing: bool, known: bool) -> None:
    """It counts against the image, whether or not anything else was read before."""
    reader = HeaderReader(4)
    store(server, path(BAD), IMAGE)
    store(server, path(GOOD), EXPOSURE.image(GOOD))
    server.fault = fault_of(BAD, fault=fault)
    if known:
        await reader.read(image(GOOD), None)
    error = await outcome(reader, image(BAD))
    assert isinstance(error, UnreadableObjectError)
    assert (error.reason, error.passing) == ("unreadable", passing)
    assert path(BAD) in str(error)
    assert reader.unready_reasons() == []
    assert await outcome(reader, image(GOOD)) is None


@pytest.mark.parametrize(("fault", "told"), OF_ALL, ids=repr)
@pytest.mark.parametrize("known", [True, False], ids=["another was read", "nothing is known"])
async def test_of_all_objects(server: S3Server, fault: Fault, told: str, known: bool) -> None:
    """It is nobody's fault; the operator is told, and it is over as soon as something can be read."""
    reader = HeaderReader(4)
    for sensor in (BAD, GOOD):
        store(server, path(sensor), EXPOSURE.image(sensor))
    if known:
        await reader.read(image(GOOD), None)
    server.fault = lambda method, bucket, key: fault
    error = await outcome(reader, image(BAD))
    assert type(error) is TransientError
    assert told in str(error)
    [missing] = reader.unready_reasons()
    assert missing.startswith(f"bucket {BUCKET}: ")
    assert told in missing
    server.fault = lambda method, bucket, key: None
    await asyncio.sleep(0.2)
    assert await outcome(reader, image(BAD)) is None
    assert reader.unready_reasons() == []


@pytest.mark.parametrize(
    "readable", ["one that was read before", "one beside it", "one elsewhere"], ids=lambda value: value
)
async def test_who_may_do_little(server: S3Server, readable: str) -> None:
    """Listing is refused, or all but one object are."""
    reader = HeaderReader(4)
    elsewhere = f"{BUCKET}/LSSTCam/20250101/other"
    store(server, path(BAD), IMAGE)
    for sensor in (GOOD, *OTHERS):
        store(server, path(sensor), EXPOSURE.image(sensor))
    store(server, elsewhere, b"x")
    await_good = readable == "one that was read before"
    if await_good:
        await reader.read(image(GOOD), None)
    allowed = {
        "one that was read before": EXPOSURE.key(GOOD),
        "one beside it": EXPOSURE.key(OTHERS[0]),
        "one elsewhere": elsewhere.partition("/")[2],
    }[readable]

    def fault(method: str, bucket: str, key: str) -> Fault | None:
        if not key:
            return Fault(status=403, code="AccessDenied") if await_good else None
        return None if key == allowed else Fault(status=403, code="AccessDenied")

    server.fault = fault
    error = await outcome(reader, image(BAD))
    if readable == "one beside it":
        # One of the few that are tried may not be the one that is allowed.
        assert isinstance(error, UnreadableObjectError | TransientError)
    else:
        assert isinstance(error, UnreadableObjectError)


async def test_nothing_is_known_and_listing_is_refused(server: S3Server) -> None:
    """The image is not blamed: it may be the whole bucket."""
    store(server, path(BAD), IMAGE)
    server.fault = lambda method, bucket, key: Fault(status=403) if not key or key == EXPOSURE.key(BAD) else None
    reader = HeaderReader(4)
    assert type(await outcome(reader, image(BAD))) is TransientError
    store(server, path(GOOD), EXPOSURE.image(GOOD))
    await asyncio.sleep(0.2)
    assert await outcome(reader, image(GOOD)) is None
    assert type(await outcome(reader, image(BAD))) is UnreadableObjectError


async def test_empty_objects_prove_nothing(server: S3Server) -> None:
    store(server, path(BAD), IMAGE)
    store(server, path(GOOD), b"")
    server.fault = fault_of(BAD, fault=Fault(status=500))
    assert type(await outcome(HeaderReader(4), image(BAD))) is TransientError


async def test_two_of_many_hang(server: S3Server) -> None:
    """The others are read at once; one look does for both."""
    every = (BAD, GOOD, *OTHERS)
    for sensor in every:
        store(server, path(sensor), EXPOSURE.image(sensor))
    server.fault = fault_of(BAD, GOOD, fault=Fault(delay=30))
    reader = HeaderReader(len(every))
    tasks = {sensor.name: asyncio.create_task(outcome(reader, image(sensor))) for sensor in every}
    done, pending = await asyncio.wait(tasks.values(), timeout=0.9)
    assert len(pending) == 2
    assert {task.result() for task in done} == {None}
    assert {type(await task) for task in pending} == {UnreadableObjectError}


async def test_outage_of_one_bucket_is_nothing_to_another(server: S3Server) -> None:
    """Although more images of the one hang than may be under way."""
    server.buckets["other"] = {}
    store(server, path(GOOD, "other"), EXPOSURE.image(GOOD))
    server.fault = lambda method, bucket, key: Fault(delay=30) if bucket == BUCKET else None
    reader = HeaderReader(2)
    hanging = [asyncio.create_task(outcome(reader, image(sensor))) for sensor in (BAD, *OTHERS)]
    await asyncio.sleep(0.1)
    async with asyncio.timeout(0.8):
        assert await outcome(reader, image(GOOD, "other")) is None
    assert {type(error) for error in await asyncio.gather(*hanging)} == {TransientError}
    assert [text.split(":")[0] for text in reader.unready_reasons()] == [f"bucket {BUCKET}"]


async def test_replaced_while_it_is_read(server: S3Server) -> None:
    """No header is put together of two versions."""
    long = b"".join(f"KEY{number:05d}= {number:>20}".ljust(80).encode() for number in range(1000))
    at = IMAGE.index(b"END".ljust(80))
    first = IMAGE[:at] + long + IMAGE[at:]
    second = first.replace(b"KEY00001=                    1", b"KEY00001=                    2")
    store(server, path(BAD), first)
    ranges = 0

    def fault(method: str, bucket: str, key: str) -> Fault | None:
        nonlocal ranges
        ranges += (method, key) == ("GET", EXPOSURE.key(BAD))
        if ranges == 2:
            store(server, path(BAD), second)
            return Fault(status=412, code="PreconditionFailed")
        return None

    server.fault = fault
    found = await HeaderReader(4).read(image(BAD), None)
    assert (found.header["KEY00001"], found.header["KEY00999"]) == (2, 999)


async def test_replaced_again_and_again(server: S3Server) -> None:
    """That is given up, and tried again later."""
    at = IMAGE.index(b"END".ljust(80))
    store(server, path(BAD), IMAGE[:at] + b"COMMENT ".ljust(80) * 2000 + IMAGE[at:])
    store(server, path(GOOD), EXPOSURE.image(GOOD))
    requests = 0

    def fault(method: str, bucket: str, key: str) -> Fault | None:
        nonlocal requests
        requests += (method, key) == ("GET", EXPOSURE.key(BAD))
        return Fault(status=412) if requests % 2 == 0 and key == EXPOSURE.key(BAD) and method == "GET" else None

    server.fault = fault
    error = await outcome(HeaderReader(4), image(BAD))
    assert isinstance(error, UnreadableObjectError)
    assert error.passing
    assert requests == 8


@pytest.mark.parametrize(
    "body",
    [b"", bytes(2880), bytes(28800), b" " * 2880, b"no FITS", b'{"OBSID": "x"}', IMAGE[:100], IMAGE[:5000]],
    ids=lambda body: repr(body[:12]) + str(len(body)),
)
async def test_what_is_no_image_is_its_own_fault(server: S3Server, body: bytes) -> None:
    store(server, path(BAD), body)
    error = await outcome(HeaderReader(4), image(BAD))
    assert type(error) is MetadataError
    assert path(BAD) in str(error)


async def test_header_without_end_is_read_no_further_than_any_header_goes(server: S3Server) -> None:
    at = IMAGE.index(b"END".ljust(80))
    store(server, path(BAD), IMAGE[:at] + b"COMMENT ".ljust(80) * 100_000)
    error = await outcome(HeaderReader(4), image(BAD))
    assert type(error) is MetadataError
    assert "does not end" in str(error)
    assert server.counts["bytes"] < 1.1 * 2**20


@pytest.mark.parametrize("size", [None, 1, 10**12])
async def test_size_is_what_the_store_says(server: S3Server, size: int | None) -> None:
    store(server, path(BAD), IMAGE)
    found = await HeaderReader(4).read(image(BAD), size)
    assert (found.size, found.source) == (len(IMAGE), "fits")


async def test_no_credentials_any_more(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where a machine's role can't be asked."""

    def credential() -> Any:
        raise RuntimeError("nobody answers at 169.254.169.254")

    location = replace(profiles.resolve(BUCKET), credential=credential)
    monkeypatch.setattr(profiles, "resolve", lambda bucket: location)
    error = await outcome(HeaderReader(4), image(BAD))
    assert type(error) is TransientError
    assert "nobody answers at 169.254.169.254" in str(error)


@pytest.mark.parametrize("code", ["NoSuchKey", ""])
async def test_missing_beside_others(server: S3Server, code: str) -> None:
    store(server, path(GOOD), EXPOSURE.image(GOOD))
    server.fault = fault_of(BAD, fault=Fault(status=404, code=code))
    assert type(await outcome(HeaderReader(4), image(BAD))) is MissingObjectError


async def test_huge_sidecar_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of 1.5 GB is announced, and sent as fast as it is taken."""
    async with endless(1_500_000_000, IMAGE) as (url, count):
        monkeypatch.setenv("S3_ENDPOINT_URL", url)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        before = psutil.Process().memory_info().rss
        started = time.monotonic()
        found = await HeaderReader(4).read(image(BAD), 1)
        assert time.monotonic() - started < 30
        sent = count()
        assert psutil.Process().memory_info().rss - before < 100e6
    assert found.source == "fits"
    assert sent < 64 * LARGEST_SIDECAR


@asynccontextmanager
async def endless(size: int, other: bytes) -> AsyncIterator[tuple[str, Callable[[], int]]]:
    """Serve sidecars of a given size and images; tell how much was sent of the sidecars."""
    sent = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                common = b'ETag: "e"\r\nLast-Modified: Thu, 01 Jan 1970 00:00:00 GMT\r\n'
                if b".json" in head.split(b"\r\n")[0]:
                    writer.write(b"HTTP/1.1 200 OK\r\n" + common + f"Content-Length: {size}\r\n\r\n".encode())
                    for _ in range(size // 65536):
                        writer.write(bytes(65536))
                        await writer.drain()
                        sent += 65536
                else:
                    body, total = other[:32768], len(other)
                    writer.write(
                        b"HTTP/1.1 206 Partial Content\r\n"
                        + common
                        + f"Content-Range: bytes 0-{len(body) - 1}/{total}\r\n".encode()
                        + f"Content-Length: {len(body)}\r\n\r\n".encode()
                        + body
                    )
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", lambda: sent
