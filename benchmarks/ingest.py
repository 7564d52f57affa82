"""Images per second of one ingest worker, from the store to the repository."""

from __future__ import annotations

import json
import time
import urllib.request
from pathlib import Path

from autoingest.queue.intake import Intake

from . import bench
from .report import Row

EXPOSURES = 5
"""Exposures of one run, all on the queue when it begins."""

FILES = 205
BEFORE = {(0, "PostgreSQL", True): 117.0, (10, "PostgreSQL", True): 13.7, (10, "PostgreSQL", False): 6.1}
"""Images/s of the implementation that this one replaces: delay in ms, registry, sidecars."""


async def measure(folder: Path, redis_url: str, postgres_url: str, runs: int) -> list[Row]:
    """Measure with and without sidecars, at 0 and 10 ms, on both registries."""
    rows = []
    for delay in (0, 10):
        for sidecars in (True, False):
            with bench.s3(folder, delay) as s3_url:
                first_seq = 1
                for registry, url in (("PostgreSQL", postgres_url), ("SQLite", None)):
                    rows += await _case(folder, redis_url, url, runs, delay, sidecars, s3_url, registry, first_seq)
                    first_seq += 1 + runs * EXPOSURES
    return rows


async def _case(
    folder: Path, redis_url: str, postgres_url: str | None, runs: int, delay: int, sidecars: bool, s3_url: str,
    registry: str, first_seq: int,
) -> list[Row]:  # fmt: skip
    name = f"{'with' if sidecars else 'without'} sidecars, {delay} ms, {registry}"
    sent = (await bench.expose(1 + runs * EXPOSURES, first_seq=first_seq, sidecars=sidecars)).images
    repo = bench.repository(folder, postgres_url)
    async with bench.empty_redis(redis_url) as client:
        intake = Intake(client)
        with bench.site(folder, redis_url, repo, workers=1) as site:
            site.start("ingest")
            started = time.perf_counter()
            await bench.announce(intake, sent[:FILES])
            first = FILES / (await bench.ingested(client, FILES) - started)
            _counts(s3_url, reset=True)
            rates = []
            for run in range(runs):
                begin = FILES * (1 + run * EXPOSURES)
                end = begin + FILES * EXPOSURES
                started = time.perf_counter()
                await bench.announce(intake, sent[begin:end])
                rates.append((end - begin) / (await bench.ingested(client, end) - started))
            requests = sum(count for method, count in _counts(s3_url).items() if method in ("GET", "HEAD"))
        await intake.close()
    return [
        Row(f"ingest, {name}", "images/s", rates, BEFORE.get((delay, registry, sidecars))),
        Row(f"ingest, {name}, first exposure of a process", "images/s", [first]),
        Row(f"store requests, {name}", "per image", [requests / (FILES * EXPOSURES * runs)], 5 if sidecars else 12),
    ]


def _counts(s3_url: str, *, reset: bool = False) -> dict[str, int]:
    request = urllib.request.Request(f"{s3_url}/-/counts", method="DELETE" if reset else "GET")
    with urllib.request.urlopen(request) as response:
        return {} if reset else dict(json.load(response))
