"""Role ingest tells why it takes nothing from a queue."""

from __future__ import annotations

import asyncio

import pytest
from redis.asyncio import Redis

from autoingest.app.config import Config
from autoingest.app.daemon import run_roles
from autoingest.queue import keys
from autoingest.queue.site import take_over
from autoingest.queue.work import WorkQueue
from autoingest.roles.ingest import IngestRole
from testing.redis import put, upcoming
from testing.waiting import until

BUCKETS = ["rubin-summit", "embargo@rubin-tts"]


@pytest.mark.parametrize("full", [True, False])
async def test_once_ends_at_a_queue_of_another_repository(redis_client: Redis, full: bool) -> None:
    """After the other queues, with what dead workers have left; nothing of the foreign one is touched."""
    config = Config.from_dict({"buckets": BUCKETS, "ingest": {"repo": "s3://here/butler.yaml"}}, "test")
    await redis_client.set(keys.site(BUCKETS[0]), "s3://there")
    if full:
        await put(redis_client, "rubin-summit/a", bucket=BUCKETS[0])
    await put(redis_client, "embargo@rubin-tts/b", bucket=BUCKETS[1])
    mine = WorkQueue(redis_client, BUCKETS[1], "dead", 60)
    await mine.claim(1)
    role = IngestRole(config, redis_client, [])
    assert not await role.is_drained()
    await redis_client.delete(keys.lease(BUCKETS[1], "dead"))
    assert not await role.is_drained()
    assert await upcoming(redis_client, BUCKETS[1]) == ["embargo@rubin-tts/b"], "taken from the dead worker"
    await redis_client.delete(keys.queue(BUCKETS[1]))
    async with asyncio.timeout(60):
        code, why = await run_roles(config, [role], asyncio.Event(), once=True)
    assert code == 2
    assert all(name in why for name in (BUCKETS[0], "s3://there", "s3://here"))
    assert await upcoming(redis_client, BUCKETS[0]) == ["rubin-summit/a"] * full
    await role.close()


async def test_a_queue_of_another_repository(redis_client: Redis) -> None:
    config = Config.from_dict({"buckets": BUCKETS, "ingest": {"repo": "s3://here/butler.yaml"}}, "test")
    await redis_client.set(keys.site(BUCKETS[1]), "s3://there")
    role = IngestRole(config, redis_client, [])
    stop = asyncio.Event()
    running = asyncio.create_task(role.run(stop))

    async def foreign(number: int) -> bool:
        return len(role.unready_reasons()) == number

    await until(lambda: foreign(1))
    assert all(name in role.unready_reasons()[0] for name in (BUCKETS[1], "s3://here", "s3://there"))
    assert await redis_client.get(keys.site(BUCKETS[0])) == "s3://here"
    await take_over(redis_client, BUCKETS[1], "s3://here")
    await until(lambda: foreign(0))
    stop.set()
    await running
    await role.close()
