"""Counts for metrics and operators. Nothing is changed.

The lists of old workers are not read, because reading restarts the time after which these workers count as dead.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

import redis.asyncio

from . import keys
from .health import without_wrong_type
from .heartbeats import heartbeats, workers_alive
from .places import CHUNK
from .work import seconds


@dataclass(frozen=True, slots=True)
class QueueStatus:
    """The state of one bucket's queue."""

    depth: int
    """Objects on the queue."""
    oldest: float | None
    """Seconds since the next object in the queue was received; None if the queue is empty or that is unknown."""
    working: int
    """Files on the lists of workers that hold, or held, a lease."""
    workers: int
    """Living workers: those of the processes whose heartbeats say so, or those with a valid lease, if they are more."""
    waiting: int
    """Files that wait, for their exposure or for another attempt."""
    dead: int
    """Dead letters."""
    owed: int
    """Exposures in the Butler whose visits are undefined."""


async def queue_status(client: redis.asyncio.Redis, bucket: str) -> QueueStatus:
    """Count a bucket's files by state, in steps between which files may move."""
    alive = workers_alive(await heartbeats(client), bucket)
    async with client.pipeline(transaction=False) as pipe:
        pipe.llen(keys.queue(bucket))
        pipe.lindex(keys.queue(bucket), -1)
        pipe.zcard(keys.waiting(bucket))
        pipe.hlen(keys.dead(bucket))
        pipe.hlen(keys.owed(bucket))
        pipe.smembers(keys.leaseholders(bucket))
        replies = await pipe.execute(raise_on_error=False)
    depth, oldest, waiting, dead, owed, names = map(without_wrong_type, replies, (0, None, 0, 0, 0, ()))
    async with client.pipeline(transaction=False) as pipe:
        pipe.hget(keys.file(oldest or ""), "recv_time")
        for name in names:
            pipe.llen(keys.worker(bucket, name))
            pipe.exists(keys.lease(bucket, name))
        received, *counts = (without_wrong_type(reply, 0) for reply in await pipe.execute(raise_on_error=False))
    return QueueStatus(
        depth=depth,
        oldest=max(0.0, time.time() - since) if oldest is not None and (since := seconds(received)) else None,
        working=sum(counts[::2]),
        workers=max(alive, sum(counts[1::2])),
        waiting=waiting,
        dead=dead,
        owed=owed,
    )


async def rejected_count(client: redis.asyncio.Redis, bucket: str) -> int:
    """Count a bucket's rejected records."""
    async with client.pipeline(transaction=False) as pipe:
        pipe.hlen(keys.rejected(bucket))
        (reply,) = await pipe.execute(raise_on_error=False)
    return int(without_wrong_type(reply, 0))


async def unfinished(client: redis.asyncio.Redis, buckets: Iterable[str]) -> int:
    """Count the files on the queues and on the lists of workers that hold, or held, a lease; not those that wait."""
    statuses = [await queue_status(client, bucket) for bucket in buckets]
    return sum(status.depth + status.working for status in statuses)


async def waiting_files(client: redis.asyncio.Redis, bucket: str) -> dict[str, str]:
    """Return the files that wait, with the exposure that each waits for; empty where it waits for another attempt."""
    found: dict[str, str] = {}
    cursor = -1
    while cursor:
        cursor, members = await client.zscan(keys.waiting(bucket), max(cursor, 0), count=CHUNK)
        paths = [str(path) for path, _ in members]
        async with client.pipeline(transaction=False) as pipe:
            for path in paths:
                pipe.hget(keys.file(path), "waits_for")
            obs_ids = await pipe.execute(raise_on_error=False)  # a record may be of the wrong type
        found |= {path: obs_id if isinstance(obs_id, str) else "" for path, obs_id in zip(paths, obs_ids, strict=True)}
    return found
