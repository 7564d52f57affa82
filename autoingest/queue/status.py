"""Counts for metrics and operators. Nothing is changed.

The lists of old workers are not read, because reading restarts the time after which these workers count as dead.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import redis.asyncio

from . import keys
from .health import without_wrong_type
from .heartbeats import heartbeats, workers_alive
from .places import CHUNK
from .work import seconds

NEXT = 20
"""Files waiting of which the age is asked."""


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
    oldest_working: float | None = None
    """Seconds since the oldest file on a worker's list was received; None if there is none."""
    oldest_waiting: float | None = None
    """The same, of the `NEXT` files waiting that are due next."""


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
        pipe.zrange(keys.waiting(bucket), 0, NEXT - 1)
        replies = await pipe.execute(raise_on_error=False)
    depth, oldest, waiting, dead, owed, names, due = map(without_wrong_type, replies, (0, None, 0, 0, 0, (), ()))
    async with client.pipeline(transaction=False) as pipe:
        for name in names:
            pipe.llen(keys.worker(bucket, name))
            pipe.exists(keys.lease(bucket, name))
            pipe.lindex(keys.worker(bucket, name), -1)
        counts = [without_wrong_type(reply, 0) for reply in await pipe.execute(raise_on_error=False)]
    in_work = [path for path in counts[2::3] if isinstance(path, str)]
    ages = await _ages(client, [[oldest] if oldest is not None else [], in_work, due])
    return QueueStatus(
        depth=depth,
        oldest=ages[0],
        working=sum(counts[::3]),
        workers=max(alive, sum(counts[1::3])),
        waiting=waiting,
        dead=dead,
        owed=owed,
        oldest_working=ages[1],
        oldest_waiting=ages[2],
    )


async def _ages(client: redis.asyncio.Redis, places: Sequence[Sequence[str]]) -> list[float | None]:
    """Return the seconds since the oldest of some files was received, for each place; None if that is unknown."""
    async with client.pipeline(transaction=False) as pipe:
        for path in (path for place in places for path in place):
            pipe.hget(keys.file(path), "recv_time")
        found = iter(await pipe.execute(raise_on_error=False))
    times = [[seconds(without_wrong_type(next(found))) for _ in place] for place in places]
    now = time.time()
    return [max((max(0.0, now - since) for since in place if since), default=None) for place in times]


async def last_canary(client: redis.asyncio.Redis, bucket: str) -> float | None:
    """Return when the last canary of a bucket arrived, in epoch seconds; None if none is known."""
    async with client.pipeline(transaction=False) as pipe:
        pipe.zrange(keys.canary_times(bucket), -1, -1, withscores=True)
        (reply,) = await pipe.execute(raise_on_error=False)
    found = without_wrong_type(reply, ())
    return float(found[0][1]) if found else None


@dataclass(frozen=True, slots=True)
class ServerState:
    """The state of the Redis server."""

    memory: int
    """Bytes that its data take."""
    max_memory: int
    """Bytes beyond which it refuses writes; 0: no limit."""
    is_persistent: bool
    """Whether it keeps a log of writes, and its last write and snapshot succeeded."""


async def server_state(client: redis.asyncio.Redis) -> ServerState | None:
    """Return the state of the server; None if this user may not ask for it."""
    try:
        info: Any = await client.info()
    except redis.exceptions.NoPermissionError:
        return None
    is_well = all(info.get(name, "ok") == "ok" for name in ("aof_last_write_status", "rdb_last_bgsave_status"))
    return ServerState(
        int(info.get("used_memory", 0)), int(info.get("maxmemory", 0)), bool(info.get("aof_enabled")) and is_well
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
