"""How this program's connections to a Butler's database behave, whoever opens them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import psycopg
import sqlalchemy
from sqlalchemy import event

LOCK_TIMEOUT = 20.0
"""Seconds that a statement waits for a lock of somebody else, where nothing else was set."""

_lock_timeout_ms = round(LOCK_TIMEOUT * 1000)


def set_lock_timeout(seconds: float) -> None:
    """Set how long a statement of this process waits for a lock; after it, the wait is an outage."""
    global _lock_timeout_ms
    _lock_timeout_ms = max(1, round(seconds * 1000))


@event.listens_for(sqlalchemy.Engine, "connect")
def _on_connect(connection: object, _record: object) -> None:
    # Behind a pooler in transaction mode a statement prepared on one server is missing on the next one, or is another
    # client's.
    if isinstance(connection, psycopg.Connection):
        connection.prepare_threshold = None


@event.listens_for(sqlalchemy.Engine, "engine_connect")
def _on_engine_connect(connection: sqlalchemy.Connection) -> None:
    driver = connection.connection.dbapi_connection
    if isinstance(driver, sqlite3.Connection):
        driver.execute(f"PRAGMA busy_timeout = {_lock_timeout_ms}")


@event.listens_for(sqlalchemy.Engine, "begin")
def _on_begin(connection: sqlalchemy.Connection) -> None:
    # For this transaction alone, so that it holds behind a pooler, too.
    driver = connection.connection.dbapi_connection
    if isinstance(driver, psycopg.Connection) and not driver.autocommit:
        _deferred[driver] = [f"SET LOCAL lock_timeout = {_lock_timeout_ms}"]


_deferred: MutableMapping[psycopg.Connection[Any], list[str]] = WeakKeyDictionary()
"""Statements without result that are sent with the next one of their connection; only during a transaction.

The Butler nests savepoints, which would be half of the round trips of an exposure. Nothing is deferred beyond the end
of a transaction: a commit releases its savepoints, a rollback undoes them.
"""


@event.listens_for(sqlalchemy.Engine, "commit")
@event.listens_for(sqlalchemy.Engine, "rollback")
def _on_end(connection: sqlalchemy.Connection) -> None:
    driver = connection.connection.dbapi_connection
    if isinstance(driver, psycopg.Connection):
        _deferred.pop(driver, None)


@event.listens_for(sqlalchemy.Engine, "do_execute")
def _on_execute(cursor: Any, statement: str, parameters: Any, _context: object) -> bool:
    """Execute a statement together with the deferred ones, or defer it; return False to leave it to SQLAlchemy."""
    if not isinstance(cursor, psycopg.Cursor) or (deferred := _deferred.get(cursor.connection)) is None:
        return False
    if statement.startswith(("SAVEPOINT ", "RELEASE SAVEPOINT ")):
        deferred.append(statement)
        return True
    if statement.startswith("ROLLBACK TO SAVEPOINT "):
        begun = statement.removeprefix("ROLLBACK TO ")
        if begun in deferred:  # the server has not seen it
            del deferred[deferred.index(begun) :]
            return True
    if not deferred:
        return False
    if isinstance(cursor, psycopg.ServerCursor):  # which can't be part of a pipeline
        with _sent_together(cursor.connection, deferred):
            return False
    with _sent_together(cursor.connection, deferred):
        cursor.execute(statement, parameters)
    return True


@event.listens_for(sqlalchemy.Engine, "do_executemany")
def _on_executemany(cursor: Any, statement: str, parameters: Any, _context: object) -> bool:
    if not isinstance(cursor, psycopg.Cursor) or not (deferred := _deferred.get(cursor.connection)):
        return False
    with _sent_together(cursor.connection, deferred):
        cursor.executemany(statement, parameters)
    return True


@contextmanager
def _sent_together(connection: psycopg.Connection[Any], deferred: list[str]) -> Iterator[None]:
    """Send the deferred statements and those of the block, then wait for all their results."""
    with connection.pipeline():
        for statement in deferred:
            connection.execute(statement)
        deferred.clear()
        yield
