"""Arrivals of a group's images: what has arrived so far, and waiting for more."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import redis.asyncio
import structlog

from ..app import metrics
from ..app.retry import Backoff, pause
from . import keys
from .connection import REDIS_AWAY, health
from .health import without_wrong_type

READ_TIMEOUT = 5.0
"""Time limit in seconds for reading a group from Redis."""

BLOCK_MS = 1000
"""Milliseconds for which one call waits for arrivals."""

LASTS = 5.0
"""Seconds for which a failed call counts as an outage of Redis."""

FIRST = (0, 0)
"""Cursor of images that arrived before arrivals were recorded."""

BEFORE = (-1, 0)
"""Before all arrivals."""

Cursor = tuple[int, int]
"""Id of an arrival in Redis's stream."""

_CURSOR = re.compile(r"(\d{1,15})-(\d{1,9})")
_ENTRY = re.compile(r"(?P<cursor>\d+-\d+) (?P<time>\d+\.\d+) (?P<content>.*)", re.DOTALL)

log = structlog.get_logger(__name__)


def cursor_of(text: str) -> Cursor | None:
    """Return the cursor that a text stands for, None if it is malformed."""
    match = _CURSOR.fullmatch(text)
    return match and (int(match[1]), int(match[2]))


@dataclass(frozen=True, slots=True)
class Arrived:
    """An image that has arrived."""

    cursor: Cursor
    snap: int
    """Counts from 0."""
    raft_sensor: str
    obs_id: str
    url: str
    size: int | None
    """Size of the object in bytes."""
    etag: str | None
    time: float | None
    """When its arrival was recorded, in epoch seconds; None if unknown."""


@dataclass(frozen=True, slots=True)
class Group:
    """What has arrived of a group."""

    arrived: list[Arrived] = field(default_factory=list)
    expected_snaps: int | None = None
    """Number of images in the group; None until one has arrived."""
    known_since: float | None = None
    """Since when arrivals have been recorded without a gap, in epoch seconds; None if there was none yet."""


@dataclass(eq=False, slots=True)
class Waiter:
    """A client that waits for arrivals of a group."""

    detectors: frozenset[str]
    """Raft and sensor; all if empty."""
    snap: int | None
    """All if None."""
    woken: asyncio.Event = field(default_factory=asyncio.Event)

    def wants(self, snap: int, raft_sensor: str) -> bool:
        """Return whether the client waits for an image."""
        return (self.snap is None or self.snap == snap) and (not self.detectors or raft_sensor in self.detectors)


class Arrivals:
    """Reads what has arrived, and wakes those who wait; for any number of clients.

    A process follows one stream of arrivals, whatever the number of its clients. Clients that look at the same group
    while it is being read share the answer.

    Parameters
    ----------
    client
        Redis client that decodes responses.
    """

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._redis = client
        self._health = health(client)
        self._waiting: dict[tuple[str, str], set[Waiter]] = {}
        self._reading: dict[tuple[str, str], asyncio.Task[Group]] = {}
        self.closing = False
        """Whether waiting clients are to be answered now."""

    @property
    def waiting(self) -> int:
        """Number of waiting clients."""
        return sum(map(len, self._waiting.values()))

    @contextmanager
    def waiter(self, instrument: str, group: str, detectors: frozenset[str], snap: int | None) -> Iterator[Waiter]:
        """Register a client; it is woken by every arrival from now on that it waits for."""
        made = Waiter(detectors, snap)
        if self.closing:
            made.woken.set()
        waiting = self._waiting.setdefault((instrument, group), set())
        waiting.add(made)
        metrics.PRESENCE_WAITING.inc()
        try:
            yield made
        finally:
            metrics.PRESENCE_WAITING.dec()
            waiting.discard(made)
            if not waiting:
                self._waiting.pop((instrument, group), None)

    async def read(self, instrument: str, group: str) -> Group:
        """Return what has arrived of a group.

        Raises
        ------
        TimeoutError
            If Redis does not answer within `READ_TIMEOUT`; other errors of Redis as they are.
        """
        key = (instrument, group)
        task = self._reading.get(key)
        if task is None:
            task = self._reading[key] = asyncio.create_task(self._read(instrument, group))
            task.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody may be left to see it
        return await asyncio.shield(task)

    async def _read(self, instrument: str, group: str) -> Group:
        await asyncio.sleep(0)  # so that all clients that are woken together share one answer
        del self._reading[instrument, group]
        async with asyncio.timeout(READ_TIMEOUT), self._redis.pipeline(transaction=False) as pipe:
            pipe.hgetall(keys.arrivals(instrument, group))
            pipe.get(keys.ARRIVALS_SINCE)
            replies = await pipe.execute(raise_on_error=False)
        content, since = without_wrong_type(replies[0], {}), without_wrong_type(replies[1])
        snaps = content.pop("expected_snaps", None)
        arrived = [found for name, value in content.items() if (found := _arrived(name, value)) is not None]
        return Group(arrived, int(snaps) if snaps else None, float(since) if since else None)

    async def run(self, stop: asyncio.Event) -> None:
        """Follow the stream of arrivals until `stop` is set."""
        backoff = Backoff(first=0.1, last=2.0)
        last: str | None = None
        while not stop.is_set():
            try:
                if last is None:
                    found: Any = await self._redis.xrevrange(keys.ARRIVAL_STREAM, count=1)
                    last = found[0][0] if found else "0-0"
                    self.wake_all()  # arrivals may have been missed
                reply: Any = await self._redis.xread({keys.ARRIVAL_STREAM: last}, count=1000, block=BLOCK_MS)
            except REDIS_AWAY as err:
                self._health.failed("arrivals", err, LASTS)
                last = None
                await pause(stop, backoff.next())
                continue
            self._health.worked("arrivals")
            backoff.reset()
            for _, entries in reply.items() if isinstance(reply, dict) else reply or ():
                for entry in entries:
                    last = self._wake(entry)

    def wake_all(self) -> None:
        """Let all waiting clients look again."""
        for waiters in self._waiting.values():
            for waiter in waiters:
                waiter.woken.set()

    def close(self) -> None:
        """Answer all waiting clients, and let no further ones wait."""
        self.closing = True
        self.wake_all()

    def _wake(self, entry: tuple[str, dict[str, str]]) -> str:
        cursor, content = entry
        snap, raft_sensor = int(content["snap"]), content["raft_sensor"]
        for waiter in self._waiting.get((content["instrument"], content["group"]), ()):
            if waiter.wants(snap, raft_sensor):
                waiter.woken.set()
        return cursor


def _arrived(name: str, value: str) -> Arrived | None:
    """Return an arrival from its field in a group's hash, None if it is malformed."""
    try:
        snap, raft_sensor, obs_id = name.split(":", 2)
        match = _ENTRY.fullmatch(value)
        assert match is not None
        cursor, content = cursor_of(match["cursor"]), json.loads(match["content"])
        assert cursor is not None
        return Arrived(
            cursor, int(snap), raft_sensor, obs_id, content["url"], content["size"], content["etag"],
            float(match["time"]),
        )  # fmt: skip
    except (AssertionError, KeyError, TypeError, ValueError):
        log.warning("arrival is invalid", field=name[:100])
        return None
