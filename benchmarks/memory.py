"""How much memory of Redis a file takes, and which families of keys grow with each exposure."""

from __future__ import annotations

import hashlib
from collections import Counter
from datetime import UTC, datetime, timedelta

import redis.asyncio

from autoingest.dev.simulator import Exposure, SentFile, sensors
from autoingest.model.exposures import ExposureSummary, Span
from autoingest.operations.expected import all_detectors
from autoingest.queue import keys
from autoingest.queue.intake import Intake
from autoingest.queue.presence import Arrival, GroupKeys
from autoingest.queue.progress import EventSettings, ExposureFolder, Progress
from autoingest.queue.work import Done, WorkQueue

from . import bench
from .report import Row

EXPOSURES = 100
"""Exposures of a night."""

NIGHTS = 7
"""Nights of which the records are kept; the second shows what grows with each exposure."""

BEGIN = datetime(2026, 1, 2, 3, tzinfo=UTC)

FOR_A_DAY = (
    keys.group("*", "*", 0, "*"), keys.arrivals("*", "*"), keys.from_kafka("*"), keys.exposure_known(bench.BUCKET, "*"),
)  # fmt: skip
"""Keys that live for a day."""

OF_EVENTS = (keys.EVENTS, keys.FILE_EVENTS, "PROGRESS*")
"""Keys that hold events, and what they are made from; their number is limited."""

SETTINGS = EventSettings(bench.BUCKET, keep_files=200_000)


async def measure(servers: bench.Servers) -> list[Row]:
    """Take exposures from their notifications to the Butler, as far as Redis sees that."""
    files = EXPOSURES * bench.FILES
    async with bench.empty_redis(servers.redis_url) as client:
        before = await _used(client)
        await _night(client, 1)
        fresh, families = await _used(client), await _families(client)
        await _night(client, 2)
        grown = await _families(client)
        for number in range(3, NIGHTS + 1):
            await _remove(client, FOR_A_DAY)
            await _night(client, number)
        await _remove(client, FOR_A_DAY)
        rest = await _used(client)
        events = await client.xlen(keys.EVENTS)
        await _remove(client, OF_EVENTS)
        record = await _used(client)
    growth = {family: (grown[family] - families[family]) / EXPOSURES for family in sorted(grown)}
    return [
        Row("Redis's memory, a file right after its ingest", "bytes", [(fresh - before) / files]),
        Row("Redis's memory, a file after a day", "bytes", [(rest - before) / (NIGHTS * files)]),
        Row("Redis's memory, a file after a day, without events", "bytes", [(record - before) / (NIGHTS * files)]),
        Row("Redis's memory, events of an exposure", "events", [events / (NIGHTS * EXPOSURES)]),
        *(
            Row(f"Redis's memory, growth of {family} with an exposure", "bytes", [each])
            for family, each in growth.items()
        ),
    ]


async def _families(client: redis.asyncio.Redis) -> Counter[str]:
    """Return the bytes of all keys, by the first part of their names."""
    found: Counter[str] = Counter()
    async for key in client.scan_iter(count=1000):
        found[key.partition(":")[0]] += await client.memory_usage(key, samples=0) or 0
    return found


async def _remove(client: redis.asyncio.Redis, patterns: tuple[str, ...]) -> None:
    for pattern in patterns:
        async for key in client.scan_iter(match=pattern, count=1000):
            await client.delete(key)


async def _night(client: redis.asyncio.Redis, night: int) -> None:
    for number in range((night - 1) * EXPOSURES + 1, night * EXPOSURES + 1):
        await _take(client, Exposure(bench.DAY_OBS, number, BEGIN + timedelta(seconds=40 * number)))


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
    day = str(bench.DAY_OBS)
    folder = ExposureFolder(bench.CAMERA, day, exposure.obs_id, f"{bench.BUCKET}/{exposure.folder}")
    await Progress(client, SETTINGS, 1.0, 60.0).expect(folder, "file", all_detectors(bench.CAMERA))
    queue = WorkQueue(client, bench.BUCKET, "autoingest-ingest-5d9c7b6f4-x2x9k-7-a1b2c3-0a", 60, events=SETTINGS)
    claims = await queue.claim(len(paths))
    group = exposure.begin.isoformat()
    arrivals = [
        Arrival(bench.CAMERA, group, 0, sensor.name, f"s3://{file.path}", exposure.obs_id, file.size, file.etag, 1)
        for file, sensor in zip(sent, paths.values(), strict=True)
    ]
    await GroupKeys(client, bench.PRESENCE_EXPIRY).record(arrivals)
    done = [
        Done(claim, claim.etag, claim.size, bench.CAMERA, day, exposure.obs_id, bench.CAMERA, paths[claim.path].name)
        for claim in claims
    ]
    assert len(await queue.ingested(done, exposures={exposure.obs_id: _summary(exposure)})) == bench.FILES


def _summary(exposure: Exposure) -> ExposureSummary:
    number, group = exposure.exposure_id, exposure.begin.isoformat(timespec="milliseconds")
    return ExposureSummary(
        bench.CAMERA, exposure.obs_id, number, bench.DAY_OBS, exposure.seq_num, group, 0, "science",
        "field_survey_science", "BLOCK-1", "field-1", "i_39", True, Span(group, group), (number,),
        "embargo", ("LSSTCam/raw/all", "LSSTCam/raw/guider"), "defined",
    )  # fmt: skip


async def _used(client: redis.asyncio.Redis) -> int:
    return int((await client.info("memory"))["used_memory"])
