"""Following a stream of events, for any number of readers; positions in it, and gaps."""

from __future__ import annotations

import asyncio
import re
from bisect import bisect_right
from collections import deque
from contextlib import suppress
from itertools import islice
from typing import Any

import redis.asyncio
import structlog

from ..app.retry import Backoff, pause
from ..model.events import Event
from .connection import REDIS_AWAY, health

BLOCK_MS = 1000
"""Milliseconds for which one call waits for events."""

AT_ONCE = 500
"""Events that are read in one call."""

REMEMBERED = 2000
"""Number of the newest events that are kept in memory for readers that are almost up to date."""

LASTS = 5.0
"""Seconds for which a failed call counts as an outage of Redis."""

BEGINNING = "0-0"
"""Position before all events."""

_POSITION = re.compile(r"\d{1,15}(-\d{1,9})?")

log = structlog.get_logger(__name__)


def is_position(text: str) -> bool:
    """Return whether a text has the form of a position."""
    return _POSITION.fullmatch(text) is not None


def order(position: str) -> tuple[int, int]:
    """Return a key by which positions are compared."""
    first, _, second = position.partition("-")
    return int(first), int(second or 0)


class EventStream:
    """Follows a stream in Redis, and remembers its newest events.

    Parameters
    ----------
    client
        Redis client that decodes responses.
    key
        The stream.
    """

    def __init__(self, client: redis.asyncio.Redis, key: str) -> None:
        self._redis = client
        self._key = key
        self._health = health(client)
        self._events: deque[Event] = deque(maxlen=REMEMBERED)
        self._since: str | None = None
        """Position after which all events are remembered; None if none are."""
        self._changed = asyncio.Event()

    async def run(self, stop: asyncio.Event) -> None:
        """Follow the stream until `stop` is set."""
        backoff = Backoff(first=0.1, last=2.0)
        while not stop.is_set():
            try:
                if self._since is None:
                    self._since = last = await self.newest()
                found = await self._read(last)
            except REDIS_AWAY as err:
                self._health.failed(f"stream {self._key}", err, LASTS)
                self.forget()
                await pause(stop, backoff.next())
                continue
            self._health.worked(f"stream {self._key}")
            backoff.reset()
            if found:
                last = found[-1][0]
                for position, fields in found:
                    self._remember(position, fields)
                self.wake()
        self.wake()

    async def _read(self, last: str) -> list[tuple[str, dict[str, str]]]:
        reply: Any = await self._redis.xread({self._key: last}, count=AT_ONCE, block=BLOCK_MS)
        streams = reply.items() if isinstance(reply, dict) else reply or ()
        return [entry for _, entries in streams for entry in _flat(entries)]

    def _remember(self, position: str, fields: dict[str, str]) -> None:
        if event := _event(position, fields):
            if len(self._events) == REMEMBERED:
                self._since = self._events[0].position
            self._events.append(event)

    def forget(self) -> None:
        """Forget all events, as some may have been missed."""
        self._events.clear()
        self._since = None

    def wake(self) -> None:
        """Let all who wait look again."""
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def wait(self, position: str, timeout: float) -> None:  # noqa: ASYNC109 - part of the interface
        """Wait for events after a position, at most for `timeout` seconds."""
        newest = self._events[-1].position if self._events else self._since
        if newest is not None and order(newest) > order(position):
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._changed.wait()

    async def after(self, position: str) -> list[Event]:
        """Return the first events after a position: from memory, or else from Redis.

        Raises
        ------
        redis.RedisError, OSError
            If Redis is away.
        """
        start = order(position)
        if self._since is not None and start >= order(self._since):
            first = bisect_right(self._events, start, key=lambda event: order(event.position))
            return list(islice(self._events, first, first + AT_ONCE))
        entries: Any = await self._redis.xrange(self._key, f"({position}", "+", count=AT_ONCE)
        return [event for found, fields in entries if (event := _event(found, fields))]

    async def newest(self) -> str:
        """Return the position of the last event; raises as `after` does."""
        found: Any = await self._redis.xrevrange(self._key, count=1)
        return str(found[0][0]) if found else BEGINNING

    async def gap(self, position: str) -> str | None:
        """Find out whether events after a position are lost: dropped as too old, or with Redis.

        None are lost for a reader that begins at the beginning, and takes what there is.

        Returns
        -------
        position
            Where reading can go on; None if there is no gap. Raises as `after` does.
        """
        if order(position) == order(BEGINNING):
            return None
        if not await self._redis.exists(self._key):
            return BEGINNING
        info: Any = await self._redis.xinfo_stream(self._key)
        if order(position) > order(info["last-generated-id"]):
            return BEGINNING
        first = info["first-entry"]
        was_trimmed = first is None or info.get("entries-added", info["length"] + 1) > info["length"]
        if was_trimmed and first is not None and order(position) < order(first[0]):
            return BEGINNING
        return None


def _flat(entries: Any) -> Any:
    """Return the entries of a stream; with version 3 of Redis's protocol they are in a list of their own."""
    return (
        entries[0] if entries and isinstance(entries[0], list) and isinstance(entries[0][0], tuple | list) else entries
    )


def _event(position: str, fields: dict[str, str]) -> Event | None:
    try:
        return Event.of_entry(position, fields)
    except ValueError as err:
        log.warning("event is invalid", error=str(err))
        return None
