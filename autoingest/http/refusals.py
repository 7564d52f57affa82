"""Refusals that are answered slowly, since some senders repeat at once, without a pause, what is refused."""

from __future__ import annotations

import asyncio

from aiohttp import web

from .connections import Connection

MAX_HELD = 100
"""Refusals that are held back at once."""


class Refusals:
    """Holds answers to refused requests back.

    The connections of those that are held are cut off first if others need their place.

    Parameters
    ----------
    hold
        Seconds.
    """

    def __init__(self, hold: float) -> None:
        self._hold = hold
        self._held = 0

    async def refuse(self, request: web.Request, response: web.Response) -> web.Response:
        """Return `response` after a while, or, if too many are held already, at once and as the connection's last."""
        if self._held >= MAX_HELD:
            response.force_close()
            return response
        connection = request.protocol
        assert isinstance(connection, Connection)
        self._held += 1
        connection.waits()
        try:
            await asyncio.sleep(self._hold)
        finally:
            self._held -= 1
        return response
