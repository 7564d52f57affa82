from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
import sqlalchemy

from autoingest.butler.transient import is_transient


@pytest.mark.parametrize(
    ("sqlstate", "transient"),
    [("40P01", True), ("40001", True), ("53300", True), ("57P03", True), ("25006", True), ("08006", True),
     ("23505", False), ("22001", False), ("42P01", False)],
)  # fmt: skip
def test_postgres_errors_are_told_apart_by_sqlstate(postgres_url: str, sqlstate: str, transient: bool) -> None:
    engine = sqlalchemy.create_engine(postgres_url)
    statement = f"DO $$ BEGIN RAISE EXCEPTION 'deadlock detected' USING ERRCODE = '{sqlstate}'; END $$"
    with pytest.raises(sqlalchemy.exc.DBAPIError) as caught, engine.begin() as connection:
        connection.execute(sqlalchemy.text(statement))
    engine.dispose()
    assert is_transient(caught.value) is transient
    wrapped = RuntimeError("something")
    wrapped.__cause__ = caught.value
    assert is_transient(wrapped) is transient


def test_server_that_does_not_answer_is_transient() -> None:
    engine = sqlalchemy.create_engine("postgresql+psycopg://nobody@127.0.0.1:9/none")
    with pytest.raises(sqlalchemy.exc.OperationalError) as caught:
        engine.connect()
    assert is_transient(caught.value)


def test_sqlite_errors_are_told_apart_by_code(tmp_path: Path) -> None:
    file = tmp_path / "data.sqlite3"
    holder = sqlite3.connect(file)
    holder.execute("CREATE TABLE t (a INTEGER PRIMARY KEY)")
    holder.execute("INSERT INTO t VALUES (1)")
    holder.commit()
    engine = sqlalchemy.create_engine(f"sqlite:///{file}", connect_args={"timeout": 0})
    with pytest.raises(sqlalchemy.exc.IntegrityError) as duplicate, engine.begin() as connection:
        connection.execute(sqlalchemy.text("INSERT INTO t VALUES (1)"))
    with pytest.raises(sqlalchemy.exc.OperationalError) as missing, engine.begin() as connection:
        connection.execute(sqlalchemy.text("INSERT INTO nowhere VALUES (1)"))
    holder.execute("BEGIN EXCLUSIVE")
    with pytest.raises(sqlalchemy.exc.OperationalError) as locked, engine.begin() as connection:
        connection.execute(sqlalchemy.text("INSERT INTO t VALUES (2)"))
    engine.dispose()
    holder.close()
    assert [is_transient(item.value) for item in (duplicate, missing, locked)] == [False, False, True]
