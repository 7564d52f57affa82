"""Several Butler processes against one PostgreSQL: images per second, waits for locks, deadlocks, retries."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

import sqlalchemy

from autoingest.dev.simulator import SentFile

from . import bench, program
from .bench import FILES
from .report import Row

PROCESSES = (1, 2, 4, 8)
"""Numbers of Butler processes."""

DISTANCES = (0.0, 1.0, 5.0)
"""Round-trip times to PostgreSQL, milliseconds."""

TOGETHER = 4
"""Exposures that arrive at the same time."""

BACKLOG = 20
"""Exposures that are all on the queue when the measurement begins."""

LOCK_WAIT = 20
"""Milliseconds from which waiting for a lock is counted, and a deadlock looked for."""

RETRIED = re.compile(r"batch held|batch divided")
"""What a worker or a Butler process logs before it writes files again."""


async def measure(servers: bench.Servers) -> list[Row]:
    """Ingest exposures that arrive together, then a backlog, with one to eight processes."""
    each = 2 * max(PROCESSES) + TOGETHER + BACKLOG
    with bench.s3(servers.folder), bench.far(servers) as far:
        _watch_locks(servers)
        files = await bench.expose(each)
        there = replace(servers, postgres_url=far.servers.postgres_url)
        rows = []
        for distance in DISTANCES:
            for processes in PROCESSES:
                far.database.delay(0)
                rows += await _measure(servers, there, iter(files), processes, distance, far)
    return rows


async def _measure(
    servers: bench.Servers, there: bench.Servers, files: Iterator[SentFile], processes: int, distance: float,
    far: bench.Far,
) -> list[Row]:  # fmt: skip
    def take(exposures: int) -> list[SentFile]:
        return list(islice(files, exposures * FILES))

    repo = bench.repository(there)
    async with bench.empty_redis(servers.redis_url) as client:
        with bench.site(there, repo, workers=processes) as site:
            program.start(site, "ingest")
            for _ in range(2 * processes):
                await bench.rate(client, take(1))
            before = _counts(servers, site.logs())
            far.database.delay(distance)
            together = await bench.rate(client, take(TOGETHER))
            backlog = await bench.rate(client, take(BACKLOG))
            after = _counts(servers, site.logs())
    name = f"fleet: {processes} Butler process{'es' if processes > 1 else ''}, PostgreSQL at {distance:g} ms"
    return [
        Row(f"{name}, {TOGETHER} exposures together", "images/s", [together]),
        Row(f"{name}, backlog of {BACKLOG}", "images/s", [backlog]),
        *(
            Row(f"{name}, {what}", "in all", [float(number - old)])
            for (what, number), old in zip(after.items(), before.values(), strict=True)
        ),
    ]


def _watch_locks(servers: bench.Servers) -> None:
    """Have PostgreSQL log waits for locks."""
    with bench.database(servers) as connection:
        for setting in (f"deadlock_timeout = '{LOCK_WAIT}ms'", "log_lock_waits = on"):
            connection.execute(sqlalchemy.text(f"ALTER SYSTEM SET {setting}"))
        connection.execute(sqlalchemy.text("SELECT pg_reload_conf()"))


def _counts(servers: bench.Servers, logs: str) -> dict[str, int]:
    """Return how often something has happened since the servers were started, and this program."""
    with bench.database(servers) as connection:
        deadlocks = connection.execute(sqlalchemy.text("SELECT sum(deadlocks) FROM pg_stat_database")).scalar_one()
    waits = (servers.folder / "postgres" / "log").read_bytes().count(b" still waiting for ")
    return {
        f"waits for a lock of more than {LOCK_WAIT} ms": waits,
        "deadlocks": int(deadlocks),
        "batches that were tried again": len(RETRIED.findall(logs)),
    }
