"""What operators and other sessions do to the Butler's database while exposures come in."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import sqlalchemy

from autoingest.butler.create import create_repository
from testing.chaos import Chaos, Member, PostgresServer
from testing.pgbouncer import pgbouncer
from testing.waiting import wait_for

from .conftest import Open

ALL = "enqueue,ingest,idle"


@pytest.fixture
def as_role(open_chaos: Open, postgres: PostgresServer, tmp_path: Path) -> Chaos:
    """A site whose ingest is a role with rights that can be revoked."""
    repo = tmp_path / "repo"
    with postgres.connect() as connection:
        connection.execute("CREATE ROLE ingest LOGIN")
        connection.execute("CREATE SCHEMA butler")
    create_repository(str(repo), registry_url=postgres.url, schema="butler", cameras=["LSSTCam"])
    grant(postgres)
    url = sqlalchemy.make_url(postgres.url).set(username="ingest").render_as_string(hide_password=False)
    file = repo / "butler.yaml"
    file.write_text(file.read_text().replace(postgres.url, url))
    return open_chaos(str(repo))


def grant(postgres: PostgresServer) -> None:
    with postgres.connect() as connection:
        connection.execute("GRANT ALL ON SCHEMA butler TO ingest")
        connection.execute("GRANT ALL ON ALL TABLES IN SCHEMA butler TO ingest")
        connection.execute("GRANT ALL ON ALL SEQUENCES IN SCHEMA butler TO ingest")


def readiness(chaos: Chaos, member: Member) -> str:
    """What ``/readyz`` says."""
    try:
        with urllib.request.urlopen(
            f"http://127.0.0.1:{chaos.site.admin_ports[member.index]}/readyz", timeout=30
        ) as response:
            return str(response.read().decode())
    except urllib.error.HTTPError as err:
        return err.read().decode()


def held(chaos: Chaos, member: Member, cause: str) -> None:
    """Wait until ingest holds its batches for a cause, which log and readiness tell, and go on until all is queued."""
    wait_for(lambda: cause in readiness(chaos, member), f"it says {cause}")
    chaos.camera.join()
    lines = [line for line in chaos.log(member).splitlines() if "batch held" in line]
    assert any(cause in line for line in lines)
    assert "file failed" not in chaos.log(member)


def test_privilege_revoked(as_role: Chaos, postgres: PostgresServer) -> None:
    chaos = as_role
    worker = chaos.start(ALL)[0]
    wait_for(lambda: not json.loads(readiness(chaos, worker))["troubles"], "the repository is open")
    with postgres.connect() as connection:
        connection.execute("REVOKE INSERT ON ALL TABLES IN SCHEMA butler FROM ingest")
        chaos.camera.start()
        chaos.fault("privilege revoked")
        held(chaos, worker, "InsufficientPrivilege: permission denied for table")
        chaos.kill_butler(worker)  # the next one finds the repository as it is
        connection.execute("REVOKE ALL ON SCHEMA butler FROM ingest")
        wait_for(lambda: "schema butler" in readiness(chaos, worker), "it can't even be opened")
    grant(postgres)
    chaos.finish()


def test_schema_renamed_away(as_role: Chaos, postgres: PostgresServer) -> None:
    chaos = as_role
    worker = chaos.start(ALL)[0]
    wait_for(lambda: not json.loads(readiness(chaos, worker))["troubles"], "the repository is open")
    with postgres.connect() as connection:
        connection.execute("ALTER SCHEMA butler RENAME TO elsewhere")
        chaos.camera.start()
        chaos.fault("schema renamed away")
        held(chaos, worker, "butler")
        connection.execute("ALTER SCHEMA elsewhere RENAME TO butler")
    chaos.finish()


def test_lock_held(as_role: Chaos, postgres: PostgresServer) -> None:
    """Another session keeps a table: the batches wait, give way, and leave no server processes behind."""
    chaos = as_role
    worker = chaos.start(ALL)[0]
    wait_for(lambda: not json.loads(readiness(chaos, worker))["troubles"], "the repository is open")
    with postgres.connect() as connection, postgres.connect() as observer, connection.transaction():
        connection.execute("LOCK TABLE butler.exposure IN ACCESS EXCLUSIVE MODE")
        chaos.camera.start()
        chaos.fault("lock held")
        held(chaos, worker, "LockNotAvailable")
        wait_for(lambda: chaos.log(worker).count("batch held") > 3, "several batches have given way")
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        row = observer.execute(waiting).fetchone()
        assert row is not None
        assert int(str(row[0])) <= 1
    chaos.finish()


def test_pgbouncer_in_transaction_mode(open_chaos: Open, postgres: PostgresServer, tmp_path: Path) -> None:
    """No statement or setting of one session reaches another that the pooler puts on the same server process."""
    with pgbouncer(postgres.url) as url:
        repo = str(tmp_path / "repo")
        create_repository(repo, registry_url=url, cameras=["LSSTCam"])
        chaos = open_chaos(repo)
        chaos.start(ALL, "ingest", "ingest")
        chaos.fault("pooled connections")
        chaos.camera.start()
        chaos.finish()
        chaos.site.close()
        engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
        for _ in range(6):
            with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as through:
                assert through.exec_driver_sql("SHOW lock_timeout").scalar() == "0"
                assert through.exec_driver_sql("SELECT count(*) FROM pg_prepared_statements").scalar() == 0
        engine.dispose()
        assert "prepared statement" not in chaos.site.logs()
