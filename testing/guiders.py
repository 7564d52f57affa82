"""Guiders that wait for exposures which never come."""

from __future__ import annotations

import time
from collections.abc import Sequence

import redis.asyncio

from autoingest.dev.simulator import SentFile
from autoingest.queue import keys


async def let_wait(client: redis.asyncio.Redis, bucket: str, guiders: Sequence[SentFile]) -> None:
    """Write into Redis that these guiders wait for their exposures since now, as if ingest had deferred them."""
    now = time.time()
    for first in range(0, len(guiders), 1000):
        async with client.pipeline(transaction=False) as pipe:
            for file in guiders[first : first + 1000]:
                obs_id = file.path.split("/")[3]
                record: dict[str | bytes | bytearray | memoryview[int] | int | float, str | float] = {
                    "state": "waiting", "recv_time": now, "first_wait": now, "waits_for": obs_id,
                    "etag": file.etag, "size": file.size,
                }  # fmt: skip
                pipe.hset(keys.file(file.path), mapping=record)
                pipe.sadd(keys.waiting_for(bucket, obs_id), file.path)
                pipe.zadd(keys.waiting(bucket), {file.path: now})
            await pipe.execute()
