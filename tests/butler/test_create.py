"""``repo create`` that fails, is killed at any moment, or runs twice at once."""

from __future__ import annotations

import asyncio
import itertools
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy
from lsst.daf.butler import Butler

from autoingest.butler.create import create_repository
from autoingest.butler.native import NativeEngine
from autoingest.dev import embedded
from autoingest.dev.embedded import free_port
from testing import exposures
from testing.postgres import postgres_folder
from testing.s3server import Fault, S3Server

from .contents import outcomes


@pytest.fixture
def database(postgres_url: str) -> Iterator[str]:
    """URL of a new database without ``btree_gist``, as a role that is no superuser."""
    name = f"d{uuid4().hex}"
    execute(postgres_url, f"CREATE ROLE {name} LOGIN", f"CREATE DATABASE {name} OWNER {name}")
    url = sqlalchemy.make_url(postgres_url)
    yield url.set(database=name, username=name).render_as_string(hide_password=False)
    execute(postgres_url, f"DROP DATABASE {name} WITH (FORCE)", f"DROP ROLE {name}")


def execute(url: str, *statements: str) -> None:
    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for statement in statements:
            connection.execute(sqlalchemy.text(statement))


def as_superuser(database: str, postgres_url: str, *statements: str) -> None:
    """Execute statements in a database as the server's superuser."""
    name = sqlalchemy.make_url(database).database
    execute(sqlalchemy.make_url(postgres_url).set(database=name).render_as_string(hide_password=False), *statements)


def command(root: object, *options: str) -> list[str]:
    words = [sys.executable, "-m", "autoingest", "repo", "create", str(root), "--instrument", "LATISS"]
    return [*words, "--instrument", "LSST-TS8", *options]


def create(root: object, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(root, *options), capture_output=True, text=True, timeout=300)


def assert_refused(done: subprocess.CompletedProcess[str], *causes: str) -> None:
    """Check that a command has told why it fails, in one line."""
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert all(cause in done.stderr for cause in causes), done.stderr


def assert_complete(root: object) -> None:
    with Butler.from_config(str(root)) as butler:
        assert len(butler.query_dimension_records("detector", instrument="LATISS")) == 1
        assert len(butler.query_dimension_records("detector", instrument="LSST-TS8")) > 1
        assert set(butler.collections.query("*/raw/all")) == {"LATISS/raw/all", "LSST-TS8/raw/all"}


def test_without_extension(tmp_path: Path, database: str, postgres_url: str) -> None:
    root = tmp_path / "repo"
    assert_refused(create(root, "--registry", database), "btree_gist")
    assert not root.exists()
    as_superuser(database, postgres_url, "CREATE EXTENSION btree_gist")
    done = create(root, "--registry", database)
    assert done.returncode == 0, done.stderr
    assert_complete(root)


def test_without_right_on_the_schema(tmp_path: Path, database: str, postgres_url: str) -> None:
    root = tmp_path / "repo"
    as_superuser(database, postgres_url, "CREATE EXTENSION btree_gist", "CREATE SCHEMA butler")
    assert_refused(create(root, "--registry", database, "--schema", "butler"), "permission denied for schema butler")
    assert not root.exists()
    name = sqlalchemy.make_url(database).username
    as_superuser(database, postgres_url, f"GRANT ALL ON SCHEMA butler TO {name}")
    assert create(root, "--registry", database, "--schema", "butler").returncode == 0
    assert_complete(root)


def test_without_server(tmp_path: Path) -> None:
    root = tmp_path / "repo"
    url = f"postgresql+psycopg://nobody@127.0.0.1:{free_port()}/none"
    assert_refused(create(root, "--registry", url), "Connection refused")
    assert not root.exists()


