"""What it costs that PostgreSQL, a pooler or Redis is some milliseconds away: images/s, seconds, round trips."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

from autoingest.dev.simulator import SentFile
from testing.pgbouncer import find as find_pgbouncer
from testing.pgbouncer import pgbouncer
from testing.proxy import Proxy

from . import bench, program
from .bench import FILES
from .report import Row

DISTANCES = (0.0, 1.0, 5.0)
"""Round-trip times, milliseconds."""

PROCESSES = (1, 2)
"""Numbers of Butler processes."""

MANY = 5
"""Exposures of one measurement, all on the queue when it begins."""

SINGLE = 4
"""Exposures that are measured one by one, to count their round trips."""


async def measure(servers: bench.Servers) -> list[Row]:
    """Ingest with a proxy that delays PostgreSQL, then with one that delays Redis, then through a pooler."""
    with bench.s3(servers.folder), bench.far(servers) as far:
        most = (len(DISTANCES) * (len(PROCESSES) * 2 + MANY + SINGLE) + 2 * (MANY + SINGLE) + 4) * servers.runs * 2
        files = iter(await bench.expose(most))
        far_database = replace(servers, postgres_url=far.servers.postgres_url)
        far_redis = replace(servers, redis_url=far.servers.redis_url)
        rows = []
        for processes in PROCESSES:
            rows += await _measure(servers, far_database, files, far.database, "PostgreSQL", processes, DISTANCES)
        rows += await _measure(servers, far_redis, files, far.cache, "Redis", 1, (0.0, 1.0))
        if find_pgbouncer():
            with pgbouncer(servers.postgres_url) as url, bench.far(replace(servers, postgres_url=url)) as pooled:
                at = replace(servers, postgres_url=pooled.servers.postgres_url)
                rows += await _measure(servers, at, files, pooled.database, "pgbouncer", 1, (0.0, 1.0))
        else:
            print("pgbouncer is not installed: its rows are left out")
    return rows


async def _measure(
    servers: bench.Servers,
    far: bench.Servers,
    files: Iterator[SentFile],
    link: Proxy,
    what: str,
    processes: int,
    distances: tuple[float, ...],
) -> list[Row]:
    def take(exposures: int) -> list[SentFile]:
        return list(islice(files, exposures * FILES))

    rates: dict[float, list[float]] = {distance: [] for distance in distances}
    seconds: dict[float, list[float]] = {distance: [] for distance in distances}
    trips: list[float] = []
    repo = bench.repository(far)
    for _ in range(servers.runs):
        async with bench.empty_redis(servers.redis_url) as client:
            with bench.site(far, repo, workers=processes) as site:
                program.start(site, "ingest")
                for _ in range(2 * processes):
                    await bench.rate(client, take(1))
                for distance in distances:
                    link.delay(distance)
                    link.round_trips()
                    for _ in range(SINGLE):
                        seconds[distance].append(FILES / await bench.rate(client, take(1)))
                    if what != "Redis":
                        trips.append(link.round_trips() / SINGLE)
                    rates[distance].append(await bench.rate(client, take(MANY)))
                link.delay(0)
    name = f"distance: {processes} Butler process{'es' if processes > 1 else ''}, {what} at"
    rows = []
    for distance in distances:
        rows.append(Row(f"{name} {distance:g} ms, {MANY} exposures", "images/s", rates[distance]))
        rows.append(Row(f"{name} {distance:g} ms, 1 exposure", "s", seconds[distance]))
    if trips:
        rows.append(Row(f"{name.removesuffix(' at')}: round trips", "per exposure", trips))
    return rows
