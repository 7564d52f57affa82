"""A pooler in front of PostgreSQL."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy

from autoingest.dev import embedded

from .requirements import missing
from .waiting import wait_for


def find() -> str | None:
    """Return the pooler's program, if it is installed."""
    return shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


@contextmanager
def pgbouncer(url: str) -> Iterator[str]:
    """Run a pooler in transaction mode, with fewer connections than it has clients; yield the URL through it."""
    program = find()
    if program is None:
        missing("pgbouncer", "install Debian's package pgbouncer")
    server = sqlalchemy.make_url(url)
    host = server.host or server.query.get("host")
    port = embedded.free_port()
    with tempfile.TemporaryDirectory(prefix="autoingest-pgbouncer-") as folder:
        Path(folder).chmod(0o755)
        users = Path(folder) / "users.txt"
        users.write_text(f'"{server.username}" "{server.password or ""}"\n')
        settings = Path(folder) / "pgbouncer.ini"
        settings.write_text(
            f"[databases]\n* = host={host} port={server.port or 5432}\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = trust\n"
            f"auth_file = {users}\npool_mode = transaction\ndefault_pool_size = 3\n"
        )
        # The server's socket is open to its own user alone; and the pooler does not run as root.
        owner = Path(str(host)).stat().st_uid if os.geteuid() == 0 else None
        log = Path(folder) / "log"
        with log.open("wb") as output:
            process = subprocess.Popen([program, str(settings)], stderr=output, user=owner)
        through = server.set(host="127.0.0.1", port=port, query={}).render_as_string(hide_password=False)
        try:
            wait_for(lambda: process.poll() is not None or _answers(through), "the pooler")
            assert process.poll() is None, log.read_text()
            yield through
        finally:
            process.kill()
            process.wait()


def _answers(url: str) -> bool:
    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
    try:
        with engine.connect():
            return True
    except sqlalchemy.exc.OperationalError:
        return False
