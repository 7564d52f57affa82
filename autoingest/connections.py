"""What a listener bears of its clients: how many connections, and how long each may go without an answer.

A client that sends its request byte by byte, or none at all, holds a connection no longer than one that is idle; and
when all connections are taken, it makes room for those who ask for something.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict

import structlog

from . import metrics
from .config import Listen

MALFORMED_PAUSE = 60.0
"""Seconds from one line of the log about malformed requests to the next."""

log = structlog.get_logger(__name__)


class Connections:
    """The connections of one listener, from the one that has gone longest without an answer.

    Parameters
    ----------
    listener
        Name of the listener, for log and metrics.
    limits
        How many connections there may be, and for how long without an answer.
    """

    def __init__(self, listener: str, limits: Listen) -> None:
        self._listener = listener
        self._limit = limits.max_connections
        self._patience = limits.patience
        self._since: OrderedDict[asyncio.Transport, float] = OrderedDict()
        self._timer: asyncio.TimerHandle | None = None
        self._full = False
        self._next_malformed = 0.0

    def __len__(self) -> int:
        return len(self._since)

    def opened(self, transport: asyncio.Transport) -> None:
        """Take note of a new connection; the most overdue one is closed if there are too many."""
        self._since[transport] = asyncio.get_running_loop().time()
        if len(self._since) > self._limit:
            if not self._full:
                log.warning("too many connections", listener=self._listener, limit=self._limit)
            self._full = True
            self._abort("limit")
        self._watch()

    def answered(self, transport: asyncio.Transport) -> None:
        """Take note of an answer."""
        if transport in self._since:
            self._since[transport] = asyncio.get_running_loop().time()
            self._since.move_to_end(transport)

    def closed(self, transport: asyncio.Transport) -> None:
        """Take note of a connection's end."""
        self._since.pop(transport, None)
        self._full = self._full and len(self._since) > self._limit * 0.9
        if not self._since and self._timer:
            self._timer.cancel()
            self._timer = None

    def malformed(self, why: str) -> None:
        """Take note of a client that sends something else than HTTP; the log is told now and then."""
        metrics.CONNECTIONS_CLOSED.labels(self._listener, "malformed").inc()
        now = asyncio.get_running_loop().time()
        if now >= self._next_malformed:
            self._next_malformed = now + MALFORMED_PAUSE
            log.warning("malformed requests", listener=self._listener, error=why)

    def _watch(self) -> None:
        """See to it that somebody looks when the next connection is overdue."""
        if self._timer is None and self._since:
            when = next(iter(self._since.values())) + self._patience
            self._timer = asyncio.get_running_loop().call_at(when, self._sweep)

    def _sweep(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        while self._since and next(iter(self._since.values())) + self._patience <= now:
            self._abort("patience")
        self._watch()

    def _abort(self, why: str) -> None:
        transport, _ = self._since.popitem(last=False)
        metrics.CONNECTIONS_CLOSED.labels(self._listener, why).inc()
        transport.abort()
