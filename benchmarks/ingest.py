"""Images per second from the store to the repository, and what an image costs."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice

import sqlalchemy

from autoingest.butler.engine import IngestFile
from autoingest.butler.native import NativeEngine
from autoingest.dev.simulator import Exposure, Sensor, SentFile, sensors

from . import bench, program
from .bench import FILES
from .report import Row
from .start import memory_rows

MANY = 10
"""Exposures of one measurement, all on the queue when it begins."""


@dataclass(frozen=True)
class Case:
    """One set of conditions."""

    delay: float
    """Milliseconds that the store takes longer for an answer."""
    sidecars: bool = True
    registry: str = "PostgreSQL"
    workers: int = 1
    thorough: bool = False
    """Whether single exposures are measured as well, and what an image costs."""
    before: float | None = None
    """Images/s of the implementation that this one replaces."""

    @property
    def name(self) -> str:
        """What the row is called."""
        workers = f"{self.workers} worker{'s' if self.workers > 1 else ''}"
        return f"{workers}, {'with' if self.sidecars else 'no'} sidecars, {self.delay:g} ms, {self.registry}"

    @property
    def warm_up(self) -> int:
        """Exposures before the measurement: every worker is to have had one; a single one's second is measured too."""
        return 2 * self.workers


CASES = [
    Case(0, thorough=True, before=117),
    Case(10, thorough=True, before=13.7),
    Case(60),
    Case(0, sidecars=False, thorough=True),
    Case(10, sidecars=False, before=6.1),
    Case(60, sidecars=False),
    Case(0, workers=2, before=209),
    Case(10, workers=2, before=26.5),
    Case(0, workers=4),
    Case(60, workers=4),
    Case(0, registry="SQLite", thorough=True),
    Case(10, registry="SQLite"),
    Case(60, registry="SQLite"),
    Case(0, registry="SQLite", sidecars=False),
]


async def measure(servers: bench.Servers) -> list[Row]:
    """Measure all cases. Each has a new repository, each run a new process; so all ingest the same files."""
    rows = []
    most = (max(case.warm_up for case in CASES) + MANY + 1) * servers.runs
    with bench.s3(servers.folder) as store:
        sent = {True: await bench.expose(most)}
        most = (2 + MANY + 1) * servers.runs
        sent[False] = await bench.expose(most, first_seq=10_000, sidecars=False)
        for case in CASES:
            store.delay(case.delay)
            rows += await _measure(case, servers, store, iter(sent[case.sidecars]))
    return rows


async def _measure(case: Case, servers: bench.Servers, store: bench.Store, files: Iterator[SentFile]) -> list[Row]:
    def take(exposures: int) -> list[SentFile]:
        return list(islice(files, exposures * FILES))

    repo = bench.repository(servers, case.registry)
    first, single, many, cpu, requests, statements = [], [], [], [], [], []
    memory = []
    for _ in range(servers.runs):
        async with bench.empty_redis(servers.redis_url) as client:
            with bench.site(servers, repo, workers=case.workers) as site:
                program.start(site, "ingest")
                pid = site.processes[0].pid
                rates = [await bench.rate(client, take(1)) for _ in range(case.warm_up)]
                first.append(rates[0])
                single.append(rates[1])
                used = program.cpu(pid)
                store.requests()
                many.append(await bench.rate(client, take(MANY)))
                requests.append(store.requests() / (MANY * FILES))
                cpu.append((program.cpu(pid) - used) * 1000 / (MANY * FILES))
                memory.append(program.memory(pid))
                if case.thorough and case.registry == "PostgreSQL":
                    with _logged_statements(servers) as count:
                        await bench.rate(client, take(1))
                    statements.append(count() / FILES)
    rows = [Row(f"ingest: {case.name}, {MANY} exposures", "images/s", many, case.before)]
    if not case.thorough:
        return rows
    if case.registry == "SQLite":
        statements = [_traced_statements(repo) / FILES]
    return [
        *rows,
        Row(f"ingest: {case.name}, 1 exposure", "images/s", single),
        Row(f"ingest: {case.name}, first exposure of a process", "images/s", first),
        Row(f"ingest: {case.name}, processor time", "ms per image", cpu, 7.6 if case == CASES[0] else None),
        Row(f"ingest: {case.name}, store requests", "per image", requests, 5 if case.sidecars else 12),
        Row(f"ingest: {case.name}, SQL statements", "per image", statements),
        *memory_rows(f"ingest: {case.name}, after {MANY + case.warm_up} exposures", memory, 206),
    ]


@contextmanager
def _logged_statements(servers: bench.Servers) -> Iterator[Callable[[], int]]:
    """Have PostgreSQL log every statement; yields what tells how many it has executed since."""

    def switch(setting: str) -> None:
        with bench.database(servers) as connection:
            connection.execute(sqlalchemy.text(f"ALTER SYSTEM SET log_statement = '{setting}'"))
            connection.execute(sqlalchemy.text("SELECT pg_reload_conf()"))

    log = servers.folder / "postgres" / "log"
    switch("all")
    begin = log.stat().st_size
    yield lambda: len(re.findall(rb"LOG:  (?:statement|execute [^:]+): ", log.read_bytes()[begin:]))
    switch("none")


def _traced_statements(repo: str) -> int:
    """Ingest two exposures into a repository on SQLite; return how many statements SQLite executed for the second."""
    statements: list[str] = []

    def trace(connection: sqlite3.Connection, _: object) -> None:
        connection.set_trace_callback(statements.append)

    sqlalchemy.event.listen(sqlalchemy.Pool, "connect", trace)
    engine = NativeEngine(repo)
    for number in (1, 2):
        statements.clear()
        exposure = Exposure(bench.DAY_OBS, 90_000 + number, datetime(2026, 1, 2, 3, number, tzinfo=UTC))
        engine.ingest([_file(exposure, sensor) for sensor in sensors()])
    engine.close()
    sqlalchemy.event.remove(sqlalchemy.Pool, "connect", trace)
    # What a trigger does within a statement is traced as a comment.
    return sum(not statement.startswith("--") for statement in statements)


def _file(exposure: Exposure, sensor: Sensor) -> IngestFile:
    path = f"{bench.BUCKET}/{exposure.key(sensor)}"
    is_guider = sensor.purpose == "GUIDER"
    return IngestFile(path, f"s3://{path}", exposure.obs_id, is_guider, exposure.header(sensor), 20160)
