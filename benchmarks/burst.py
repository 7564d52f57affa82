"""Seconds from the first notification of an exposure to its presence, its datasets, its visit and its event."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psycopg
import redis.asyncio

from autoingest.dev.simulator import Exposure, SentFile, notification, sensors
from autoingest.queue import keys
from testing.event_readers import listening

from . import bench, events, program
from .load import load, percentile, post
from .report import Row

CONNECTIONS = 16
"""Notifications under way at once."""

CADENCE = 5.0
"""Seconds from one exposure to the next."""

MINUTE = 12
"""Exposures of one run, after the first of the process."""

ROLES = "enqueue,ingest,idle,presence,events"

REPLACED = 2.6
"""Seconds of the implementation that this one replaces, from the first notification to the last file ingested."""


@dataclass(frozen=True)
class Latency:
    """Seconds from a moment."""

    presence: float
    """Until the last presence key."""
    dataset: float
    """Until the last dataset was acknowledged in Redis, after it had been committed."""
    visit: float
    """Until another session saw the visit in the database."""


async def measure(servers: bench.Servers) -> list[Row]:
    """Post the notifications of whole exposures, all roles being in one process, for a minute a run."""
    with bench.s3(servers.folder), bench.far(servers) as far:
        rows = await _measure(servers, servers, "burst", 1)
        far.database.delay(1)
        far.cache.delay(1)
        return rows + await _measure(servers, far.servers, "burst, PostgreSQL and Redis at 1 ms", 1000)


async def _measure(servers: bench.Servers, used: bench.Servers, name: str, first_seq: int) -> list[Row]:
    """Measure a site that uses some servers, which the benchmark itself reaches directly."""
    first: list[Latency] = []
    minutes: list[list[Latency]] = []
    told: list[list[float]] = []
    for run in range(servers.runs):
        sent = await bench.take(1 + MINUTE, first_seq=first_seq + run * (1 + MINUTE))
        repo = bench.repository(used)
        async with bench.empty_redis(servers.redis_url) as client:
            with bench.site(used, repo) as site:
                program.start(site, ROLES)
                watcher = Watcher(client, servers.postgres_url, repo)
                found, delays = [], []
                async with listening([site.events_url]) as [heard]:
                    began = time.monotonic()
                    for number, (exposure, images) in enumerate(sent):
                        await asyncio.sleep(max(0.0, began + number * CADENCE - time.monotonic()))
                        found.append(await burst(site.notify_port, watcher, exposure, images))
                        delays.append(await _delay(client, exposure, heard))
        first.append(found[0])
        minutes.append(found[1:])
        told.append(delays[1:])
    before = REPLACED if used is servers else None
    return [
        *_rows(f"{name}: first notification", minutes, before),
        *_rows(f"{name}: first exposure of a process, first notification", [[each] for each in first], None),
        *_quantiles(f"{name}: last acknowledgement to event", told, None),
    ]


def _rows(name: str, minutes: list[list[Latency]], before: float | None) -> list[Row]:
    """Return the median of each run, and its 99th percentile if it has more than one exposure."""
    return [
        row
        for what, attribute in (("last presence key", "presence"), ("last dataset", "dataset"), ("visit", "visit"))
        for row in _quantiles(
            f"{name} to {what}", [[float(getattr(each, attribute)) for each in minute] for minute in minutes], before
        )
    ]


def _quantiles(name: str, runs: list[list[float]], before: float | None) -> list[Row]:
    rows = [Row(name, "s", [statistics.median(run) for run in runs], before)]
    if len(runs[0]) > 1:
        rows.append(Row(f"{name}, p99", "s", [percentile(run, 0.99) for run in runs]))
    return rows


async def _delay(client: redis.asyncio.Redis, exposure: Exposure, heard: Mapping[str, float]) -> float:
    """Return the seconds from the last acknowledgement of an exposure until a client had its event."""
    came = await events.arrival(heard, f"{bench.CAMERA}:{exposure.exposure_id}:complete:1")
    progress = await client.hgetall(keys.progress(bench.BUCKET, exposure.obs_id))
    return came - max(float(progress["last_ingested"]), float(progress["visit_defined"]))


async def burst(port: int, watcher: Watcher, exposure: Exposure, images: list[SentFile]) -> Latency:
    """Post the notifications of an exposure at once, and wait until everything has arrived."""
    requests = [post("/notify", notification(file)) for file in images]
    began = time.time()
    watching = asyncio.create_task(watcher.watch(exposure, images, began))
    await load(port, requests, CONNECTIONS)
    return await watching


class Watcher:
    """Sees an exposure arrive.

    Parameters
    ----------
    client
        Of the program's Redis.
    postgres_url, repo
        Of the repository's database, and the repository.
    """

    def __init__(self, client: redis.asyncio.Redis, postgres_url: str, repo: str) -> None:
        self._client = client
        self._postgres_url = postgres_url
        self._visits = f"SELECT 1 FROM {Path(repo).name}.visit WHERE id = %s"  # the schema is named like the folder

    async def watch(self, exposure: Exposure, images: list[SentFile], began: float) -> Latency:
        """Wait until everything of an exposure has arrived."""
        visit = await self._visit(exposure.exposure_id) - began
        dataset = max(await self.datasets(images)) - began
        presence = await self.presence(exposure) - began
        return Latency(presence, dataset, visit)

    async def _visit(self, number: int) -> float:
        async with await psycopg.AsyncConnection.connect(self._postgres_url, autocommit=True) as connection:
            async with asyncio.timeout(120):
                while not await (await connection.execute(self._visits, [number])).fetchone():
                    await asyncio.sleep(0.01)
        return time.time()

    async def datasets(self, images: list[SentFile]) -> list[float]:
        """Wait until all images are acknowledged; return when Redis says that each was."""
        async with asyncio.timeout(120):
            while True:
                async with self._client.pipeline(transaction=False) as pipe:
                    for file in images:
                        pipe.hget(keys.file(file.path), "ingest_time")
                    times = await pipe.execute()
                if all(times):
                    return [float(each) for each in times]
                await asyncio.sleep(0.01)

    async def presence(self, exposure: Exposure) -> float:
        """Return when the last presence key was written: its whole time to live was left then."""
        group = str(exposure.header(sensors()[0])["GROUPID"])
        async with self._client.pipeline(transaction=False) as pipe:
            for sensor in sensors():
                pipe.pttl(keys.group(bench.CAMERA, group, 0, sensor.name))
            asked = time.time()
            left = await pipe.execute()
        return asked - bench.PRESENCE_EXPIRY + float(max(left)) / 1000
