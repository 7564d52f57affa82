"""Settings of all connections to a Butler's database."""

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
"""Default time in seconds that a statement waits for another session's lock."""

_lock_timeout_ms = round(LOCK_TIMEOUT * 1000)


def set_lock_timeout(seconds: float) -> None:
    """Set how long a statement of this process waits for a lock before that counts as an outage."""
    global _lock_timeout_ms
    _lock_timeout_ms = max(1, round(seconds * 1000))


@event.listens_for(sqlalchemy.Engine, "connect")
def _on_connect(connection: object, _record: object) -> None:
    # Behind a pooler in transaction mode, a prepared statement may be missing on the next connection, or belong to
    # another client.
    if isinstance(connection, psycopg.Connection):
        connection.prepare_threshold = None


@event.listens_for(sqlalchemy.Engine, "engine_connect")
def _on_engine_connect(connection: sqlalchemy.Connection) -> None:
    driver = connection.connection.dbapi_connection
    if isinstance(driver, sqlite3.Connection):
        driver.execute(f"PRAGMA busy_timeout = {_lock_timeout_ms}")


@event.listens_for(sqlalchemy.Engine, "begin")
def _on_begin(connection: sqlalchemy.Connection) -> None:
    # SET LOCAL, so that it also works behind a pooler.
    driver = connection.connection.dbapi_connection
    if isinstance(driver, psycopg.Connection) and not driver.autocommit:
        _deferred[driver] = [f"SET LOCAL lock_timeout = {_lock_timeout_ms}"]


_deferred: MutableMapping[psycopg.Connection[Any], list[str]] = WeakKeyDictionary()
"""Statements without a result, which are sent together with the next statement of their connection and transaction.

The Butler nests savepoints, which would take half of the round trips of an exposure. Nothing is deferred beyond the end
of a transaction: a commit releases its savepoints, and a rollback undoes them.
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
    if isinstance(cursor, psycopg.ServerCursor):  # it can't be part of a pipeline
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
