from __future__ import annotations

import asyncio
from typing import Any

import pytest
from redis.asyncio import Redis

from autoingest.queue import keys, reclaim
from autoingest.queue.reclaim import Reclaimed, Reclaimer
from autoingest.queue.status import QueueStatus, queue_status, unfinished
from autoingest.queue.work import WorkQueue
from testing.redis import BUCKET, claim_of, done, image, put, state, upcoming
from testing.waiting import until


async def die(client: Redis, *names: str, bucket: str = BUCKET) -> None:
    for name in names:
        await client.delete(keys.lease(bucket, name))


async def take_as_old_worker(client: Redis, number: int, name: str = "old", bucket: str = BUCKET) -> None:
    for _ in range(number):
        await client.lmove(keys.queue(bucket), keys.worker(bucket, name), "RIGHT", "LEFT")


async def test_work_of_the_dead_returns_to_the_front_in_its_old_order(redis_client: Redis) -> None:
    await put(redis_client, *map(image, range(5)))
    await WorkQueue(redis_client, BUCKET, "dead", 60).claim(3)
    await WorkQueue(redis_client, BUCKET, "alive", 60).claim(1)
    reclaimer = Reclaimer(redis_client, [BUCKET], 10)
    assert await reclaimer.run_once() == Reclaimed(0, 0, 0)
    await die(redis_client, "dead")

    assert await reclaimer.run_once() == Reclaimed(3, 0, 0)

    assert await upcoming(redis_client) == [image(0), image(1), image(2), image(4)]
    assert await state(redis_client, image(0)) == "queued"
    assert await redis_client.smembers(keys.leaseholders(BUCKET)) == {"alive"}
    assert await redis_client.llen(keys.worker(BUCKET, "alive")) == 1
    assert await reclaimer.run_once() == Reclaimed(0, 0, 0)


async def test_lease_that_runs_out(redis_client: Redis) -> None:
    await put(redis_client, image(0))
    await WorkQueue(redis_client, BUCKET, "a", 0.05).claim(1)
    reclaimer = Reclaimer(redis_client, [BUCKET], 10)

    async def reclaimed() -> bool:
        return (await reclaimer.run_once()).from_dead == 1

    await until(reclaimed)
    assert await upcoming(redis_client) == [image(0)]


async def test_worker_that_died_with_nothing_is_forgotten(redis_client: Redis) -> None:
    await put(redis_client, image(0))
    queue = WorkQueue(redis_client, BUCKET, "a", 60)
    await queue.claim(1)
    await queue.give_up(await claim_of(redis_client, image(0)), "missing", "x")
    await die(redis_client, "a")
    await Reclaimer(redis_client, [BUCKET], 10).run_once()
    assert not await redis_client.exists(keys.leaseholders(BUCKET))


async def test_many_idle_roles_at_once_give_back_once(redis_client: Redis) -> None:
    names = [f"w{number}" for number in range(10)]
    paths = [image(number) for number in range(100)]
    await put(redis_client, *paths)
    for name in names:
        await WorkQueue(redis_client, BUCKET, name, 60).claim(9)
    await take_as_old_worker(redis_client, 10)
    await die(redis_client, *names)
    found = await asyncio.gather(*(Reclaimer(redis_client, [BUCKET], 0).run_once() for _ in range(4)))
    assert sum(one.from_dead for one in found) == 90
    assert sum(one.from_old for one in found) == 10
    assert sorted(await upcoming(redis_client)) == sorted(paths)


async def test_old_worker_is_judged_by_how_long_its_list_was_left_alone(redis_client: Redis) -> None:
    await put(redis_client, *map(image, range(3)))
    await take_as_old_worker(redis_client, 2)
    assert await Reclaimer(redis_client, [BUCKET], 3600).run_once() == Reclaimed(0, 0, 0)
    assert await Reclaimer(redis_client, [BUCKET], 0).run_once() == Reclaimed(0, 2, 0)
    assert await upcoming(redis_client) == [image(0), image(1), image(2)]


async def test_looking_at_old_workers_is_no_sign_of_life(redis_client: Redis) -> None:
    await put(redis_client, image(0))
    await take_as_old_worker(redis_client, 1)
    reclaimer = Reclaimer(redis_client, [BUCKET], 1)

    async def reclaimed() -> bool:
        await queue_status(redis_client, BUCKET)
        return (await reclaimer.run_once()).from_old == 1

    await until(reclaimed)


async def test_old_workers_are_left_alone_where_their_age_is_unknown(redis_client: Redis) -> None:
    await put(redis_client, *map(image, range(2)))
    await take_as_old_worker(redis_client, 1)
    await WorkQueue(redis_client, BUCKET, "dead", 60).claim(1)
    await die(redis_client, "dead")
    await redis_client.config_set("maxmemory-policy", "allkeys-lfu")
    try:
        assert await Reclaimer(redis_client, [BUCKET], 0).run_once() == Reclaimed(1, 0, 0)
    finally:
        await redis_client.config_set("maxmemory-policy", "noeviction")
    assert await redis_client.llen(keys.worker(BUCKET, "old")) == 1


