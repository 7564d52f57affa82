"""Seconds by which guiders whose exposures never come delay the exposures that do."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Sequence
from datetime import UTC, datetime

import redis.asyncio

from autoingest.dev.simulator import BucketSink, Exposure, Sensor, SentFile, sensors
from autoingest.queue import keys
from autoingest.queue.status import queue_status
from testing.guiders import let_wait

from . import bench, program
from .burst import CADENCE, ROLES, Watcher, burst
from .report import Row

GUIDERS = 10_000
"""Guiders that wait, all of them due at once."""

EXPOSURES = 12
"""Good exposures without them, and as many with them."""

FIRST_SEQ = 50_000
"""Sequence number of the first exposure that never comes."""

PUTS = 32
"""Sidecars written at once."""


async def measure(servers: bench.Servers) -> list[Row]:
    """Send good exposures before and while the guiders are looked at again and again."""
    alone: list[list[float]] = []
    beside: list[list[float]] = []
    looked: list[float] = []
    with bench.s3(servers.folder):
        guiders = await lone_guiders(GUIDERS)
        for run in range(servers.runs):
            sent = await bench.take(1 + 2 * EXPOSURES, first_seq=1 + run * (1 + 2 * EXPOSURES))
            repo = bench.repository(servers)
            async with bench.empty_redis(servers.redis_url) as client:
                with bench.site(servers, repo) as site:
                    program.start(site, ROLES)
                    watcher = Watcher(client, servers.postgres_url, repo)
                    found = []
                    began = time.monotonic()
                    for number, (exposure, images) in enumerate(sent):
                        if number == 1 + EXPOSURES:
                            await let_wait(client, bench.BUCKET, guiders)
                        await asyncio.sleep(max(0.0, began + number * CADENCE - time.monotonic()))
                        found.append((await burst(site.notify_port, watcher, exposure, images)).dataset)
                    looked.append(float(await rechecked(client, guiders)) / (EXPOSURES * CADENCE))
                    assert (await queue_status(client, bench.BUCKET)).dead == 0
            alone.append(found[1 : 1 + EXPOSURES])
            beside.append(found[1 + EXPOSURES :])
    rows = []
    for what, take in (("median", statistics.median), ("slowest", max)):
        for name, times in (("without any", alone), (f"while {GUIDERS:,} wait", beside)):
            rows.append(Row(f"guiders: {what} exposure's last dataset {name}", "s", [take(each) for each in times]))
    return [
        *rows,
        Row("guiders: looked at again", "files/s", looked),
    ]


async def lone_guiders(number: int) -> list[SentFile]:
    """Write sidecars of guiders whose exposures have no other file."""
    sink, files = BucketSink(bench.BUCKET), []
    kinds = [sensor for sensor in sensors() if sensor.purpose == "GUIDER"]
    todo = [(FIRST_SEQ + index // len(kinds), kinds[index % len(kinds)]) for index in range(number)]

    async def write(part: Sequence[tuple[int, Sensor]]) -> None:
        for seq, sensor in part:
            exposure = Exposure(bench.DAY_OBS, seq, datetime(2026, 1, 2, 3, tzinfo=UTC))
            await sink.put(exposure.sidecar_key(sensor), exposure.sidecar(sensor))
            files.append(SentFile(f"{bench.BUCKET}/{exposure.key(sensor)}", 1000, "e", time.time()))

    await asyncio.gather(*(write(todo[first::PUTS]) for first in range(PUTS)))
    return files


async def rechecked(client: redis.asyncio.Redis, guiders: list[SentFile]) -> int:
    """Count the guiders that a worker has had since."""
    async with client.pipeline(transaction=False) as pipe:
        for file in guiders:
            pipe.hexists(keys.file(file.path), "worker")
        return sum(await pipe.execute())
