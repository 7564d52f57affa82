"""Which errors say that the database is away, rather than that the data are wrong."""

from __future__ import annotations

import sqlite3

import psycopg
import sqlalchemy.exc

_SQLSTATE_CLASSES = {"08", "40", "53", "55", "57", "58"}
"""Connection, transaction rollback (deadlock, serialization), resources, object not in the state needed (lock not
available), operator intervention (shutdown, cancelled), system error. PostgreSQL manual, appendix A."""

_SQLSTATES = {
    "25006",  # read-only transaction: a standby after a failover
}

_SQLITE_CODES = {
    sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_READONLY, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_INTERRUPT,
}  # fmt: skip


def is_transient(error: BaseException) -> bool:
    """Tell whether an error, or one that it was raised from, lies in the database's state and not in the data."""
    seen: BaseException | None = error
    while seen is not None:
        if _one_is_transient(seen):
            return True
        seen = seen.__cause__
    return False


def _one_is_transient(error: BaseException) -> bool:
    match error:
        case sqlalchemy.exc.TimeoutError() | ConnectionError() | TimeoutError():
            return True
        case sqlalchemy.exc.DBAPIError(connection_invalidated=True):
            return True
        case sqlalchemy.exc.DBAPIError(orig=BaseException() as original):
            return _one_is_transient(original)
        case psycopg.Error(sqlstate=str() as state):
            return state[:2] in _SQLSTATE_CLASSES or state in _SQLSTATES
        case psycopg.OperationalError() | psycopg.InterfaceError():
            return True  # no answer from the server: the connection is lost
        case sqlite3.Error():
            # The low byte is the primary code; errors of the module itself carry none.
            return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF in _SQLITE_CODES
    return False
