"""Whether much on the queue, much in the repository or a long night makes the program slower or larger."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from fnmatch import fnmatch
from pathlib import Path

import redis.asyncio
import sqlalchemy

from autoingest.app.config import IngestConfig, LoggingConfig
from autoingest.butler.reader import open_reader
from autoingest.dev.simulator import SentFile
from autoingest.queue.intake import Intake

from . import bench, program
from .bench import FILES
from .burst import ROLES, Watcher, burst
from .ingest import MANY
from .listeners import unknown
from .load import percentile
from .report import Row
from .start import memory_rows

QUEUED = (1_000, 100_000, 1_000_000)
"""Paths on the queue behind those that are measured."""

CHUNK = 2_000
"""Files that are put onto the queue by one call."""

HELD = (10, 1_000, 10_000)
"""Exposures in the repository."""

NIGHT_CADENCE = 4.0
"""Seconds between two exposures: ten times as fast as LSSTCam, which takes one every 40 s."""

# Of what a repository holds after the first exposures, each copy gets texts with its number where they must be unique,
# other ids of datasets, and numbers of exposures and times that go on where those of the copy before end. The tables
# are in an order that foreign keys allow.
COPIED = (
    "group", "exposure", "visit", "visit_definition", "visit_system_membership", "visit_detector_region",
    "visit_detector_region_skypix_overlap", "visit_skypix_overlap", "dataset", "dataset_location", "dataset_tags_*",
    "file_datastore_records",
)  # fmt: skip
SEQUENCE = f'"{{0}}" + copy * {HELD[0]}'
TEXT = "\"{0}\" || '-' || copy"
UUID = 'md5("{0}"::text || copy)::uuid'
RANGE = f'int8range(lower("{{0}}") + copy * {HELD[0]} * 40000000000, upper("{{0}}") + copy * {HELD[0]} * 40000000000)'
DAY = f'"{{0}}" + copy * {HELD[0]} / 1000'
CHANGED = {
    "group.name": TEXT, "exposure.group": TEXT, "exposure.obs_id": TEXT, "visit.name": TEXT,
    "file_datastore_records.path": TEXT, "exposure.id": SEQUENCE, "visit.id": SEQUENCE, "dataset.id": UUID,
    "*.day_obs": DAY, "*.exposure": SEQUENCE, "*.visit": SEQUENCE,
     "*.seq_*": SEQUENCE, "*.dataset_id": UUID, "*.timespan": RANGE,
}  # fmt: skip
"""Columns that a copy does not share -> what it has instead. A thousand exposures have the same day."""

AT_ONCE = 100
"""Copies of one statement."""

LARGEST = 5
"""Tables whose sizes are shown."""

ASKED = 5
"""Times that each question is asked."""


async def queue(servers: bench.Servers) -> list[Row]:
    """Ingest exposures at the head of queues of different lengths; nobody wrote what is behind them."""
    rows = []
    with bench.s3(servers.folder):
        files = await bench.expose(1 + MANY)
        for depth in QUEUED:
            filled, rates, redis_memory, memory = [], [], [], []
            for _ in range(servers.runs):
                repo = bench.repository(servers)
                async with bench.empty_redis(servers.redis_url) as client:
                    intake = Intake(client)
                    await intake.accept(await bench.notices(files))
                    filled.append(await _fill(intake, depth))
                    await intake.close()
                    redis_memory.append((await client.info("memory"))["used_memory"] / program.MIB)
                    with bench.site(servers, repo) as site:
                        program.start(site, ROLES)
                        await bench.ingested(client, len(files))
                        memory.append(program.memory(site.processes[0].pid))
                    rates.append(await _warm_rate(client, servers, repo, files))
            name = f"scale: {depth:,} paths queued"
            rows += [
                Row(f"{name}, {MANY} exposures", "images/s", rates),
                Row(f"{name}, filling the queue", "paths/s", filled),
                Row(f"{name}, memory of Redis", "MiB", redis_memory),
                *memory_rows(f"{name}, after {1 + MANY} exposures", memory),
            ]
    return rows


async def _fill(intake: Intake, depth: int) -> float:
    spent = 0.0
    for begin in range(0, depth, CHUNK):
        found = await bench.notices([unknown(number) for number in range(begin, min(begin + CHUNK, depth))])
        began = time.perf_counter()
        await intake.accept(found)
        spent += time.perf_counter() - began
    return depth / spent


async def _warm_rate(client: redis.asyncio.Redis, servers: bench.Servers, repo: str, files: list[SentFile]) -> float:
    """Return images per second after the first exposure, by the times at which Redis saw them acknowledged."""
    times = sorted(await Watcher(client, servers.postgres_url, repo).datasets(files))
    first = times[FILES - 1]
    return sum(each > first for each in times) / (times[-1] - first)


async def repository(servers: bench.Servers) -> list[Row]:
    """Ingest into a repository that holds more and more exposures, most of them copied by SQL."""
    rows = []
    repo = bench.repository(servers)
    with bench.s3(servers.folder):
        template = await bench.expose(min(HELD))
        for number, held in enumerate(HELD):
            sent = await bench.expose(1 + servers.runs * MANY, first_seq=20_000 * (1 + number))
            async with bench.empty_redis(servers.redis_url) as client:
                if number == 0:
                    with bench.site(servers, repo) as site:
                        program.start(site, ROLES)
                        await bench.rate(client, template)
                    _keep_template(servers, repo)
                else:
                    _copy(servers, repo, range(HELD[number - 1] // HELD[0], held // HELD[0]))
                with bench.site(servers, repo) as site:
                    seconds, _ = program.start(site, ROLES)
                    first = await bench.rate(client, sent[:FILES])
                    many = [
                        await bench.rate(client, sent[begin : begin + MANY * FILES])
                        for begin in range(FILES, len(sent), MANY * FILES)
                    ]
                    memory = program.memory(site.processes[0].pid)
            name = f"scale: {held:,} exposures in the repository"
            rows += [
                Row(f"{name}, {MANY} exposures", "images/s", many),
                Row(f"{name}, first exposure of a process", "images/s", [first]),
                Row(f"{name}, exec to ready", "s", [seconds]),
                *memory_rows(f"{name}, after {1 + servers.runs * MANY} exposures", [memory]),
                *_size_rows(servers, repo, name, held),
                *await _question_rows(repo, name, sent),
            ]
    return rows


def _size_rows(servers: bench.Servers, repo: str, name: str, held: int) -> list[Row]:
    """Return what an exposure takes on the disk of the database, the largest tables, and how long a vacuum takes."""
    schema = Path(repo).name
    with bench.database(servers) as connection:
        found = connection.execute(
            sqlalchemy.text(
                "SELECT relname, pg_table_size(oid), pg_indexes_size(oid) FROM pg_class"
                " WHERE relnamespace = CAST(:schema AS regnamespace) AND relkind = 'r' ORDER BY 2 DESC"
            ),
            {"schema": schema},
        ).all()
        began = time.perf_counter()
        for table, _, _ in found:
            connection.exec_driver_sql(f'VACUUM (DISABLE_PAGE_SKIPPING, ANALYZE) {schema}."{table}"')
        vacuum = time.perf_counter() - began
    return [
        Row(f"{name}: tables", "bytes per exposure", [sum(size for _, size, _ in found) / held]),
        Row(f"{name}: indexes", "bytes per exposure", [sum(size for _, _, size in found) / held]),
        *(
            Row(f"{name}: {table} with its indexes", "bytes per exposure", [(size + indexes) / held])
            for table, size, indexes in found[:LARGEST]
        ),
        Row(f"{name}: vacuum of all that is there", "s", [vacuum]),
    ]


async def _question_rows(repo: str, name: str, sent: list[SentFile]) -> list[Row]:
    """Return how long the questions of `reconcile` and of presence take."""
    obs_ids = sorted({file.path.split("/")[-2] for file in sent})
    async with open_reader(IngestConfig(repo=repo), LoggingConfig(level="WARNING")) as reader:
        group = next(iter((await reader.exposures(bench.CAMERA, obs_ids[:1])).values())).summary.group
        questions: dict[str, Callable[[], Awaitable[object]]] = {
            "exposures of a day": lambda: reader.obs_ids(bench.CAMERA, bench.DAY_OBS),
            f"files of {len(obs_ids)} exposures": lambda: reader.exposures(bench.CAMERA, obs_ids),
            "exposures of a group": lambda: reader.group(bench.CAMERA, group),
        }
        rows = []
        for what, ask in questions.items():
            times = []
            for _ in range(ASKED):
                began = time.perf_counter()
                await ask()
                times.append((time.perf_counter() - began) * 1000)
            rows.append(Row(f"{name}: {what}", "ms", times))
    return rows


def _keep_template(servers: bench.Servers, repo: str) -> None:
    """Set aside what the repository holds now, for `_copy`."""
    schema = Path(repo).name
    with bench.database(servers) as connection:
        connection.exec_driver_sql(f"CREATE SCHEMA {schema}_template")
        for table in _tables(connection, schema):
            connection.exec_driver_sql(f'CREATE TABLE {schema}_template."{table}" AS TABLE {schema}."{table}"')


def _copy(servers: bench.Servers, repo: str, copies: range) -> None:
    """Add copies of what was set aside, without the database's checks of foreign keys, which would take most time."""
    schema = Path(repo).name
    with bench.database(servers) as connection:
        connection.exec_driver_sql("SET session_replication_role = replica")
        tables = _tables(connection, schema)
        for begin in range(copies.start, copies.stop, AT_ONCE):
            end = min(begin + AT_ONCE, copies.stop) - 1
            for table in tables:
                columns = [item["name"] for item in sqlalchemy.inspect(connection).get_columns(table, schema=schema)]
                values = ", ".join(_value(table, column) for column in columns)
                source = f'{schema}_template."{table}", generate_series({begin}, {end}) copy'
                connection.exec_driver_sql(f'INSERT INTO {schema}."{table}" SELECT {values} FROM {source}')
        for table in tables:
            connection.exec_driver_sql(f'VACUUM ANALYZE {schema}."{table}"')


