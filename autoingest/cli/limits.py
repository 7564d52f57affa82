"""Time limits of commands."""

from __future__ import annotations

import asyncio
import os
import re
import threading
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, TypeVar, cast

import click

from ..errors import TransientError
from .output import echo

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

GRACE = 5.0
"""Seconds after the timeout until a command that has not ended is killed."""

_TIMEOUT = "autoingest.timeout"
_TOO_LONG = "gave up after {:g} s; changes made so far are kept. Use --timeout to allow more time"

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def duration(text: str) -> float:
    """Return the seconds of ``90s``, ``30m``, ``6h`` or ``2d``."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text)
    if match is None:
        raise click.BadParameter(f"{text!r} is not a duration such as 90s, 30m, 6h or 2d")
    return float(match[1]) * _UNITS[match[2]]


def timeout_option(default: str) -> Callable[[F], F]:
    """Make the option that limits a command's time, whatever it waits for."""

    def keep(context: click.Context, _: click.Parameter, seconds: float) -> None:
        context.meta[_TIMEOUT] = seconds

    option = click.option(
        "--timeout", type=duration, default=default, show_default=True, metavar="TIME", callback=keep,
        expose_value=False, help="Give up after this time, such as 90s, 30m or 6h.",
    )  # fmt: skip

    def decorate(command: F) -> F:
        @wraps(command)
        def limited(*args: Any, **options: Any) -> Any:
            seconds: float = click.get_current_context().meta[_TIMEOUT]
            timer = threading.Timer(seconds + GRACE, _kill, (seconds,))
            timer.daemon = True
            timer.start()
            try:
                return command(*args, **options)
            finally:
                timer.cancel()

        return option(cast(F, limited))

    return decorate


def _kill(seconds: float) -> None:
    echo(f"autoingest: {_TOO_LONG.format(seconds)}", err=True)
    os._exit(2)


def run(work: Coroutine[Any, Any, T], timeout: float | None = None) -> T:
    """Run a command's work.

    Parameters
    ----------
    work
        What is done.
    timeout
        Seconds; by default what `timeout_option` was given.

    Raises
    ------
    TransientError
        If it is not done in time.
    """
    seconds: float = timeout or click.get_current_context().meta[_TIMEOUT]

    async def limited() -> T:
        try:
            async with asyncio.timeout(seconds) as limit:
                return await work
        except TimeoutError:
            if limit.expired():
                raise TransientError(_TOO_LONG.format(seconds)) from None
            raise

    return asyncio.run(limited())