async def test_only_the_buckets_own_workers_are_meant(redis_client: Redis) -> None:
    for bucket in ("a", "a:b", "a*", "ab"):
        await put(redis_client, f"{bucket}/x", f"{bucket}/y", bucket=bucket)
        await take_as_old_worker(redis_client, 1, bucket=bucket)
        await WorkQueue(redis_client, bucket, "dead", 60).claim(1)
        await die(redis_client, "dead", bucket=bucket)
    for bucket in ("a*", "a"):
        assert await Reclaimer(redis_client, [bucket], 0).run_once() == Reclaimed(1, 1, 0)
        assert await upcoming(redis_client, bucket) == [f"{bucket}/x", f"{bucket}/y"]
    for bucket in ("a:b", "ab"):
        assert await redis_client.llen(keys.worker(bucket, "old")) == 1
        assert await redis_client.llen(keys.worker(bucket, "dead")) == 1


async def test_many_that_are_due_are_released_in_order(redis_client: Redis) -> None:
    paths = [image(number) for number in range(1201)]
    await redis_client.zadd(keys.waiting(BUCKET), {path: number for number, path in enumerate(paths)})
    assert (await Reclaimer(redis_client, [BUCKET], 10).run_once()).released == 1201
    assert await upcoming(redis_client) == paths


async def test_files_that_wait_for_exposures_are_released_a_few_at_a_time(
    redis_client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others that are due are not held up by them, and each has its turn."""
    guiders, plain = [image(number, "R00_SG0") for number in range(1201)], [image(number) for number in range(3)]
    for number, path in enumerate(guiders):
        await redis_client.hset(keys.file(path), mapping={"state": "waiting", "waits_for": f"obs {number}"})
        await redis_client.sadd(keys.waiting_for(BUCKET, f"obs {number}"), path)
    due = {path: number for number, path in enumerate([*guiders[:1100], *plain, *guiders[1100:]])}
    await redis_client.zadd(keys.waiting(BUCKET), due)
    interval, slice_ = 1000.0, 20
    monkeypatch.setattr(reclaim, "RECHECKS", slice_ / interval)
    reclaimer = Reclaimer(redis_client, [BUCKET], 10, interval)

    assert await reclaimer.release_due(BUCKET) == slice_ + len(plain)
    assert await upcoming(redis_client) == [*guiders[:slice_], *plain]
    assert await redis_client.zcard(keys.waiting(BUCKET)) == len(guiders) - slice_
    seconds, _ = await redis_client.time()
    last: Any = (await redis_client.zrange(keys.waiting(BUCKET), -1, -1, withscores=True))[0]
    assert last[0] == guiders[-1]
    assert 0 < last[1] - seconds <= interval * (len(guiders) / slice_ + 1)

    # At the next look the next slice is due, and no more; while the queue is long, only one file.
    async def shift() -> None:
        waiting: Any = await redis_client.zrange(keys.waiting(BUCKET), 0, -1, withscores=True)
        for path, score in waiting:
            await redis_client.zadd(keys.waiting(BUCKET), {path: score - interval})

    await shift()
    assert await reclaimer.release_due(BUCKET) == 1
    await redis_client.delete(keys.queue(BUCKET))
    await shift()
    assert await reclaimer.release_due(BUCKET) == slice_
    assert set(await upcoming(redis_client)) <= set(guiders[slice_ : 3 * slice_])

    # One whose exposure comes is woken at once.
    queue = WorkQueue(redis_client, BUCKET, "w", 60)
    await queue.ingested([await done(redis_client, image(7), "obs 1200")])
    assert guiders[1200] in await upcoming(redis_client)


async def test_status(redis_client: Redis) -> None:
    assert await queue_status(redis_client, BUCKET) == QueueStatus(0, None, 0, 0, 0, 0, 0)
    assert await unfinished(redis_client, [BUCKET]) == 0
    await put(redis_client, *map(image, range(8)))
    queue = WorkQueue(redis_client, BUCKET, "a", 60)
    await queue.claim(3)
    await WorkQueue(redis_client, BUCKET, "dead", 60).claim(1)
    await die(redis_client, "dead")
    await queue.give_up(await claim_of(redis_client, image(0)), "missing", "x")
    await queue.defer(await claim_of(redis_client, image(1)), 0, None)
    found = await queue_status(redis_client, BUCKET)
    assert found.oldest is not None
    assert found.oldest > 1e9  # received at 1.5
    assert (found.depth, found.working, found.workers, found.waiting, found.dead) == (4, 2, 1, 1, 1)
    assert await unfinished(redis_client, [BUCKET, "other"]) == 6
