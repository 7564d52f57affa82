from __future__ import annotations

import asyncio
import json
import time

import pytest
from redis.asyncio import Redis

from autoingest.queue import keys
from autoingest.queue.pending_visits import CLAIM_AT_ONCE, LONGEST_DELAY, PendingVisits
from autoingest.queue.status import queue_status
from autoingest.queue.work import WorkQueue
from testing.redis import BUCKET, done, image, put

EXPOSURE = ("LSSTCam", 2025041500001)
FIELD = "LSSTCam/2025041500001"


async def acknowledge(client: Redis, *exceptions: str) -> None:
    """Acknowledge one file, as often as there are exceptions, with a visit owed for each of them."""
    queue = WorkQueue(client, BUCKET, "a", 60)
    for exception in exceptions:
        await put(client, image(0))
        await queue.claim(1)
        acknowledgement = await done(client, image(0), "MC_O_20250415_000001")
        assert await queue.ingested([acknowledgement], {EXPOSURE: exception}) == [image(0)]


async def entry(client: Redis) -> dict[str, float | str]:
    text = await client.hget(keys.owed(BUCKET), FIELD)
    assert text
    return dict(json.loads(text))


async def test_noted_with_the_acknowledgement_and_kept_until_settled(redis_client: Redis) -> None:
    await acknowledge(redis_client, "ValueError: no “region”", "another")
    noted = await entry(redis_client)
    assert (noted["attempts"], noted["exception"]) == (0, "ValueError: no “region”")
    assert noted["since"] == noted["due"] == pytest.approx(time.time(), abs=5)
    assert await redis_client.llen(keys.worker(BUCKET, "a")) == 0
    assert (await queue_status(redis_client, BUCKET)).owed == 1

    owed = PendingVisits(redis_client, BUCKET, 100)
    assert await owed.claim() == [EXPOSURE]
    claimed = await entry(redis_client)
    assert claimed["since"] == noted["since"]
    assert claimed["due"] == pytest.approx(time.time() + 100, abs=5)

    await owed.settle([EXPOSURE])
    await owed.settle([])
    assert not await redis_client.exists(keys.owed(BUCKET))
    assert await owed.claim() == []


async def test_late_acknowledgement_notes_it_all_the_same(redis_client: Redis) -> None:
    assert await WorkQueue(redis_client, BUCKET, "late", 60).ingested([], {EXPOSURE: "x"}) == []
    assert (await entry(redis_client))["exception"] == "x"


async def test_of_many_workers_one_gets_it_and_again_only_when_due(redis_client: Redis) -> None:
    await acknowledge(redis_client, "x")
    found = await asyncio.gather(*(PendingVisits(redis_client, BUCKET, 100).claim() for _ in range(5)))
    assert sorted(found) == [[], [], [], [], [EXPOSURE]]
    # The worker that had it died: as time passes, another gets it, later every time.
    for delay in (200, 400, LONGEST_DELAY, LONGEST_DELAY):
        noted = await entry(redis_client)
        if delay == LONGEST_DELAY:
            noted["attempts"] = 30
        await redis_client.hset(keys.owed(BUCKET), FIELD, json.dumps({**noted, "due": time.time() - 1}))
        assert await PendingVisits(redis_client, BUCKET, 100).claim() == [EXPOSURE]
        assert (await entry(redis_client))["due"] == pytest.approx(time.time() + delay, abs=5)


async def test_many_come_in_parts(redis_client: Redis) -> None:
    queue = WorkQueue(redis_client, BUCKET, "a", 60)
    await queue.ingested([], {("LATISS", number): "x" for number in range(CLAIM_AT_ONCE + 5)})
    owed = PendingVisits(redis_client, BUCKET, 100)
    first, second = await owed.claim(), await owed.claim()
    assert (len(first), len(second)) == (CLAIM_AT_ONCE, 5)
    assert {number for _, number in first + second} == set(range(CLAIM_AT_ONCE + 5))
