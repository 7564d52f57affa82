"""Decides which errors are outages: faults of database, store or machine that an operator fixes, not bad files."""

from __future__ import annotations

import errno
import sqlite3

import psycopg
import sqlalchemy.exc
from botocore.exceptions import BotoCoreError, ClientError

from ..errors import AutoingestError, ConfigurationError, PermanentError, RefusedError, TransientError
from ..store.failure import one_line

_DATA_CLASSES = {"21", "22", "23", "44", "54"}
"""SQLSTATE classes that a file's values can cause: cardinality, data exception, integrity, view's check option, program
limit (a value too long for an index). PostgreSQL manual, appendix A."""

_DATA_STATES = {
    "42804",  # a value of another type than its column
    "42846",  # a value that can't be cast
    "42P18",  # a value of unknown type
    "25P02",  # an earlier statement of the transaction failed; dividing the batch shows which file and why
}

_OPERATOR_CLASSES = {"08", "25", "26", "28", "2B", "3D", "3F", "42", "53", "57", "58"}
"""SQLSTATE classes of outages that no single file can cause: connection, state of the transaction, prepared statement,
authorization, privileges, database, schema, definitions, resources, shutdown, system."""

_CANCELED = "57014"
"""SQLSTATE of a statement that was cancelled, for instance because it took too long; a file may be the cause."""

_DATA_SQLITE_CODES = {
    sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_RANGE, sqlite3.SQLITE_TOOBIG,
    sqlite3.SQLITE_MISUSE,
}  # fmt: skip

_ERRNOS = {
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM,
    errno.EIO, errno.ENXIO, errno.ENODEV, errno.ESTALE,
    errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.EBUSY,
    errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENOTCONN,
}  # fmt: skip


def is_outage(error: BaseException) -> bool:
    """Return whether an error, or one in its chain, is due to database or machine and not to a file.

    Errors of PostgreSQL and SQLite count as outages unless a file's values can cause them: an operator must fix a
    revoked privilege, a renamed schema, a prepared statement lost behind a pooler, or a dropped index.
    """
    seen: BaseException | None = error
    while seen is not None and not isinstance(seen, PermanentError):
        if _one_is_outage(seen):
            return True
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)
    return False


def outage(error: BaseException, message: str) -> TransientError:
    """Return the error to raise for an outage: `RefusedError` if the database may be refusing a single file.

    Parameters
    ----------
    error
        The outage.
    message
        What failed; the cause is appended.
    """
    kind = RefusedError if _may_be_a_files(error) else TransientError
    return kind(f"{message}: {cause(error)}")


def _may_be_a_files(error: BaseException) -> bool:
    seen: BaseException | None = error
    while seen is not None and not isinstance(seen, AutoingestError):
        match seen:
            case psycopg.Error(sqlstate=str() as state):
                return state[:2] not in _OPERATOR_CLASSES or state == _CANCELED
            case sqlite3.Error():
                code = getattr(seen, "sqlite_errorcode", 0)
                return code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_INTERNAL)
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)
    return False


def cause(error: BaseException) -> str:
    """Return type and message of the database's, the store's or the machine's error in one line."""
    seen, found = error, error
    if isinstance(error, BotoCoreError):
        return one_line(error)
    while (following := seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)) is not None:
        seen = following
        if isinstance(seen, BotoCoreError):
            return one_line(seen)
        if _one_is_outage(seen):
            found = seen
    if isinstance(found, sqlalchemy.exc.DBAPIError) and found.orig is not None:
        found = found.orig
    return f"{type(found).__name__}: {' '.join(str(found).split())}"


def _one_is_outage(error: BaseException) -> bool:
    match error:
        case TransientError() | ConfigurationError() | BotoCoreError():
            return True
        case ClientError():
            return bool(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") != 404)
        case sqlalchemy.exc.TimeoutError() | ConnectionError() | TimeoutError():
            return True
        case OSError(errno=int() as number):
            return number in _ERRNOS
        case sqlalchemy.exc.DBAPIError(connection_invalidated=True):
            return True
        case sqlalchemy.exc.DBAPIError(orig=BaseException() as original):
            return _one_is_outage(original)
        case psycopg.Error(sqlstate=str() as state):
            return state[:2] not in _DATA_CLASSES and state not in _DATA_STATES
        case psycopg.OperationalError() | psycopg.InterfaceError():
            return True  # no answer from the server: the connection is lost
        case sqlite3.Error():
            # The low byte is the primary code; errors of the module itself carry none, and are about values.
            code = getattr(error, "sqlite_errorcode", None)
            return code is not None and code & 0xFF not in _DATA_SQLITE_CODES
    return False
