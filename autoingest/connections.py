"""What a listener bears of its clients: how many connections, and how long each may go without an answer.

A client that sends its request byte by byte, or none at all, holds a connection no longer than one that is idle; and
when all connections are taken, it makes room for those who ask for something.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import cast

import structlog

from . import metrics
from .config import Listen

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

    def guarded(self, factory: Callable[[], asyncio.Protocol]) -> Callable[[], asyncio.Protocol]:
        """Return a protocol factory whose connections are taken note of as they come and go."""
        return lambda: _Guarded(factory(), self)

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


class _Guarded(asyncio.Protocol):
    """Hands everything on."""

    def __init__(self, inner: asyncio.Protocol, connections: Connections) -> None:
        self._connections = connections
        self._inner = inner
        self._transport: asyncio.Transport | None = None
        self.data_received = inner.data_received  # type: ignore[method-assign]
        self.eof_received = inner.eof_received  # type: ignore[method-assign]
        self.pause_writing = inner.pause_writing  # type: ignore[method-assign]
        self.resume_writing = inner.resume_writing  # type: ignore[method-assign]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._connections.opened(self._transport)
        self._inner.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._transport is not None:
            self._connections.closed(self._transport)
        self._inner.connection_lost(exc)
