"""Workers between Redis, the object store and a Butler that is busy for as long as the test wants."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest
from redis.asyncio import Redis

from autoingest.app import metrics
from autoingest.app.config import Config
from autoingest.butler.child_process import ButlerEndedError
from autoingest.butler.engine import BatchResult, FileResult, IngestFile
from autoingest.dev.simulator import Exposure, sensors
from autoingest.errors import RefusedError, TransientError
from autoingest.queue import keys
from autoingest.queue.presence import GroupKeys
from autoingest.queue.reclaim import Reclaimer
from autoingest.queue.work import WorkQueue
from autoingest.roles import worker
from autoingest.roles.worker import BatchWorker
from autoingest.store.reader import HeaderReader
from testing.redis import put, upcoming
from testing.s3server import S3Server, Stored
from testing.waiting import until

BUCKET = "rubin-summit"
EXPOSURE = Exposure(20300101, 1, datetime(2030, 1, 2, 3, tzinfo=UTC))
SENSORS = sensors()[20:26]


class Butler:
    """Takes a batch once it is told to."""

    def __init__(self) -> None:
        self.is_busy = True
        self.free = asyncio.Event()
        self.batches: list[list[str]] = []
        self.kept: list[tuple[str, str]] = []
        self.errors: Callable[[list[str]], list[Exception]] = lambda _: []
        """What a batch of these paths ends with, if anything."""

    async def ingest(
        self,
        files: Sequence[IngestFile],
        timeout: float,
        *,
        cautious: bool = False,
        begin: Callable[[], Awaitable[None]] | None = None,
    ) -> BatchResult:
        await self.free.wait()
        if begin is not None:
            await begin()
        self.batches.append([file.path for file in files])
        for error in self.errors(self.batches[-1]):
            raise error
        return BatchResult([FileResult(file.path, "ingested", "LSSTCam") for file in files], kept=self.kept)

    def release(self) -> None:
        self.is_busy = False
        self.free.set()


@pytest.fixture
async def paths(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[list[str]]:
    """Images whose sidecars are in a store."""
    server = S3Server()
    server.buckets[BUCKET] = {EXPOSURE.sidecar_key(one): Stored(EXPOSURE.sidecar(one), "e", 0.0) for one in SENSORS}
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    async with server.run() as url:
        monkeypatch.setenv("S3_ENDPOINT_URL", url)
        yield [f"{BUCKET}/{EXPOSURE.key(one)}" for one in SENSORS]


@asynccontextmanager
async def running(client: Redis, butler: Butler, batch_size: int) -> AsyncIterator[asyncio.Event]:
    config = Config.from_dict({"buckets": [BUCKET], "ingest": {"repo": "x", "batchSize": batch_size}}, "test").ingest
    queue = WorkQueue(client, BUCKET, "worker", 60)
    batch_worker = BatchWorker(queue, butler, HeaderReader(8), GroupKeys(client, 60), None, config)  # type: ignore[arg-type]
    stop = asyncio.Event()
    task = asyncio.create_task(batch_worker.run(stop))
    try:
        yield stop
    finally:
        stop.set()
        butler.release()
        async with asyncio.timeout(60):
            await task


async def test_presence_does_not_wait_for_another_workers_batch(redis_client: Redis, paths: list[str]) -> None:
    butler = Butler()
    async with running(redis_client, butler, 250):
        for count, path in enumerate(paths, 1):
            await put(redis_client, path, bucket=BUCKET, size=1)
            await until(lambda count=count: _arrived(redis_client, count))  # type: ignore[misc]
        assert butler.batches == []
        butler.release()
        await until(lambda: _done(redis_client, len(paths)))
    assert sorted(itertools.chain(*butler.batches)) == sorted(paths)
    assert len(butler.batches) == 1, "what has come meanwhile is written together"


async def test_no_more_is_taken_than_a_batch_holds_or_after_the_stop(redis_client: Redis, paths: list[str]) -> None:
    butler = Butler()
    async with running(redis_client, butler, 3) as stop:
        await put(redis_client, *paths[:2], bucket=BUCKET, size=1)
        await until(lambda: _arrived(redis_client, 2))
        await put(redis_client, *paths[2:5], bucket=BUCKET, size=1)
        await until(lambda: _arrived(redis_client, 3))
        stop.set()
        butler.release()
        await until(lambda: _done(redis_client, 3))
    assert await upcoming(redis_client, BUCKET) == paths[3:5]

    butler = Butler()
    async with running(redis_client, butler, 250) as stop:
        await until(lambda: _arrived(redis_client, 5))
        stop.set()
        await put(redis_client, paths[5], bucket=BUCKET, size=1)
    assert await upcoming(redis_client, BUCKET) == paths[5:]


async def _arrived(client: Redis, number: int) -> bool:
    return len([key async for key in client.scan_iter(keys.group("LSSTCam", "*", 0, "*"))]) == number


async def _done(client: Redis, number: int) -> bool:
    return sum(map(int, await client.hvals(keys.ingested(BUCKET, "LSSTCam")))) == number


async def test_paths_that_are_none_become_letters_and_stop_nothing(redis_client: Redis, paths: list[str]) -> None:
    odd = ["", "\udcff", f"{BUCKET}/LSSTCam/20300101/x\udcff", "\x1b[2J", f"{BUCKET}/" + "y" * 100_000]
    odd.append(paths[0] + "\udcff.fits")
    await redis_client.lpush(keys.queue(BUCKET), *odd[:3])
    await put(redis_client, paths[0], bucket=BUCKET, size=1)
    await redis_client.lpush(keys.queue(BUCKET), *odd[3:])
    butler = Butler()
    butler.release()
    async with running(redis_client, butler, 250):
        await until(lambda: _done(redis_client, 1))
        await until(lambda: _all_dead(redis_client, odd))
    assert await upcoming(redis_client, BUCKET) == []


async def test_a_version_that_came_while_another_was_in_hand_is_ingested_after_it(
    redis_client: Redis, paths: list[str]
) -> None:
    """The worker itself claims it, and acknowledges only what it has written."""
    butler = Butler()
    async with running(redis_client, butler, 250):
        await put(redis_client, paths[0], bucket=BUCKET, size=1, etag="1")
        await until(lambda: _arrived(redis_client, 1))
        await put(redis_client, paths[0], bucket=BUCKET, size=1, etag="2")
        await put(redis_client, paths[1], bucket=BUCKET, size=1)
        await until(lambda: _arrived(redis_client, 2))  # with it, it has claimed the new version
        assert await redis_client.hget(keys.file(paths[0]), "state") == "working"
        butler.release()
        await until(lambda: _done(redis_client, 2))
    assert [batch.count(paths[0]) for batch in butler.batches] == [1, 1]
    assert await redis_client.hmget(keys.file(paths[0]), "state", "etag") == ["ingested", "2"]


async def _all_dead(client: Redis, wanted: list[str]) -> bool:
    return set(await client.hkeys(keys.dead(BUCKET))) == set(wanted)


async def test_differences_that_were_kept_are_counted(redis_client: Redis, paths: list[str]) -> None:
    def counted() -> float:
        return float(metrics.DIFFERENCES_KEPT.labels("LSSTCam", "target_name")._value.get())

    butler, before = Butler(), counted()
    butler.kept = [("LSSTCam", "target_name")] * 2
    butler.release()
    async with running(redis_client, butler, 250):
        await put(redis_client, paths[0], bucket=BUCKET, size=1)
        await until(lambda: _done(redis_client, 1))
    assert counted() == before + 2


async def test_a_mistake_in_the_set_up_is_no_files_failure(
    redis_client: Redis, paths: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", "/not/there.pem")
    butler = Butler()
    butler.release()
    async with running(redis_client, butler, 250):
        await put(redis_client, *paths, bucket=BUCKET, size=1)
        await until(lambda: _all_wait(redis_client, paths))
    for path in paths:
        assert await redis_client.hget(keys.file(path), "ing_fail_count") is None


async def _all_wait(client: Redis, wanted: list[str]) -> bool:
    return set(await client.zrange(keys.waiting(BUCKET), 0, -1)) == set(wanted)


async def test_a_long_outage_makes_no_suspects(
    redis_client: Redis, paths: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The batch is held together, however often the database is not there."""
    monkeypatch.setattr(worker, "LONGEST_PAUSE", 0.01)
    butler = Butler()
    butler.errors = lambda _: [TransientError("connection refused")] if len(butler.batches) < 4 * worker.DOUBTS else []
    butler.release()
    await put(redis_client, *paths, bucket=BUCKET, size=1)
    async with running(redis_client, butler, 250):
        await until(lambda: _done(redis_client, len(paths)))
    assert [set(batch) for batch in butler.batches] == [set(paths)] * (4 * worker.DOUBTS)


