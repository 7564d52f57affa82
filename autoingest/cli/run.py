"""``autoingest run``."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import ExitStack
from pathlib import Path

import click
import uvloop

from ..app.config import CONFIG_VARIABLE, ROLES, Config, Role
from ..app.secrets import strip_foreign_secrets
from ..dev.environment import DEVELOPMENT_DATA, S3_ENVIRONMENT
from ..errors import ConfigurationError
from ..store.profiles import ENDPOINT
from .output import echo


@click.command(context_settings={"show_default": True})
@click.option("--config", "config_file", envvar=CONFIG_VARIABLE, type=click.Path(path_type=Path),
              help=f"YAML file; by default the one that {CONFIG_VARIABLE} names. Without either, a development set-up "
              "with its own servers is started; its data is in ./autoingest-data.")  # fmt: skip
@click.option("--port", type=click.IntRange(1, 65531), default=8000, help="Port for notifications in the development "
              "set-up; presence, health, events and status use the next four.")  # fmt: skip
@click.option("--roles", help="Comma-separated subset of enqueue,ingest,idle,presence,events,reconcile,status; by "
              "default as in the configuration.")  # fmt: skip
@click.option("--once", is_flag=True, help="End when all work is done.")
def run(config_file: Path | None, port: int, roles: str | None, once: bool) -> None:
    """Run roles until SIGTERM or Ctrl-C.

    With --once, the program ends when nothing is queued, in work or waiting for a retry. Guider images that wait for
    their exposures may remain; they are logged, and the exit code is still 0. If a queue belongs to another repository,
    the exit code is 2 once the other queues are empty.

    The first signal shuts down gracefully: work in progress is finished, and listeners close last. A second signal
    kills the process. Exit codes: 0 after a graceful shutdown; 143 if SIGTERM arrives before the start is complete; 1
    after an internal error, which the last line describes; 2 for an invalid configuration.

    \b
    Examples:
        autoingest run
        autoingest run --config summit.yaml --roles enqueue
        autoingest run --config summit.yaml --once
    """  # noqa: D301 - click's mark is a real backspace
    with ExitStack() as stack:
        if config_file is None:
            from ..app.config import LoggingConfig
            from ..app.log import configure_logging
            from ..dev.setup import development

            configure_logging(LoggingConfig(format="console", level="WARNING"))
            config = stack.enter_context(development(DEVELOPMENT_DATA, first_port=port))
            keys = " ".join(f"{name}={value}" for name, value in S3_ENVIRONMENT.items())
            store = os.environ[ENDPOINT]
            echo(_DEVELOPMENT.format(config=config, data=DEVELOPMENT_DATA, store=store, keys=keys), err=True)
        else:
            config = Config.from_file(config_file)
        strip_foreign_secrets()
        names = _roles(roles) if roles else config.roles
        sys.exit(uvloop.run(_serve(config, names, once)))


_DEVELOPMENT = """\
Development set-up in ./{data}, kept between runs:
  notifications  POST http://127.0.0.1:{config.enqueue.listen.port}/notify
  presence       GET  http://127.0.0.1:{config.presence.listen.port}/presence/LSSTCam/GROUP/SNAP/R22_S11
  events         GET  http://127.0.0.1:{config.events.listen.port}/events
  status page    http://127.0.0.1:{config.status.listen.port}/
  health         GET  http://127.0.0.1:{config.admin.listen.port}/readyz
  store          {store}, bucket {config.buckets[0]}
  repository     {config.ingest.repo}
  configuration  {data}/config.yaml, which commands such as `autoingest queue status` find in this folder
Send it an exposure from another terminal:  autoingest simulate
Before Python or `butler` reads the images of the repository there:
  export S3_ENDPOINT_URL={store} {keys}
Stop it with Ctrl-C.
"""


def _roles(text: str) -> tuple[Role, ...]:
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in ROLES:
            raise ConfigurationError(f"--roles: {name!r} is not a role; the roles are {', '.join(ROLES)}")
    return tuple(role for role in ROLES if role in names)


async def _serve(config: Config, names: tuple[Role, ...], once: bool) -> int:
    from ..app.daemon import serve, stop_on_signal
    from ..app.descriptors import fit, raise_limit
    from ..app.log import configure_logging

    configure_logging(config.logging)
    stop = asyncio.Event()
    with stop_on_signal(stop):
        return await serve(fit(config, names, raise_limit()), names, stop, once=once)
