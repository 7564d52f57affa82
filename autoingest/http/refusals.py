"""Delayed refusals: some senders repeat a refused request immediately."""

from __future__ import annotations

import asyncio

from aiohttp import web

from .connections import Connection

MAX_HELD = 100
"""Maximum number of refusals that are delayed at the same time."""


class Refusals:
    """Delays answers to refused requests.

    Their connections count as idle meanwhile, so they are the first to be closed when the limit is reached.

    Parameters
    ----------
    hold
        Delay in seconds.
    """

    def __init__(self, hold: float) -> None:
        self._hold = hold
        self._held = 0

    async def refuse(self, request: web.Request, response: web.Response) -> web.Response:
        """Return `response` after the delay; with too many delayed already, at once, and close the connection."""
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
