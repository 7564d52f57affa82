"""What the operators' commands share: options, the site's configuration, Redis and progress."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import click
import redis.asyncio
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from ..app.config import CONFIG_VARIABLE, Config
from ..app.log import configure_logging
from ..app.secrets import strip_foreign_secrets
from ..dev.environment import CONFIG_FILE, DEVELOPMENT_DATA, use_environment
from ..errors import ConfigurationError, TransientError
from ..model.buckets import name_on_server
from ..queue.connection import REDIS_AWAY, cause, connect
from .output import console

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


def day(text: str) -> str:
    """Return an observing day as ``YYYYMMDD``; ``YYYY-MM-DD`` is accepted, too."""
    digits = text.replace("-", "") if re.fullmatch(r"\d{4}-\d\d-\d\d", text) else text
    try:
        known = f"{datetime.strptime(digits, '%Y%m%d'):%Y%m%d}"
    except ValueError:
        known = ""
    if not known or known != digits:
        raise click.BadParameter(f"{text!r} is not an observing day such as 20251231 or 2025-12-31")
    return digits


def _find_config(_: click.Context, __: click.Parameter, value: Path | None) -> Path:
    """Return the configuration that was named, else that of a development set-up that runs in this folder."""
    if value is not None:
        return value
    development = DEVELOPMENT_DATA / CONFIG_FILE
    if development.exists():
        return development
    raise click.UsageError(
        f"say which site: give --config FILE, or set {CONFIG_VARIABLE}; no development set-up (autoingest run) is"
        f" running in ./{DEVELOPMENT_DATA}"
    )


config_option: Callable[[F], F] = click.option(
    "--config", "config_file", envvar=CONFIG_VARIABLE, type=click.Path(path_type=Path), callback=_find_config,
    help=f"The site's YAML file. Default: {CONFIG_VARIABLE}, else the development set-up in ./{DEVELOPMENT_DATA}.",
)  # fmt: skip
bucket_option: Callable[[F], F] = click.option(
    "--bucket", metavar="BUCKET", help="Only this bucket, as the configuration names it; by default all."
)
json_option: Callable[[F], F] = click.option(
    "--json", "as_json", is_flag=True, help="Print the result as JSON, and no progress."
)


def load(config_file: Path) -> Config:
    """Load the site's configuration; what is logged from now on are warnings, on stderr."""
    use_environment(config_file.parent)
    strip_foreign_secrets()
    config = Config.from_file(config_file)
    configure_logging(config.logging.model_copy(update={"level": "WARNING", "format": "console"}))
    return config


def chosen(config: Config, bucket: str | None, others: Sequence[str] = ()) -> list[str]:
    """Return the buckets that are meant.

    Raises
    ------
    ConfigurationError
        If the site has no such bucket.
    """
    known = [*config.buckets, *others]
    if bucket is None:
        return known
    for name in known:
        if bucket in (name, name_on_server(name)):
            return [name]
    raise ConfigurationError(f"bucket {bucket!r} is not configured; the configured buckets are {', '.join(known)}")


@asynccontextmanager
async def open_redis(config: Config) -> AsyncIterator[redis.asyncio.Redis]:
    """Connect to Redis.

    Raises
    ------
    TransientError
        If it does not answer, now or later.
    """
    client = connect(config.redis)
    try:
        await client.ping()
        yield client
    except REDIS_AWAY as err:
        where = config.redis.url.rpartition("@")[2]
        raise TransientError(
            f"Redis at {where} is not available: {cause(err)}; check redis.url, AUTOINGEST_REDIS_PASSWORD and "
            "the log of that server"
        ) from err
    finally:
        await client.aclose()


def progress(disable: bool) -> Progress:
    """Return a progress display on stderr."""
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[text]}", markup=False),
        TimeElapsedColumn(),
        console=console(stderr=True),
        transient=True,
        disable=disable,
    )


def moment(seconds: float | None) -> str:
    """Return a time for people, UTC."""
    return "" if seconds is None else f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}"
