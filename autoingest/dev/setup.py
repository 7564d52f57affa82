"""A whole site in one folder, for development and demonstrations: Valkey, S3 and a SQLite repository."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import yaml

from ..app.config import DEFAULT_ROLES, Config
from ..errors import ConfigurationError
from . import embedded
from .environment import CONFIG_FILE, NOTIFY_URL, S3_ENVIRONMENT

BUCKET = "rubin-summit"


@contextmanager
def development(data: Path, *, first_port: int | None, quiet: bool = False) -> Iterator[Config]:
    """Run the servers of a site, and create its repository if it does not exist.

    The environment of this process is set so that it and its children reach the store.

    Parameters
    ----------
    data
        Folder for everything; its content is kept between runs.
    first_port
        Port for notifications; presence, health, events and status take the next four. `None` chooses free ones.
    quiet
        Whether only warnings are logged.

    Yields
    ------
    config
        Configuration for all roles.

    Raises
    ------
    ConfigurationError
        If another set-up runs in the folder, a port is in use, or a server does not start.
    """
    from ..butler.create import create_repository

    # Nobody else may read what the servers and this process write here, whatever the umask of the shell.
    with ExitStack() as stack:
        stack.callback(os.umask, os.umask(0o077))
        data.mkdir(parents=True, exist_ok=True)
        stack.enter_context(_alone(data))
        embedded.keep_private(data)
        notify_port, presence_port, admin_port, events_port, status_port = _ports(first_port)
        redis_url = stack.enter_context(embedded.valkey(data / "valkey"))
        endpoint = stack.enter_context(embedded.s3(data / "s3", buckets=[BUCKET]))
        os.environ.update(S3_ENVIRONMENT, S3_ENDPOINT_URL=endpoint)
        repo = data / "repo"
        create_repository(str(repo))
        document = {
            "buckets": [BUCKET],
            "roles": [*DEFAULT_ROLES, "status"],
            "logging": {"format": "console", "level": "WARNING" if quiet else "INFO"},
            "redis": {"url": redis_url},
            "enqueue": {"listen": {"host": "127.0.0.1", "port": notify_port}},
            "ingest": {"repo": str(repo)},
            "idle": {"interval": 1.0},
            "presence": {"listen": {"host": "127.0.0.1", "port": presence_port}, "unauthenticated": True},
            "events": {"listen": {"host": "127.0.0.1", "port": events_port}, "unauthenticated": True},
            "status": {"listen": {"host": "127.0.0.1", "port": status_port}, "unauthenticated": True},
            "admin": {"listen": {"host": "127.0.0.1", "port": admin_port}},
        }
        if first_port is not None:
            files = {NOTIFY_URL: f"http://127.0.0.1:{notify_port}/notify", CONFIG_FILE: yaml.safe_dump(document)}
            for name, text in files.items():
                (data / name).write_text(text)
                stack.callback((data / name).unlink, missing_ok=True)
        yield Config.from_dict(document, "development set-up")


@contextmanager
def _alone(data: Path) -> Iterator[None]:
    """Hold the folder's lock: two servers writing the same files would corrupt them."""
    with (data / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigurationError(
                f"a development set-up runs in {data.absolute()} already; end it, or start this one in another folder"
            ) from None
        yield


def _ports(first: int | None) -> tuple[int, int, int, int, int]:
    """Choose the listeners' ports before anything starts, so that a port in use is reported at once."""
    if first is None:
        return 0, 0, 0, 0, 0
    for port in range(first, first + 5):
        if embedded.listens(port):
            raise ConfigurationError(
                f"port {port} is in use; stop the program that listens there, or use other ports: "
                f"autoingest run --port {first + 1000} uses {first + 1000} to {first + 1004}"
            )
    return first, first + 1, first + 2, first + 3, first + 4
