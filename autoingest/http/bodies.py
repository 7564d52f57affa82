"""Reading request bodies within a memory budget."""

from __future__ import annotations

import asyncio
from types import TracebackType

from aiohttp import hdrs, web

from .connections import Connection

BODY = 10.0
"""Time limit in seconds for a body to arrive."""

FREE = 2**14
"""Bytes of each body that do not count against the budget."""


class NoRoomError(Exception):
    """The budget for bodies is used up; this body has been read and discarded."""


class Bodies:
    """The memory budget for the request bodies of one listener.

    Parameters
    ----------
    most
        Maximum size of one body in bytes.
    together
        Maximum size of all bodies in bytes, not counting the first `FREE` bytes of each.
    """

    def __init__(self, most: int, together: int) -> None:
        self.most = most
        self.together = together
        self.left = together

    def room(self) -> Room:
        """Return a context in which one body is read; its share of the budget is returned at the end."""
        return Room(self)


class Room:
    """The share of the budget that one body uses."""

    __slots__ = ("_bodies", "_taken")

    def __init__(self, bodies: Bodies) -> None:
        self._bodies = bodies
        self._taken = 0

    def __enter__(self) -> Room:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.give_back()

    def give_back(self) -> None:
        """Return the share to the budget: the body has been discarded."""
        self._bodies.left += self._taken
        self._taken = 0

    async def read(self, request: web.Request) -> bytes:
        """Read the body of a request.

        Raises
        ------
        NoRoomError
            If the budget is used up.
        HTTPException
            If the body is too long or compressed, or does not arrive within `BODY`.
        """
        if request.headers.get(hdrs.CONTENT_ENCODING, "identity").lower() != "identity":
            raise web.HTTPUnsupportedMediaType(text="a compressed body is not accepted")
        if (request.content_length or 0) > self._bodies.most:
            raise self._too_long()
        content = request.content
        first = content.read_nowait()
        length = len(first)
        if content.is_eof() and length <= FREE:
            return first
        parts: list[bytes] | None = [first]
        del first
        connection = request.protocol
        assert isinstance(connection, Connection)
        connection.waits()
        try:
            async with asyncio.timeout(BODY):
                while True:
                    if length > self._bodies.most:
                        raise self._too_long()
                    if parts is not None and not self._take(max(0, length - FREE)):
                        parts = None
                        self.give_back()
                    if not (part := await content.readany()):
                        break
                    length += len(part)
                    if parts is not None:
                        parts.append(part)
        except TimeoutError:
            raise web.HTTPRequestTimeout(text=f"the body did not arrive within {BODY:g} s") from None
        finally:
            connection.serves()
        if parts is None:
            raise NoRoomError
        return b"".join(parts)

    def _take(self, needed: int) -> bool:
        more = needed - self._taken
        if more > self._bodies.left:
            return False
        self._bodies.left -= more
        self._taken = needed
        return True

    def _too_long(self) -> web.HTTPException:
        most = self._bodies.most
        return web.HTTPRequestEntityTooLarge(most, 0, text=f"the body is larger than {most} bytes")