def _tables(connection: sqlalchemy.Connection, schema: str) -> list[str]:
    names = sqlalchemy.inspect(connection).get_table_names(schema=schema)
    return [name for pattern in COPIED for name in names if fnmatch(name, pattern)]


def _value(table: str, column: str) -> str:
    for pattern, value in CHANGED.items():
        if fnmatch(f"{table}.{column}", pattern):
            return value.format(column)
    return f'"{column}"'


async def night(servers: bench.Servers) -> list[Row]:
    """Send exposures for a night at ten times their speed; compare the first tenth of them with the last."""
    latencies, held = [], []
    repo = bench.repository(servers)
    with bench.s3(servers.folder) as store:
        async with bench.empty_redis(servers.redis_url) as client:
            with bench.site(servers, repo) as site:
                program.start(site, ROLES)
                watcher = Watcher(client, servers.postgres_url, repo)
                for number in range(1 + servers.exposures):
                    due = time.monotonic() + NIGHT_CADENCE
                    ((exposure, images),) = await bench.take(1, first_seq=1 + number)
                    latencies.append(await burst(site.notify_port, watcher, exposure, images))
                    held.append(program.memory(site.processes[0].pid))
                    store.forget(exposure.folder)
                    await asyncio.sleep(max(0.0, due - time.monotonic()))
    # The very first is that of a process which has just started.
    tenth = max(1, servers.exposures // 10)
    rows = []
    for which, part in (("first", slice(1, 1 + tenth)), ("last", slice(-tenth, None))):
        name = f"scale: night of {servers.exposures:,} exposures, {which} tenth"
        values = [each.dataset for each in latencies[part]]
        rows += [
            Row(f"{name}, first notification to last dataset", "s", values),
            Row(f"{name}, first notification to last dataset, p99", "s", [percentile(values, 0.99)]),
            *memory_rows(name, held[part]),
        ]
    return rows
