"""Dead letters and rejected records: selecting, putting back, dropping."""

from __future__ import annotations

import asyncio
import time

import pytest
from redis.asyncio import Redis

from autoingest.model.notices import Rejection
from autoingest.queue import keys
from autoingest.queue.dead_letters import Selection, dead_letters, drop, rejected_records, requeue
from autoingest.queue.intake import Intake
from autoingest.queue.work import WorkQueue
from testing.redis import BUCKET, audit, claim_of, done, image, put, state, upcoming


async def _dead(client: Redis, *paths: str, reason: str = "missing") -> WorkQueue:
    queue = WorkQueue(client, BUCKET, "w", 60)
    await put(client, *paths, etag="e1")
    await queue.claim(len(paths))
    for path in paths:
        await queue.give_up(await claim_of(client, path), reason, "it is gone")
    return queue


async def test_a_letter_tells_what_happened(redis_client: Redis) -> None:
    await _dead(redis_client, image(0))
    (letter,) = [item async for item in dead_letters(redis_client, [BUCKET], Selection())]
    assert (letter.bucket, letter.path, letter.reason, letter.exception) == (BUCKET, image(0), "missing", "it is gone")
    assert (letter.attempts, letter.worker, letter.etag) == (1, "w", "e1")
    assert letter.first_time is not None
    assert letter.first_time <= letter.last_time <= time.time() + 1


@pytest.mark.parametrize(
    ("selection", "number"),
    [
        (Selection(), 3),
        (Selection(day="20250415"), 3),
        (Selection(day="20250416"), 0),
        (Selection(obs_id="MC_O_20250415_000002"), 1),
        (Selection(reason="metadata"), 1),
        (Selection(older=3600), 0),
        (Selection(younger=3600), 3),
        (Selection(paths=frozenset({image(0), "x"})), 1),
        (Selection(reason="metadata", obs_id="MC_O_20250415_000001"), 0),
    ],
)
async def test_selection(redis_client: Redis, selection: Selection, number: int) -> None:
    await _dead(redis_client, image(0), image(1))
    await _dead(redis_client, image(0, seq=2), reason="metadata")
    assert len([item async for item in dead_letters(redis_client, [BUCKET], selection)]) == number


async def test_requeue_gives_fresh_attempts(redis_client: Redis) -> None:
    queue = await _dead(redis_client, image(0))
    assert await requeue(redis_client, BUCKET, [image(0), image(1)]) == [image(0)]
    assert await upcoming(redis_client) == [image(0)]
    assert await redis_client.hlen(keys.dead(BUCKET)) == 0
    (claim,) = await queue.claim(1)
    assert claim.attempts == 0
    assert claim.received is not None
    assert claim.received > 1.5, "as if it had come now"
    assert await requeue(redis_client, BUCKET, [image(0)]) == []


async def test_a_file_that_came_anew_is_not_queued_twice(redis_client: Redis) -> None:
    await _dead(redis_client, image(0))
    await put(redis_client, image(0))
    assert await requeue(redis_client, BUCKET, [image(0)]) == []
    assert await upcoming(redis_client) == [image(0)]
    assert (await audit(redis_client)).consistent


async def test_requeue_races_with_a_worker(redis_client: Redis) -> None:
    """Two operators requeue while a worker takes, kills again and ingests: nothing is lost or doubled."""
    paths = [image(number) for number in range(600)]
    queue = await _dead(redis_client, *paths)
    ingested: list[str] = []

    async def operate() -> None:
        while len(ingested) < len(paths):
            await requeue(redis_client, BUCKET, paths)

    async def work() -> None:
        while len(ingested) < len(paths):
            claimed = [claim.path for claim in await queue.claim(50)]
            for path in claimed[:7]:
                if len(claimed) > 20:
                    await queue.give_up(await claim_of(redis_client, path), "missing", "again")
            good = claimed[7:] if len(claimed) > 20 else claimed
            ingested.extend(await queue.ingested([await done(redis_client, path) for path in good]))

    async with asyncio.timeout(60):
        await asyncio.gather(operate(), operate(), work())
    assert sorted(ingested) == sorted(paths)
    report = await audit(redis_client)
    assert report.consistent
    assert report.total("ingested") == len(paths)


async def test_drop(redis_client: Redis) -> None:
    await _dead(redis_client, image(0), image(1))
    assert await drop(redis_client, BUCKET, [image(0)]) == [image(0)]
    assert await redis_client.hkeys(keys.dead(BUCKET)) == [image(1)]
    assert await state(redis_client, image(0)) == "dropped"
    report = await audit(redis_client)
    assert report.consistent
    assert (report.total("dead"), report.total("dropped")) == (1, 1)


async def test_rejected_records(redis_client: Redis) -> None:
    intake = Intake(redis_client)
    await intake.reject([Rejection(BUCKET, "a/b.fits", "key has 2 components", None)] * 2)
    await intake.close()
    (record,) = [item async for item in rejected_records(redis_client, [BUCKET], Selection(reason="components"))]
    assert (record.key, record.count, record.path) == ("a/b.fits", 2, f"{BUCKET}/a/b.fits")
    assert [item async for item in rejected_records(redis_client, [BUCKET], Selection(reason="other"))] == []
