"""How much memory of Redis a file takes: on the queue, right after its ingest, and at rest."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta

import redis.asyncio

from autoingest.dev.simulator import Exposure, SentFile, sensors
from autoingest.queue import keys
from autoingest.queue.intake import Intake
from autoingest.queue.presence import Arrival, GroupKeys
from autoingest.queue.work import Done, WorkQueue

from . import bench
from .report import Row

EXPOSURES = 100

BEGIN = datetime(2026, 1, 2, 3, tzinfo=UTC)

FOR_A_DAY = (keys.group("*", "*", 0, "*"), keys.from_kafka("*"), keys.exposure_known(bench.BUCKET, "*"))
"""Keys that live for a day."""


async def measure(servers: bench.Servers) -> list[Row]:
    """Take exposures from their notifications to the Butler, as far as Redis sees that."""
    files = EXPOSURES * bench.FILES
    async with bench.empty_redis(servers.redis_url) as client:
        before = await _used(client)
        for number in range(1, EXPOSURES + 1):
            await _take(client, Exposure(bench.DAY_OBS, number, BEGIN + timedelta(seconds=40 * number)))
        fresh = await _used(client)
        for pattern in FOR_A_DAY:
            async for key in client.scan_iter(match=pattern, count=1000):
                await client.delete(key)
        rest = await _used(client)
    return [
        Row("Redis's memory, a file right after its ingest", "bytes", [(fresh - before) / files]),
        Row("Redis's memory, a file after a day", "bytes", [(rest - before) / files]),
    ]


async def _take(client: redis.asyncio.Redis, exposure: Exposure) -> None:
    """Announce an exposure by Kafka, claim its files, tell that they are present, and acknowledge them."""
    paths = {f"{bench.BUCKET}/{exposure.key(sensor)}": sensor for sensor in sensors()}
    sent = [
        SentFile(path, 8_294_400, hashlib.md5(path.encode(), usedforsecurity=False).hexdigest(), BEGIN.timestamp())
        for path in paths
    ]
    intake = Intake(client)
    await intake.accept(await bench.notices(sent), from_kafka=True)
    await intake.close()
    queue = WorkQueue(client, bench.BUCKET, "autoingest-ingest-5d9c7b6f4-x2x9k-7-a1b2c3-0a", 60)
    claims = await queue.claim(len(paths))
    group = exposure.begin.isoformat()
    arrivals = [Arrival(bench.CAMERA, group, 0, sensor.name, f"s3://{path}") for path, sensor in paths.items()]
    await GroupKeys(client, bench.PRESENCE_EXPIRY).record(arrivals)
    day = str(bench.DAY_OBS)
    done = [Done(claim, claim.etag, claim.size, bench.CAMERA, day, exposure.obs_id) for claim in claims]
    assert len(await queue.ingested(done)) == bench.FILES


async def _used(client: redis.asyncio.Redis) -> int:
    return int((await client.info("memory"))["used_memory"])
