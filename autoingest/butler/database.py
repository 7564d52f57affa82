"""How this program's connections to a Butler's database behave, whoever opens them."""

from __future__ import annotations

import sqlite3

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
    if isinstance(driver, psycopg.Connection):
        driver.execute(f"SET LOCAL lock_timeout = {_lock_timeout_ms}")
