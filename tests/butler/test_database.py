"""Savepoints that are sent with the next statement: they behave like savepoints, and cost no round trip."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import pytest
import sqlalchemy
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

import autoingest.butler.database  # noqa: F401 - its listeners are what is tested
from testing.proxy import Proxy, proxy


@pytest.fixture(scope="module")
def link(postgres_url: str) -> Iterator[Proxy]:
    folder = parse_qs(urlsplit(postgres_url).query)["host"][0]
    with proxy(f"{folder}/.s.PGSQL.5432") as made:
        yield made


FAR = 300.0
"""Round-trip time in milliseconds: what is sent together leaves before the server can have answered the first of it."""


@pytest.fixture
def connection(link: Proxy) -> Iterator[sqlalchemy.Connection]:
    """A connection in a transaction that has a table of its own."""
    engine = sqlalchemy.create_engine(f"postgresql+psycopg://postgres@127.0.0.1:{link.port}/postgres")
    with engine.connect() as made, made.begin() as transaction:
        link.delay(FAR)
        made.execute(text("CREATE TEMPORARY TABLE numbers (n INTEGER PRIMARY KEY) ON COMMIT DROP"))
        link.round_trips()
        yield made
        link.delay(0)
        transaction.rollback()
    engine.dispose()


def insert(connection: sqlalchemy.Connection, *numbers: int) -> None:
    """Insert one number by ``execute``, several by ``executemany``."""
    rows = [{"n": number} for number in numbers]
    connection.execute(text("INSERT INTO numbers VALUES (:n)"), rows if len(rows) > 1 else rows[0])


def found(connection: sqlalchemy.Connection) -> list[int]:
    return list(connection.scalars(text("SELECT n FROM numbers ORDER BY n")))


@pytest.mark.parametrize("numbers", [(1,), (1, 2)])
def test_nested_savepoints_cost_no_round_trip(
    connection: sqlalchemy.Connection, link: Proxy, numbers: tuple[int, ...]
) -> None:
    with connection.begin_nested(), connection.begin_nested():
        insert(connection, *numbers)
    with connection.begin_nested():
        assert found(connection) == list(numbers)
    assert link.round_trips() == 2


def test_one_that_the_server_has_not_seen_is_rolled_back(connection: sqlalchemy.Connection, link: Proxy) -> None:
    insert(connection, 1)
    outer = connection.begin_nested()
    connection.begin_nested().rollback()
    with connection.begin_nested():
        pass
    outer.rollback()
    assert link.round_trips() == 1
    assert found(connection) == [1]


def test_one_that_was_used_is_rolled_back(connection: sqlalchemy.Connection) -> None:
    insert(connection, 1)
    outer = connection.begin_nested()
    insert(connection, 2)
    with connection.begin_nested():
        insert(connection, 3)
    outer.rollback()  # the release of the inner one may still be unsent
    assert found(connection) == [1]


@pytest.mark.parametrize("numbers", [(1,), (2, 1)])
def test_error_keeps_its_class_and_undoes_its_savepoint_alone(
    connection: sqlalchemy.Connection, numbers: tuple[int, ...]
) -> None:
    insert(connection, 1)
    with connection.begin_nested():
        insert(connection, 5)
        with pytest.raises(IntegrityError, match="duplicate key"), connection.begin_nested():
            insert(connection, *numbers)
        insert(connection, 6)
    assert found(connection) == [1, 5, 6]


def test_cursor_on_the_server_comes_after_the_savepoint(connection: sqlalchemy.Connection) -> None:
    savepoint = connection.begin_nested()
    with connection.execution_options(stream_results=True).execute(text("SELECT 7 WHERE TRUE")) as result:
        assert result.scalars().all() == [7]
    connection.execution_options(stream_results=False)
    insert(connection, 1)
    savepoint.rollback()
    assert found(connection) == []


def test_lock_timeout_holds_for_the_transaction_alone(link: Proxy) -> None:
    engine = sqlalchemy.create_engine(f"postgresql+psycopg://postgres@127.0.0.1:{link.port}/postgres")
    with engine.connect() as connection:
        link.delay(FAR)
        assert connection.scalar(text("SHOW lock_timeout")) == "20s"
        connection.commit()
        link.round_trips()
        assert connection.scalar(text("SHOW lock_timeout")) == "20s"
        assert link.round_trips() == 2  # psycopg sends BEGIN on its own
        link.delay(0)
        connection.commit()
        raw = connection.connection.dbapi_connection
        assert raw is not None
        assert raw.cursor().execute("SHOW lock_timeout").fetchone() == ("0",)
    engine.dispose()
