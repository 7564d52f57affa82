"""Role ingest tells why it takes nothing from a queue."""

from __future__ import annotations

import asyncio

from redis.asyncio import Redis

from autoingest.config import Config
from autoingest.queue import keys
from autoingest.queue.site import take_over
from autoingest.roles.ingest import IngestRole
from tests.support.redis import until

BUCKETS = ["rubin-summit", "embargo@rubin-tts"]


async def test_a_queue_of_another_repository(redis_client: Redis) -> None:
    config = Config.from_dict({"buckets": BUCKETS, "ingest": {"repo": "s3://here/butler.yaml"}}, "test")
    await redis_client.set(keys.site(BUCKETS[1]), "s3://there")
    role = IngestRole(config, redis_client, [])
    stop = asyncio.Event()
    running = asyncio.create_task(role.run(stop))

    async def foreign(number: int) -> bool:
        return len(role.missing()) == number

    await until(lambda: foreign(1))
    assert all(name in role.missing()[0] for name in (BUCKETS[1], "s3://here", "s3://there"))
    assert await redis_client.get(keys.site(BUCKETS[0])) == "s3://here"
    await take_over(redis_client, BUCKETS[1], "s3://here")
    await until(lambda: foreign(0))
    stop.set()
    await running
    await role.close()
