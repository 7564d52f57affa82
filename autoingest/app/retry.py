"""Back-off between attempts; pauses and work that end early when the process stops."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any


async def pause(stop: asyncio.Event, seconds: float) -> None:
    """Sleep for `seconds`, or until `stop` is set."""
    with suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)


async def end(task: asyncio.Task[Any]) -> None:
    """Cancel a task repeatedly until it has ended, since redis-py and asyncio sometimes lose a cancellation."""
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=0.1)


async def unless(stopping: asyncio.Task[Any], work: Coroutine[Any, Any, None], grace: float = 0.0) -> bool:
    """Do some work, but end it when the process stops.

    Parameters
    ----------
    stopping
        Task that ends when the process stops.
    work
        Cancelled if it is not done by then.
    grace
        Seconds that the work may take after the stop.

    Returns
    -------
    go_on
        Whether the work is done and the process is not stopping.
    """
    task = asyncio.create_task(work)
    try:
        await asyncio.wait({task, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done() and grace:
            await asyncio.wait({task}, timeout=grace)
    finally:
        await end(task)
    if task.cancelled():
        return False
    task.result()
    return not stopping.done()


class Backoff:
    """Pauses that double from `first` to `last` seconds, each shortened at random by up to a half.

    The jitter keeps many workers from coming back at the same instant.
    """

    def __init__(self, first: float = 0.5, last: float = 30.0) -> None:
        self._first = first
        self._last = last
        self._attempts = 0

    def next(self) -> float:
        """Length of the next pause, in seconds."""
        longest = min(self._last, self._first * 2.0**self._attempts)
        self._attempts += 1
        return longest * random.uniform(0.5, 1.0)  # noqa: S311 - no cryptography

    def reset(self) -> None:
        """Start again from `first`, after a success."""
        self._attempts = 0
