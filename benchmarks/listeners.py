"""Requests per second and latency of the two listeners."""

from __future__ import annotations

import time
from pathlib import Path

from autoingest.queue.presence import Arrival, GroupKeys
from autoingest.sim import SentFile, notification

from . import bench
from .load import Load, get, load, post
from .report import Row

CONNECTIONS = 16
REQUESTS = 15_000


async def enqueue(folder: Path, redis_url: str, _: str, runs: int) -> list[Row]:
    """One process, one record a request, each of an object never seen before."""
    found = []
    async with bench.empty_redis(redis_url):
        with bench.site(folder, redis_url, "unused") as site:
            site.start("enqueue")
            for run in range(runs):
                bodies = [notification(_file(run * REQUESTS + number)) for number in range(REQUESTS)]
                found.append(await load(site.notify_port, [post("/notify", body) for body in bodies], CONNECTIONS))
    return _rows("enqueue, 16 connections", found, 2000, 13)


async def presence(folder: Path, redis_url: str, _: str, runs: int) -> list[Row]:
    """One process, with and without keep-alive."""
    rows = []
    group = "2026-01-01T00:00:00.000"
    async with bench.empty_redis(redis_url) as client:
        arrivals = [Arrival("LSSTCam", group, 0, f"R{raft:02d}_S11", "s3://there") for raft in range(50)]
        await GroupKeys(client, 3600).record(arrivals)
        with bench.site(folder, redis_url, "unused") as site:
            site.start("presence")
            for keep_alive, before in ((True, 3650), (False, None)):
                requests = [
                    get(f"/presence/LSSTCam/{group}/0/R{number % 100:02d}_S11", keep_alive=keep_alive)
                    for number in range(REQUESTS)
                ]
                found = [
                    await load(site.presence_port, requests, CONNECTIONS, keep_alive=keep_alive) for _ in range(runs)
                ]
                name = f"presence, 16 connections, {'keep-alive' if keep_alive else 'a connection each'}"
                rows += _rows(name, found, before, 10.5 if keep_alive else None)
    return rows


def _rows(name: str, found: list[Load], rate: float | None, p99: float | None) -> list[Row]:
    return [
        Row(name, "requests/s", [run.rate for run in found], rate),
        Row(f"{name}, median latency", "ms", [run.p50 for run in found]),
        Row(f"{name}, p99 latency", "ms", [run.p99 for run in found], p99),
    ]


def _file(number: int) -> SentFile:
    obs_id = f"MC_O_20260101_{number // 205 + 1:06d}"
    key = f"LSSTCam/20260101/{obs_id}/{obs_id}_R22_S11-{number}.fits"
    return SentFile(f"{bench.BUCKET}/{key}", 20160, f"{number:032x}", time.time())
