"""How far a reader of events has got: a position in Redis that only one process at a time moves."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import orjson
import redis.asyncio

from ..model.events import Event
from . import keys
from .operator_log import note
from .scripts import load

LEASE = 15.0
"""Seconds after which another process may deliver, unless the first one says that it still does."""

MAX_UNDELIVERED = 1000
"""Maximum number of refused events that are kept for each reader; beyond it, any of them is dropped."""

DELIVER = load("deliver")


class Delivery:
    """The delivery of one stream to one reader, by this process or another.

    Parameters
    ----------
    client
        Redis client that decodes responses.
    reader
        Name of the reader.
    stream
        Key of the stream.
    """

    def __init__(self, client: redis.asyncio.Redis, reader: str, stream: str) -> None:
        self._keys = [keys.publisher(reader, stream), keys.position(reader, stream), keys.undelivered(reader)]
        self._token = secrets.token_hex(6)
        self._deliver = client.register_script(DELIVER)

    async def hold(self) -> str | None:
        """Become or stay the process that delivers.

        Returns
        -------
        position
            How far the reader has got, empty if it never got anything; None if another process delivers.
        """
        return await self._step()

    async def moved(self, position: str) -> bool:
        """Record that everything up to a position is delivered; False if another process delivers now."""
        return await self._step(position) is not None

    async def refused(self, event: Event, content: dict[str, Any], error: str) -> bool:
        """Keep an event that the reader has refused, and go on after it; False if another process delivers now."""
        text = orjson.dumps({"error": error, "event": content}).decode()
        return await self._step(event.position, event.id, text) is not None

    async def release(self) -> None:
        """Let another process deliver at once."""
        await self._step(lease=0.001)

    async def _step(
        self, position: str = "", event_id: str = "", content: str = "", lease: float = LEASE
    ) -> str | None:
        arguments: list[str | int] = [self._token, int(lease * 1000), position, event_id, content, MAX_UNDELIVERED]
        return cast(str | None, await self._deliver(self._keys, arguments))


@dataclass(frozen=True, slots=True)
class Undelivered:
    """An event that a reader has refused."""

    reader: str
    id: str
    error: str
    event: dict[str, Any]


async def forget(client: redis.asyncio.Redis, reader: str, ids: Sequence[str], act: str) -> None:
    """Drop events that a reader has refused.

    Parameters
    ----------
    client
        Redis client that decodes responses.
    reader
        The reader.
    ids
        Ids of the events.
    act
        What the operators' log is told.
    """
    if ids:
        async with client.pipeline(transaction=True) as step:
            step.hdel(keys.undelivered(reader), *ids)
            note(step, act, reader, ids)
            await step.execute()


async def undelivered(client: redis.asyncio.Redis, reader: str) -> list[Undelivered]:
    """Return the events that a reader has refused."""
    found: Any = await client.hgetall(keys.undelivered(reader))
    contents = {name: orjson.loads(text) for name, text in sorted(found.items())}
    return [Undelivered(reader, name, item["error"], item["event"]) for name, item in contents.items()]