def _ended(path: str) -> ButlerEndedError:
    return ButlerEndedError("the Butler process took longer than 40 s", own_doing=True, last_words="in loop", path=path)


async def test_mates_of_a_file_that_ends_the_process_are_written_at_once(redis_client: Redis, paths: list[str]) -> None:
    butler, culprit = Butler(), paths[2]
    butler.errors = lambda batch: [_ended(culprit)] if culprit in batch else []
    butler.release()
    await put(redis_client, *paths, bucket=BUCKET, size=1)
    async with running(redis_client, butler, 250):
        await until(lambda: _done_when_due(redis_client, len(paths) - 1))
    first, second, *trials = butler.batches
    assert (set(first), set(second)) == (set(paths), set(paths) - {culprit})
    assert set(map(tuple, trials)) == {(culprit,)}


async def test_marks_that_mislead_are_soon_distrusted(redis_client: Redis, paths: list[str]) -> None:
    """The process ends at the second file of every batch, but another file is to blame."""
    butler, culprit = Butler(), paths[0]
    butler.errors = lambda batch: [_ended(sorted({*batch} - {culprit})[0])] if {culprit} < {*batch} else []
    butler.release()
    await put(redis_client, *paths, bucket=BUCKET, size=1)
    async with running(redis_client, butler, 250):
        await until(lambda: _done_when_due(redis_client, len(paths)))
    assert sum(len(batch) > 1 and culprit in batch for batch in butler.batches) <= 3


async def test_a_file_that_the_database_refuses_keeps_only_itself_out(
    redis_client: Redis, paths: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The refusal may be an outage, so it is no failure either: the file goes in once the database takes it."""
    monkeypatch.setattr(worker, "LONGEST_PAUSE", 0.01)
    butler, refused = Butler(), {paths[2]}
    butler.errors = lambda batch: [RefusedError("internal error")] if refused & set(batch) else []
    butler.release()
    await put(redis_client, *paths, bucket=BUCKET, size=1)
    async with running(redis_client, butler, 250):
        await until(lambda: _done_when_due(redis_client, len(paths) - 1))
        refused.clear()
        await until(lambda: _done_when_due(redis_client, len(paths)))
    assert butler.batches[-1] == paths[2:3]
    assert await redis_client.hlen(keys.dead(BUCKET)) == 0


async def _done_when_due(client: Redis, number: int) -> bool:
    """Return to the queue what has waited, as the role idle does, and tell whether so many are ingested."""
    await Reclaimer(client, [BUCKET], 60).release_due(BUCKET)
    return await _done(client, number)
