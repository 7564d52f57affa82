"""Whether a repository is fit for ingest: schema, instruments, privileges, connections. Nothing is written."""

from __future__ import annotations

import os
import time
from typing import Any

import psycopg
import sqlalchemy
from lsst.daf.butler import Butler
from lsst.daf.butler.registry.interfaces import Database

from .. import instruments
from ..model.checks import Check, clock, fail, ok, warn
from . import private
from .register import GUIDER_RAW

MOST_CONNECTIONS = 0.8
"""Fraction of the server's connections above which to warn."""

SHOWN = 3
"""Number of tables that are named."""

_UNWRITABLE = """
    SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace = CAST(:schema AS regnamespace)
    AND NOT (has_table_privilege(oid, 'SELECT') AND has_table_privilege(oid, 'INSERT')
             AND has_table_privilege(oid, 'UPDATE') AND has_table_privilege(oid, 'DELETE'))
    ORDER BY relname
"""

_CONNECTIONS = """
    SELECT (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend') AS used,
           current_setting('max_connections')::int AS most, pg_backend_pid() AS pid
"""


def examine(butler: Butler) -> list[Check]:
    """Look at an open repository.

    Raises
    ------
    Exception
        Whatever the database raises when it is away.
    """
    database = private.registry_database(butler)
    found = [*_instruments(butler)]
    with private.registry_transaction(database) as connection:
        if connection.dialect.name == "postgresql":
            return [*_postgres(connection, database), *found]
    return [*_sqlite(connection.engine), *found]


def _instruments(butler: Butler) -> list[Check]:
    name = "Butler instruments"
    known = sorted(record.name for record in butler.query_dimension_records("instrument", explain=False))
    if not known:
        return [fail(name, "none is registered", "autoingest repo register-instrument REPO LSSTCam")]
    found = [ok(name, ", ".join(known))]
    for instrument in set(known) & set(instruments.names()):
        camera = instruments.get(instrument)
        detectors = butler.query_dimension_records("detector", instrument=instrument, limit=None, explain=False)
        missing = {detector.id for detector in camera.detectors} - {record.id for record in detectors}
        types = [camera.raw_type, *([GUIDER_RAW] if camera.guiders else ())]
        undefined = [kind for kind in types if butler.registry.queryDatasetTypes(kind) == []]
        lacks = [f"{len(missing)} detectors"] * bool(missing) + [f"dataset type {kind}" for kind in undefined]
        if lacks:
            text = f"lacks {', '.join(lacks)}"
            found.append(
                warn(f"{name} of {instrument}", text, f"autoingest repo register-instrument REPO {instrument}")
            )
    return found


def _postgres(connection: sqlalchemy.Connection, database: Database) -> list[Check]:
    def row(statement: str, **values: Any) -> Any:
        return connection.execute(sqlalchemy.text(statement), values).one()

    schema = database.namespace or row("SELECT current_schema()")[0]
    before = time.time()
    now = float(row("SELECT extract(epoch FROM clock_timestamp())")[0])
    after = time.time()
    version, user, is_replica = row("SELECT current_setting('server_version'), current_user, pg_is_in_recovery()")
    found = [ok("Butler", f"PostgreSQL {version}, schema {schema}, user {user}")]
    tables = list(connection.execute(sqlalchemy.text(_UNWRITABLE), {"schema": f'"{schema}"'}).scalars())
    found.append(_privileges(tables, schema, user, is_replica))
    used, most, pid = row(_CONNECTIONS)
    found.append(_pooling(connection, used, most, pid))
    return [*found, clock("clock of the database", now - (before + after) / 2, after - before)]


def _privileges(tables: list[str], schema: str, user: str, is_replica: bool) -> Check:
    name = "Butler write permission"
    if is_replica:
        return fail(name, "the server is a read-only replica", "let butler.yaml name the primary")
    if not tables:
        return ok(name, "all tables")
    more = f" and {len(tables) - SHOWN} more" if len(tables) > SHOWN else ""
    return fail(
        name,
        f"user {user} may not write {', '.join(tables[:SHOWN])}{more}",
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {user}",
    )


def _pooling(connection: sqlalchemy.Connection, used: int, most: int, pid: int) -> Check:
    name = "Butler connections"
    driver = connection.connection.dbapi_connection
    # A pooler gives its clients process ids of its own.
    is_pooled = isinstance(driver, psycopg.Connection) and driver.info.backend_pid != pid
    text = f"{'through a pooler' if is_pooled else 'no pooler'}, {used} of the server's {most} in use"
    if used <= MOST_CONNECTIONS * most:
        return ok(name, text)
    return warn(name, text, "put PgBouncer in front of the database, or raise its max_connections")


def _sqlite(engine: sqlalchemy.Engine) -> list[Check]:
    file = engine.url.database or ""
    found = [ok("Butler", f"SQLite file {file}")]
    if os.access(file, os.W_OK) and os.access(os.path.dirname(file), os.W_OK):
        return [*found, ok("Butler write permission", "the file is writable")]
    remedy = "give this user write permission for the file and its folder"
    return [*found, fail("Butler write permission", "the file or its folder is not writable", remedy)]
