"""Server-sent events."""

from __future__ import annotations

import asyncio
from typing import Self

import orjson
from aiohttp import web

COMMENT_INTERVAL = 15.0
"""Seconds between two comments in a stream, by which both sides notice a broken connection."""

READ_PATIENCE = 30.0
"""Seconds for which the client of a stream may leave it unread; after that its connection is closed."""

COMMENT = b":\n\n"


def message(event: str, content: object, position: str | None = None) -> bytes:
    """Return an event as it is sent.

    Parameters
    ----------
    event
        Its type.
    content
        Its data, sent as JSON.
    position
        What the client sends as ``Last-Event-ID`` to go on after it.
    """
    head = f"id: {position}\n" if position is not None else ""
    return f"{head}event: {event}\ndata: ".encode() + orjson.dumps(content) + b"\n\n"


class EventResponse:
    """The answer to a request for a stream of events."""

    def __init__(self, request: web.Request) -> None:
        self._request = request
        self.response = web.StreamResponse(
            headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        )

    @classmethod
    async def begin(cls, request: web.Request) -> Self:
        """Send the headers."""
        self = cls(request)
        await self.response.prepare(request)
        return self

    async def send(self, data: bytes) -> bool:
        """Send events; return False, and close the connection, if the client has not read for `READ_PATIENCE`."""
        try:
            async with asyncio.timeout(READ_PATIENCE):
                await self.response.write(data)
        except TimeoutError:
            if self._request.transport is not None:
                self._request.transport.abort()
            return False
        return True