def test_with_a_wrong_password(tmp_path: Path) -> None:
    with postgres_folder() as folder, embedded.postgres(folder) as url:
        execute(url, "CREATE ROLE butler LOGIN PASSWORD 'correct-horse'")
        (Path(folder) / "pg_hba.conf").write_text("local all butler scram-sha-256\nlocal all all trust\n")
        execute(url, "SELECT pg_reload_conf()")
        wrong = sqlalchemy.make_url(url).set(username="butler", password="battery-staple")
        done = create(tmp_path / "repo", "--registry", wrong.render_as_string(hide_password=False))
    assert_refused(done, "password authentication failed")
    assert "battery" not in done.stderr
    assert not (tmp_path / "repo").exists()


@pytest.mark.parametrize(
    ("options", "cause"),
    [(["--registry", "mysql://x/y"], "mysql"), (["--registry", "nonsense"], "parse"), (["--schema", "s"], "'s'"),
     (["--registry", "postgresql+psycopg://n@nowhere.invalid/x"], "nowhere.invalid")],
)  # fmt: skip
def test_registry_that_is_none(tmp_path: Path, options: list[str], cause: str) -> None:
    assert_refused(create(tmp_path / "repo", *options), cause)


def test_store_that_is_dead(s3_environment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    address = f"127.0.0.1:{free_port()}"
    monkeypatch.setenv("S3_ENDPOINT_URL", f"http://{address}")
    assert_refused(create("s3://bucket/repo"), "s3://bucket/repo", address)


def test_bucket_that_is_none(s3_environment: str) -> None:
    assert_refused(create("s3://no-such-bucket/repo"), "NoSuchBucket")


@pytest.mark.parametrize("code", ["InvalidAccessKeyId", "SignatureDoesNotMatch", "AccessDenied"])
async def test_store_that_refuses_the_credentials(
    s3_environment: str, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    server = S3Server()
    server.buckets["bucket"] = {}
    server.fault = lambda *_: Fault(403, code)
    async with server.run() as url:
        monkeypatch.setenv("S3_ENDPOINT_URL", url)
        assert_refused(await asyncio.to_thread(create, "s3://bucket/repo"), "s3://bucket/repo", code)


def test_dead_database_of_a_repository_in_a_store(s3_bucket: str, s3_client: Any) -> None:
    url = f"postgresql+psycopg://nobody@127.0.0.1:{free_port()}/none"
    assert_refused(create(f"s3://{s3_bucket}/repo", "--registry", url), "Connection refused")
    assert "Contents" not in s3_client.list_objects_v2(Bucket=s3_bucket)


def test_without_right_on_the_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    assert_refused(create(tmp_path / "file" / "repo"), "Not a directory")


def test_registry_of_another_repository(tmp_path: Path, database: str, postgres_url: str) -> None:
    as_superuser(database, postgres_url, "CREATE EXTENSION btree_gist")
    create_repository(str(tmp_path / "one"), registry_url=database, cameras=["LSSTCam"])
    engine = NativeEngine(str(tmp_path / "one"))
    assert outcomes(engine.ingest(exposures.files(1, [94]))) == {"ingested": 1}
    engine.close()
    assert_refused(create(tmp_path / "two", "--registry", database), "holds datasets", "another repository")
    assert not (tmp_path / "two").exists()


@pytest.mark.parametrize("left", ["butler.yaml alone", "empty database"])
def test_what_an_older_version_left_half_made(tmp_path: Path, left: str) -> None:
    root = tmp_path / "repo"
    create_repository(str(root), cameras=[])
    (root / "gen3.sqlite3").unlink()
    if left == "empty database":
        (root / "gen3.sqlite3").touch()
    assert create(root).returncode == 0
    assert_complete(root)


@contextmanager
def own_schema(postgres_url: str) -> Iterator[str]:
    schema = f"s{uuid4().hex}"
    execute(postgres_url, f"CREATE SCHEMA {schema}")
    try:
        yield schema
    finally:
        execute(postgres_url, f"DROP SCHEMA {schema} CASCADE")


FORKS = multiprocessing.get_context("forkserver")
"""Forks from a process without threads: a fork of this one may inherit a lock that nobody releases."""
FORKS.set_forkserver_preload(["autoingest.butler.create"])


def create_and_die(environment: dict[str, str], statement: int, root: str, url: str | None, schema: str | None) -> None:
    """Make a repository, and kill this process at its n-th statement."""
    os.environ.update(environment)
    numbers = itertools.count(1)

    def kill(*_: object) -> None:
        if next(numbers) == statement:
            os.kill(os.getpid(), signal.SIGKILL)

    sqlalchemy.event.listen(sqlalchemy.Engine, "before_cursor_execute", kill)
    sqlalchemy.event.listen(sqlalchemy.Engine, "commit", kill)
    create_repository(root, registry_url=url, schema=schema, cameras=["LATISS", "LSST-TS8"])


def killed_at(statement: int, root: str, url: str | None, schema: str | None) -> bool:
    """Make a repository in a process that is killed at its n-th statement; return whether it was."""
    process = FORKS.Process(target=create_and_die, args=(dict(os.environ), statement, root, url, schema))
    process.start()
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode != 0


@pytest.mark.parametrize("kind", ["sqlite", "postgres", "s3"])
def test_killed_at_any_moment(tmp_path: Path, request: pytest.FixtureRequest, kind: str) -> None:
    """Whenever it is killed, the same command succeeds afterwards."""
    url = None if kind == "sqlite" else request.getfixturevalue("postgres_url")
    bucket = request.getfixturevalue("s3_bucket") if kind == "s3" else ""
    kills = 0
    for number in (1, 2, 3, 5, 8, 13, 21, 34, 55, 70, 89, 110, 144, 180, 233, 300, 377, 480, 610):
        root = f"s3://{bucket}/repo{number}" if bucket else str(tmp_path / f"repo{number}")
        with own_schema(url) if url else _nothing() as schema:
            if not killed_at(number, root, url, schema):
                break
            kills += 1
            for _ in range(2):
                create_repository(root, registry_url=url, schema=schema, cameras=["LATISS", "LSST-TS8"])
            assert_complete(root)
    assert kills > 5


@contextmanager
def _nothing() -> Iterator[None]:
    yield None


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_two_at_once(tmp_path: Path, request: pytest.FixtureRequest, kind: str) -> None:
    url = "" if kind == "sqlite" else request.getfixturevalue("postgres_url")
    for number in range(2):
        root = tmp_path / f"repo{number}"
        with own_schema(url) if url else _nothing() as schema:
            options = ["--registry", url, "--schema", str(schema)] if url else []
            both = [
                subprocess.Popen(command(root, *options), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
                for _ in range(2)
            ]
            told = [process.communicate(timeout=300)[1] for process in both]
            assert [process.returncode for process in both] == [0, 0], told
            assert_complete(root)


def test_instruments_registered_by_several_at_once(bare: Any, tmp_path: Path) -> None:
    """Instruments, dataset types, runs and visit systems, by processes that begin at the same moment."""
    create_repository(bare.root, registry_url=bare.registry_url, schema=bare.schema, cameras=[])
    script = """
import sys, time
from autoingest.butler.native import NativeEngine
from autoingest.butler.register import register
engine = NativeEngine(sys.argv[1], "one-to-one-and-by-counter")
engine.connect()
print("ready", flush=True)
sys.stdin.readline()
register(sys.argv[1], ["LSSTCam", "LATISS"])
assert engine.connect().prepare("LSSTCam")
assert engine.connect().prepare("LATISS")
engine.close()
"""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script, bare.root],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for _ in range(4)
    ]  # fmt: skip
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n", process.communicate()
    told = []
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        told.append(process.communicate(timeout=300)[1])
    assert [process.returncode for process in processes] == [0] * 4, "\n".join(told)
    with Butler.from_config(bare.root) as butler:
        systems = butler.query_dimension_records("visit_system", instrument="LSSTCam")
        assert {record.name for record in systems} == {"one-to-one", "by-seq-start-end"}
