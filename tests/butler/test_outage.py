from __future__ import annotations

import errno
import sqlite3
from pathlib import Path

import pytest
import sqlalchemy

from autoingest.butler.outage import cause, is_outage, outage
from autoingest.errors import ConfigurationError, MetadataError, RefusedError


@pytest.mark.parametrize(
    ("sqlstate", "transient"),
    [*((state, True) for state in (
        "08006", "0A000", "25006", "25P03", "26000", "28000", "28P01", "2BP01", "3D000", "3F000", "40001", "40P01",
        "42501", "42703", "42883", "42P01", "42P05", "42P07", "42P10", "53100", "53200", "53300", "53400", "55000",
        "55P03", "55006", "57014", "57P01", "57P03", "57P05", "58030", "58P01", "F0000", "P0001", "XX000", "XX001",
     )),
     *((state, False) for state in (
        "21000", "22001", "22003", "22021", "22P02", "23502", "23503", "23505", "23514", "42804", "42P18", "54000",
        "25P02",
     ))],
)  # fmt: skip
def test_postgres_errors_are_told_apart_by_sqlstate(postgres_url: str, sqlstate: str, transient: bool) -> None:
    engine = sqlalchemy.create_engine(postgres_url)
    statement = f"DO $$ BEGIN RAISE EXCEPTION 'deadlock detected' USING ERRCODE = '{sqlstate}'; END $$"
    with pytest.raises(sqlalchemy.exc.DBAPIError) as caught, engine.begin() as connection:
        connection.execute(sqlalchemy.text(statement))
    engine.dispose()
    assert is_outage(caught.value) is transient
    wrapped = RuntimeError("something")
    wrapped.__cause__ = caught.value
    assert is_outage(wrapped) is transient


@pytest.mark.parametrize(
    ("sqlstate", "refused"),
    [*((state, False) for state in (
        "08006", "25006", "26000", "28000", "3D000", "3F000", "42501", "42P01", "53100", "53300", "57P01", "57P03",
        "58030",
     )),
     *((state, True) for state in ("40001", "40P01", "55P03", "57014", "P0001", "XX000", "XX001"))],
)  # fmt: skip
def test_an_outage_that_one_file_may_cause_is_a_refusal(postgres_url: str, sqlstate: str, refused: bool) -> None:
    engine = sqlalchemy.create_engine(postgres_url)
    statement = f"DO $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '{sqlstate}'; END $$"
    with pytest.raises(sqlalchemy.exc.DBAPIError) as caught, engine.begin() as connection:
        connection.execute(sqlalchemy.text(statement))
    engine.dispose()
    error = outage(caught.value, "can't be written")
    assert isinstance(error, RefusedError) is refused
    assert str(error).startswith("can't be written: ")


def test_server_that_does_not_answer_is_outage() -> None:
    engine = sqlalchemy.create_engine("postgresql+psycopg://nobody@127.0.0.1:9/none")
    with pytest.raises(sqlalchemy.exc.OperationalError) as caught:
        engine.connect()
    assert is_outage(caught.value)
    assert not isinstance(outage(caught.value, "away"), RefusedError)


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
    assert [is_outage(item.value) for item in (duplicate, missing, locked)] == [False, True, True]


@pytest.mark.parametrize(
    ("number", "outage"),
    [(errno.ENOSPC, True), (errno.EDQUOT, True), (errno.EMFILE, True), (errno.ENFILE, True), (errno.EROFS, True),
     (errno.EIO, True), (errno.ENOMEM, True), (errno.EACCES, True), (errno.ECONNREFUSED, True), (errno.ETIMEDOUT, True),
     (errno.ENAMETOOLONG, False), (errno.ENOENT, False), (errno.EINVAL, False), (errno.EISDIR, False)],
)  # fmt: skip
def test_errors_of_the_machine_are_told_from_those_of_a_name(number: int, outage: bool) -> None:
    assert is_outage(OSError(number, "no")) is outage


@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt(), MemoryError(), RecursionError(), ValueError()])
def test_what_a_library_raises_is_no_outage(error: BaseException) -> None:
    assert not is_outage(error)


def test_what_an_error_was_raised_from_decides() -> None:
    refused = OSError(errno.ENOSPC, "No space left on device")
    told = MetadataError("MJD makes no sense")
    told.__cause__ = refused
    assert not is_outage(told), "what the program says of a file is about the file"
    with pytest.raises(RuntimeError) as caught:  # noqa: PT012
        try:
            raise refused
        except OSError:
            raise RuntimeError("can't write")  # noqa: B904 - as a library does
    assert is_outage(caught.value)
    assert cause(caught.value) == "OSError: [Errno 28] No space left on device"
    assert is_outage(ConfigurationError("butler.yaml has gone"))


def test_cause_is_one_line(postgres_url: str) -> None:
    engine = sqlalchemy.create_engine(postgres_url)
    with pytest.raises(sqlalchemy.exc.DBAPIError) as caught, engine.begin() as connection:
        connection.execute(sqlalchemy.text("SELECT * FROM nowhere"))
    engine.dispose()
    assert cause(caught.value).startswith('UndefinedTable: relation "nowhere" does not exist')
    assert "\n" not in cause(caught.value)
