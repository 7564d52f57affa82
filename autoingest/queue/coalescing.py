"""One Lua script for many concurrent callers: items that arrive during a call are coalesced into the next call."""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import orjson
import redis.asyncio
import structlog

from ..app.retry import Backoff, end
from . import keys
from .connection import REDIS_AWAY, UnconfirmedError, health, is_safe

MAX_ITEMS = 500
"""Maximum number of items in one call, which blocks Redis for some milliseconds."""

CONFIRMED_EXPIRY = 60
"""Lifetime in seconds of the key by which replicas confirm earlier writes."""

log = structlog.get_logger(__name__)


_NUMBERS = itertools.count()


@dataclass(frozen=True, slots=True)
class Replicas:
    """How many replicas must confirm a write."""

    number: int
    timeout: float
    """Seconds to wait for them."""


@dataclass(slots=True, eq=False)
class _Part:
    """Items of one caller that belong to the same call."""

    items: Sequence[object]
    """Items that have not been processed yet."""
    done: asyncio.Future[list[Any]]
    results: list[Any] = field(default_factory=list)
    """Results of the items processed so far."""


class CoalescedScript:
    """Runs a script on the items of all callers; while Redis is away, it retries for as long as a caller waits.

    A call whose outcome is unknown is repeated, so the script must be safe to run twice on an item.

    Parameters
    ----------
    client
        Redis client.
    script
        Lua text. Its arguments are `head` and the JSON of a list of items. It returns one result per item, in
        order, and may leave out the last ones, for which it is run again.
    head
        First arguments of each call.
    replicas
        Replicas that must confirm each call; None if the primary alone is enough.
    hold
        Whether callers wait while Redis is away or may evict keys; otherwise they get an error.
    """

    def __init__(
        self,
        client: redis.asyncio.Redis,
        script: str,
        head: Sequence[str],
        replicas: Replicas | None = None,
        *,
        hold: bool = True,
    ) -> None:
        self._redis = client
        self._health = health(client)
        self._user = f"script {next(_NUMBERS)}"
        self._replicas = replicas
        self._hold = hold
        self._script = client.register_script(script)
        self._head = head
        self._line: deque[_Part] = deque()
        self._task: asyncio.Task[None] | None = None

    @property
    def is_busy(self) -> bool:
        """Whether a caller is waiting."""
        return self._task is not None

    async def __call__(self, items: Sequence[object], deadline: float | None = None) -> list[Any]:
        """Run the script over `items`, and return its results in the same order.

        It returns when all items are done. A caller can cancel, or set a deadline; then it is unknown which of its
        items have been processed.

        Parameters
        ----------
        items
            Input of the script.
        deadline
            Time of the event loop until which the caller waits.

        Raises
        ------
        TimeoutError
            If not all items are done by then.
        """
        if not items:
            return []
        loop = asyncio.get_running_loop()
        parts = [
            _Part(items[first : first + MAX_ITEMS], loop.create_future()) for first in range(0, len(items), MAX_ITEMS)
        ]
        self._line.extend(parts)
        if self._task is None:
            self._task = loop.create_task(self._drain(), name="coalesced script calls")
        # A timer of the loop costs half of what `asyncio.timeout` does.
        timer = None if deadline is None else loop.call_at(deadline, _give_up, parts)
        try:
            if len(parts) == 1:
                return await parts[0].done
            results = await asyncio.gather(*(part.done for part in parts))
        finally:
            if timer:
                timer.cancel()
        return [result for part in results for result in part]

    async def close(self) -> None:
        """Cancel the current call."""
        if task := self._task:
            await end(task)

    async def _drain(self) -> None:
        backoff = Backoff(0.05, 1.0)
        try:
            while self._line:
                group = self._next_group()
                if not group:
                    continue
                try:
                    items = orjson.dumps([item for part in group for item in part.items])
                    if not await is_safe(self._redis):
                        if not self._hold:
                            raise redis.RedisError(self._health.danger)
                        self._line.extendleft(reversed(group))
                        await asyncio.sleep(backoff.next())
                        continue
                    results = await self._call([*self._head, items])
                except REDIS_AWAY as err:
                    if not self._hold:
                        for part in group:
                            if not part.done.done():
                                part.done.set_exception(err)
                        continue
                    self._health.failed(self._user, err)
                    self._line.extendleft(reversed(group))
                    await asyncio.sleep(backoff.next())
                    continue
                except Exception as err:
                    log.exception("Redis script failed")
                    for part in group:
                        if not part.done.done():
                            part.done.set_exception(err)
                    continue
                self._health.worked(self._user)
                backoff.reset()
                first = 0
                for part in group:
                    found = results[first : first + len(part.items)]
                    first += len(found)
                    part.results += found
                    part.items = part.items[len(found) :]
                    if not part.items and not part.done.done():
                        part.done.set_result(part.results)
                self._line.extendleft(part for part in reversed(group) if part.items)
        finally:
            self._task = None

    async def _call(self, arguments: Sequence[str | bytes]) -> list[Any]:
        if self._replicas is None:
            return cast(list[Any], await self._script(args=arguments))
        async with self._redis.pipeline(transaction=False) as pipe:
            await self._script(args=arguments, client=pipe)
            # WAIT asks for the last write of its own connection. A call that is repeated may write nothing itself.
            pipe.set(keys.confirmed(), "1", ex=CONFIRMED_EXPIRY)
            pipe.execute_command("WAIT", self._replicas.number, round(self._replicas.timeout * 1000))
            results, _, confirmed = await pipe.execute()
        if confirmed < self._replicas.number:
            raise UnconfirmedError(f"{confirmed} of {self._replicas.number} replicas confirm what is written")
        return cast(list[Any], results)

    def _next_group(self) -> list[_Part]:
        """Take the items of the next call from the front of the line, except those of callers that have left."""
        group: list[_Part] = []
        items = 0
        while self._line and items + len(self._line[0].items) <= MAX_ITEMS:
            part = self._line.popleft()
            if not part.done.done():
                group.append(part)
                items += len(part.items)
        return group


def _give_up(parts: Sequence[_Part]) -> None:
    for part in parts:
        if not part.done.done():
            part.done.set_exception(TimeoutError())
