"""Workers whose store does not serve some images, or nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from redis.asyncio import Redis

from autoingest.app.config import Config
from autoingest.butler.engine import BatchResult, FileResult, IngestFile
from autoingest.dev.simulator import Exposure, sensors
from autoingest.queue import keys
from autoingest.queue.presence import GroupKeys
from autoingest.queue.reclaim import Reclaimer
from autoingest.queue.work import WorkQueue
from autoingest.roles.worker import BatchWorker
from autoingest.store import profiles
from autoingest.store.reader import HeaderReader
from testing.redis import put, state, text
from testing.s3server import Fault, S3Server, Stored
from testing.waiting import until

BUCKETS = ["rubin-summit", "other"]
BUCKET = BUCKETS[0]
EXPOSURES = [Exposure(20300101, number, datetime(2030, 1, 2, 3, tzinfo=UTC)) for number in range(1, 7)]
SENSORS = sensors()[20:26]


class Butler:
    """Takes every batch."""

    is_busy = False

    def __init__(self) -> None:
        self.refused: set[str] = set()
        """Paths whose header can't be translated if it is a sidecar's."""

    async def ingest(
        self, files: Sequence[IngestFile], timeout: float, *, cautious: bool = False, begin: object = None
    ) -> BatchResult:
        return BatchResult(
            [
                FileResult(file.path, "failed", reason="metadata", exception="no")
                if file.path in self.refused and "XTENSION" not in file.header
                else FileResult(file.path, "ingested", "LSSTCam")
                for file in files
            ]
        )


@pytest.fixture
async def server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[S3Server]:
    monkeypatch.setattr(profiles, "RETRIES", 1)
    monkeypatch.setattr(profiles, "REQUEST_TIMEOUT", timedelta(seconds=2))
    server = S3Server()
    server.buckets = {
        bucket: {exposure.key(one): Stored(exposure.image(one), "e", 0.0) for one in SENSORS for exposure in EXPOSURES}
        for bucket in BUCKETS
    }
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    async with server.run() as url:
        monkeypatch.setenv("S3_ENDPOINT_URL", url)
        yield server


@asynccontextmanager
async def workers(client: Redis, butler: Butler | None = None, **settings: Any) -> AsyncIterator[HeaderReader]:
    """Two workers of each bucket, and a task that returns deferred files to the queues."""
    config = Config.from_dict(
        {"buckets": BUCKETS, "ingest": {"repo": "x", "retryDelay": 0.05, "unreadableWait": 3600.0, **settings}}, "test"
    ).ingest
    reader, groups, reclaimer = HeaderReader(8), GroupKeys(client, 60), Reclaimer(client, BUCKETS, 10)
    stop = asyncio.Event()

    async def release() -> None:
        while not stop.is_set():
            for bucket in BUCKETS:
                await reclaimer.release_due(bucket)
            await asyncio.sleep(0.05)

    tasks = [asyncio.create_task(release())]
    for bucket in BUCKETS:
        for name in "ab":
            queue = WorkQueue(client, bucket, f"worker-{name}", 60)
            worker = BatchWorker(queue, butler or Butler(), reader, groups, None, config)  # type: ignore[arg-type]
            tasks.append(asyncio.create_task(worker.run(stop)))
    try:
        yield reader
    finally:
        stop.set()
        async with asyncio.timeout(60):
            await asyncio.gather(*tasks)


def paths(number: int, bucket: str = BUCKET) -> list[str]:
    """Images of an exposure."""
    return [f"{bucket}/{EXPOSURES[number].key(one)}" for one in SENSORS]


def break_(server: S3Server, fault: Fault | None, *broken: str) -> None:
    """Break some objects, given as paths or begins of paths."""
    server.fault = lambda method, bucket, key: (
        fault if key and any(f"{bucket}/{key}".startswith(path) for path in broken) else None
    )


async def are(client: Redis, wanted: str, *names: str) -> bool:
    return {await state(client, name) for name in names} == {wanted}


async def attempts(client: Redis, path: str) -> int:
    return int(await client.hget(keys.file(path), "ing_fail_count") or 0)


@pytest.mark.parametrize(
    "fault", [Fault(status=403), Fault(status=500), Fault(delay=30), Fault(cut=99), Fault(drip=0.2)], ids=repr
)
async def test_one_bad_image_in_each_worker_stops_nobody(redis_client: Redis, server: S3Server, fault: Fault) -> None:
    bad = [paths(number)[0] for number in (0, 1)]
    break_(server, fault, *bad)
    async with workers(redis_client, maxAttempts=100):
        for path in bad:
            await put(redis_client, path, bucket=BUCKET)
        for number in range(len(EXPOSURES)):
            good = [path for path in paths(number) if path not in bad]
            await put(redis_client, *good, bucket=BUCKET)
            await until(lambda good=good: are(redis_client, "ingested", *good), 20)  # type: ignore[misc]
        for path in bad:
            await until(lambda path=path: _counted(redis_client, path))  # type: ignore[misc]
        break_(server, None)
        await until(lambda: are(redis_client, "ingested", *bad))


async def _counted(client: Redis, path: str) -> bool:
    return await attempts(client, path) > 0


@pytest.mark.parametrize("fault", [Fault(status=403), Fault(status=400), Fault(status=301)], ids=repr)
async def test_refused_image_becomes_a_letter(redis_client: Redis, server: S3Server, fault: Fault) -> None:
    bad = paths(0)[0]
    break_(server, fault, bad)
    async with workers(redis_client):
        await put(redis_client, *paths(0), bucket=BUCKET)
        await until(lambda: are(redis_client, "dead", bad))
        await until(lambda: are(redis_client, "ingested", *paths(0)[1:]))
    letter = json.loads(text(await redis_client.hget(keys.dead(BUCKET), bad)))
    assert (letter["reason"], letter["attempts"]) == ("unreadable", 3)
    assert "other objects of the bucket can be read" in letter["exception"]


@pytest.mark.parametrize("fault", [Fault(status=500), Fault(status=429), Fault(cut=5)], ids=repr)
async def test_errors_of_the_server_are_counted_over_a_long_time(
    redis_client: Redis, server: S3Server, fault: Fault
) -> None:
    bad = paths(0)[0]
    break_(server, fault, bad)
    async with workers(redis_client, unreadableWait=4.0):
        await put(redis_client, *paths(0), bucket=BUCKET)
        await until(lambda: are(redis_client, "dead", bad))
    letter = json.loads(text(await redis_client.hget(keys.dead(BUCKET), bad)))
    assert letter["reason"] == "unreadable"
    assert letter["attempts"] > 3
    assert letter["last_time"] - letter["first_time"] >= 4.0


@pytest.mark.parametrize("fault", [Fault(status=403), Fault(status=503), Fault(delay=30)], ids=repr)
async def test_outage_of_a_bucket_uses_up_no_attempt(redis_client: Redis, server: S3Server, fault: Fault) -> None:
    server.fault = lambda method, bucket, key: fault if bucket == BUCKET else None
    async with workers(redis_client) as reader:
        await put(redis_client, *paths(0), bucket=BUCKET)
        await until(lambda: _told(reader))
        for number in range(3):
            others = paths(number, "other")
            await put(redis_client, *others, bucket="other")
            await until(lambda others=others: are(redis_client, "ingested", *others), 20)  # type: ignore[misc]
        assert [await attempts(redis_client, path) for path in paths(0)] == [0] * len(SENSORS)
        server.fault = lambda method, bucket, key: None
        await until(lambda: are(redis_client, "ingested", *paths(0)))
        assert reader.unready_reasons() == []


async def _told(reader: HeaderReader) -> bool:
    return any(text.startswith(f"bucket {BUCKET}: ") for text in reader.unready_reasons())


async def test_one_image_that_nothing_is_known_about_delays_no_worker(redis_client: Redis, server: S3Server) -> None:
    """The first image is refused, and so is listing: it may be the whole bucket, and is not."""
    bad = paths(0)[0]
    server.fault = lambda method, bucket, key: Fault(status=403) if f"{bucket}/{key}" == bad or not key else None
    async with workers(redis_client):
        await put(redis_client, bad, bucket=BUCKET)
        await until(lambda: are(redis_client, "waiting", bad))
        await put(redis_client, *paths(1), bucket=BUCKET)
        await until(lambda: are(redis_client, "ingested", *paths(1)), 20)
        await until(lambda: are(redis_client, "dead", bad))


async def test_sidecar_that_makes_an_image_fail_is_left_out(redis_client: Redis, server: S3Server) -> None:
    butler = Butler()
    bad = paths(0)[0]
    server.buckets[BUCKET][EXPOSURES[0].sidecar_key(SENSORS[0])] = Stored(EXPOSURES[0].sidecar(SENSORS[0]), "e", 0.0)
    butler.refused = {bad}
    async with workers(redis_client, butler):
        await put(redis_client, bad, bucket=BUCKET)
        await until(lambda: are(redis_client, "ingested", bad))
