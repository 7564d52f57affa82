"""Redis and the Butler's database killed, stopped, full and overloaded while exposures come in."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psutil
import psycopg
import pytest

from autoingest.butler.create import create_repository
from testing.chaos import Chaos, PostgresServer
from testing.requirements import missing
from testing.waiting import wait_for

from .conftest import Open

ALL = "enqueue,ingest,idle"


@pytest.mark.short
def test_redis_killed_and_restarted(chaos: Chaos) -> None:
    chaos.start(ALL)
    chaos.camera.start()
    for _ in chaos.moments(2 * chaos.repeat):
        chaos.redis.kill()
        chaos.fault("SIGKILL of Redis")
        chaos.redis.start()
    chaos.finish()


def test_redis_stopped(chaos: Chaos) -> None:
    """Redis takes connections, and answers later than its clients wait for."""
    chaos.start(ALL)
    chaos.camera.start()
    for number in chaos.moments(chaos.repeat):
        if number % 2:
            with chaos.client as client:
                client.client_pause(3000)
            chaos.fault("CLIENT PAUSE of 3 s")
        else:
            with chaos.stopped(psutil.Process(chaos.redis.pid), "SIGSTOP of Redis"):
                wait_for(lambda: "redis away" in chaos.site.logs(), "the outage is noticed")
    chaos.finish()


@pytest.fixture
def on_postgres(open_chaos: Open, postgres: PostgresServer, tmp_path: Path) -> Chaos:
    repo = str(tmp_path / "repo")
    create_repository(repo, registry_url=postgres.url, cameras=["LSSTCam"])
    return open_chaos(repo)


def test_postgres_killed_and_restarted(on_postgres: Chaos, postgres: PostgresServer) -> None:
    chaos = on_postgres
    chaos.start(ALL)
    chaos.camera.start()
    for _ in chaos.moments(chaos.repeat):
        postgres.kill()
        chaos.fault("SIGKILL of PostgreSQL")
        postgres.start()
    chaos.finish()


def test_postgres_cuts_connections(on_postgres: Chaos, postgres: PostgresServer) -> None:
    chaos = on_postgres
    chaos.start(ALL, "ingest")
    chaos.camera.start()
    with postgres.connect() as connection:
        for _ in chaos.moments(5 * chaos.repeat):
            cut = connection.execute(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
            ).fetchone()
            assert cut is not None
            chaos.fault("connections cut", int(str(cut[0])))
    chaos.finish()


def test_postgres_out_of_connections(on_postgres: Chaos, postgres: PostgresServer) -> None:
    chaos = on_postgres
    with ExitStack() as hogs:
        with suppress(psycopg.OperationalError):
            while True:
                hogs.enter_context(postgres.connect())
        chaos.start("enqueue,idle")
        ingest = chaos.start("ingest", ready=False)[0]
        chaos.camera.start()
        chaos.fault("PostgreSQL out of connections")
        wait_for(lambda: "too many clients" in chaos.log(ingest), "ingest is told")
        chaos.camera.join()
        assert chaos.ingested() == 0
    chaos.finish()


def assert_held(log: str, error: str) -> None:
    """Check that a whole batch was kept for an error, and tried again without an attempt used up."""
    assert [line for line in log.splitlines() if "batch held" in line and error in line]
    assert "batch divided" not in log


def test_postgres_deadlock(on_postgres: Chaos, postgres: PostgresServer) -> None:
    """Two transactions wait for each other, and PostgreSQL ends that of ingest."""
    chaos = on_postgres
    worker = chaos.start(ALL)[0]
    with postgres.connect() as connection, postgres.connect() as observer:
        connection.execute("SET deadlock_timeout = '60s'")
        with connection.transaction():
            connection.execute("LOCK TABLE file_datastore_records IN ACCESS EXCLUSIVE MODE")
            chaos.camera.start()
            waiting = "SELECT 1 FROM pg_locks WHERE NOT granted AND pid <> pg_backend_pid()"
            wait_for(lambda: observer.execute(waiting).fetchone(), "ingest waits for the table")
            connection.execute("LOCK TABLE exposure IN ACCESS EXCLUSIVE MODE")
            chaos.fault("deadlock")
    chaos.settle()
    assert_held(chaos.log(worker), "DeadlockDetected")
    chaos.finish()


def test_postgres_serialization_failure(on_postgres: Chaos, postgres: PostgresServer) -> None:
    """What ingest has read is changed by somebody who has not seen what it writes: PostgreSQL lets one of them fail."""
    chaos = on_postgres
    with postgres.connect() as connection, postgres.connect() as other:
        connection.execute("ALTER ROLE CURRENT_USER SET default_transaction_isolation = 'serializable'")
        worker = chaos.start(ALL)[0]
        with connection.transaction():
            connection.execute("LOCK TABLE file_datastore_records IN ACCESS EXCLUSIVE MODE")
            chaos.camera.start()
            waiting = "SELECT 1 FROM pg_locks WHERE NOT granted AND pid <> pg_backend_pid()"
            wait_for(lambda: other.execute(waiting).fetchone(), "ingest waits for the table")
            other.execute("SET default_transaction_isolation = 'serializable'")
            with other.transaction():
                other.execute("SELECT count(*) FROM exposure")
                other.execute("UPDATE instrument SET class_name = class_name")
            chaos.fault("serialization failure")
    chaos.settle()
    assert_held(chaos.log(worker), "SerializationFailure")
    chaos.finish()


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """Mount a disk of the given size."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(command, capture_output=True).returncode:
        missing("mount", "a small disk needs root and the right to mount")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_disk_full_under_sqlite(open_chaos: Open, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "64m") as disk:
        chaos = open_chaos(str(disk / "repo"))
        create_repository(str(disk / "repo"), cameras=["LSSTCam"])
        worker = chaos.start(ALL)[0]
        ballast = disk / "ballast"
        with suppress(OSError), ballast.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        chaos.fault("disk full")
        chaos.camera.start()
        wait_for(lambda: "batch held" in chaos.log(worker), "the batch is held")
        chaos.camera.join()
        ballast.unlink()
        chaos.finish()
        chaos.site.close()
