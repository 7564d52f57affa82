"""The connections of a listener: how many there may be, and how long each may keep us waiting."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import structlog
from aiohttp import hdrs, web
from aiohttp.http_exceptions import HttpProcessingError

from .. import metrics
from ..config import Listen
from ..pacing import PacedLog
from .answers import ErrorForm, answer

SILENT = 1.0
"""Seconds that a connection without a request is left alone even if others wait for its place."""

LINGER = 2.0
"""Seconds for which what follows a refused body is read, so that its sender gets the answer."""

MAX_LINE = 8190
"""Bytes of a request's first line, or of a header, at the most."""

MAX_HEADERS = 64
"""Headers of a request at the most."""

READ_AHEAD = 2**14
"""Bytes of a body beyond which reading pauses until it is taken."""

CLOSING = (400, 408, 413, 501, 505)
"""Statuses after which nothing more is taken from a connection."""

log = structlog.get_logger(__name__)


class Connections:
    """The connections of one listener.

    A connection is *served* from the end of a request's head until its answer is ready. At all other times it waits for
    its client: to send a request, or to take its answer. Only those that wait are ever cut off: after `Listen.patience`
    seconds, or, if there are too many, the one that has waited longest.

    Parameters
    ----------
    listener
        Name of the listener, for log and metrics.
    limits
        How many connections there may be, and how long each may wait.
    form
        Form of an error's answer.
    """

    def __init__(self, listener: str, limits: Listen, form: ErrorForm) -> None:
        self.listener = listener
        self.form = form
        self.closing = False
        """Whether each answer is the last of its connection."""
        self.number = 0
        """Connections that are open, those included whose TLS handshake goes on."""
        self.all: set[Connection] = set()
        """Those whose handshake is over."""
        self.malformed = PacedLog("malformed requests")
        self._full = PacedLog("too many connections")
        self._limit = limits.max_connections
        self._patience = limits.patience
        self._timer: asyncio.TimerHandle | None = None

    @property
    def full(self) -> bool:
        """Whether there are as many connections as there may be."""
        return self.number >= self._limit

    def make_room(self) -> bool:
        """Cut off the connection that has waited longest, and tell whether there is one."""
        self._full.warn("", listener=self.listener, limit=self._limit)
        waiting = [connection for connection in self.all if not connection.served]
        longest = min(waiting, key=lambda connection: connection.since, default=None)
        if longest is None or longest.since + SILENT > longest.loop.time():
            return False
        self._cut(longest, "limit")
        return True

    def watch(self) -> None:
        """See to it that connections are cut off that wait too long."""
        if self._timer is None and self.all:
            self._timer = asyncio.get_running_loop().call_later(self._patience / 8, self._sweep)

    def _sweep(self) -> None:
        self._timer = None
        latest = asyncio.get_running_loop().time() - self._patience
        for connection in list(self.all):
            if not connection.served and connection.since <= latest:
                self._cut(connection, "patience")
        self.watch()

    def _cut(self, connection: Connection, why: str) -> None:
        self.all.discard(connection)
        metrics.CONNECTIONS_CLOSED.labels(self.listener, why).inc()
        connection.cut()


class Connection(web.RequestHandler):
    """One connection, as aiohttp serves it, with our limits, log and form of errors."""

    __slots__ = ("_connections", "_line", "_lost", "loop", "made", "served", "since")

    def __init__(self, server: web.Server, connections: Connections, lost: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()
        super().__init__(
            server,
            loop=loop,
            access_log=cast(Any, None),
            auto_decompress=False,
            keepalive_timeout=1e6,  # `Connections` limits it
            lingering_time=LINGER,
            max_line_size=MAX_LINE,
            max_field_size=MAX_LINE,
            max_headers=MAX_HEADERS,
            read_bufsize=READ_AHEAD,
            tcp_keepalive=False,  # `Connections` also cuts off those whose client has vanished
        )
        self._connections = connections
        self._line: asyncio.Transport | None = None
        self._lost = lost
        self.loop = loop
        self.served = False
        """Whether a request is being answered."""
        self.since = loop.time()
        """Time of the loop at which it began to wait for its client."""
        self.made = False
        """Whether the connection has been opened, so that its end will be told."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take note of the connection."""
        self.made = True
        self._line = cast(asyncio.Transport, transport)
        self._connections.all.add(self)
        self._connections.watch()
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Take note of its end."""
        self._line = None
        self._connections.all.discard(self)
        super().connection_lost(exc)
        self._lost()

    def data_received(self, data: bytes) -> None:
        """Take note of a request as soon as its head is there."""
        super().data_received(data)
        if self._messages:
            self.served = True

    def cut(self) -> None:
        """End the connection at once."""
        if self._line:
            self._line.abort()

    def waits(self) -> None:
        """Note that nothing is done for the client from now on."""
        self.served = False
        self.since = self.loop.time()

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send an answer; those of aiohttp itself get our form."""
        self.waits()
        if type(resp) is not web.Response and isinstance(resp, web.HTTPException):
            headers = {name: value for name, value in resp.headers.items() if name in ("Allow", "Retry-After")}
            status = resp.status
            resp = answer(self._connections.form(status, _said(request, resp)), status, headers)
            if status in CLOSING:
                resp.force_close()
        # aiohttp loses what follows an upgrade that it does not know in the same packet.
        if self._connections.closing or hdrs.UPGRADE in request.headers:
            resp.force_close()
        return await super().finish_response(request, resp, start_time)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what is no request, or has failed."""
        if isinstance(exc, HttpProcessingError | web.RequestPayloadError):
            metrics.CONNECTIONS_CLOSED.labels(self._connections.listener, "malformed").inc()
            self._connections.malformed.warn(
                "", listener=self._connections.listener, error=type(exc).__name__, remote=request.remote
            )
            status, said = 400, "not an HTTP request that is understood"
        elif isinstance(exc, ConnectionError):
            said = "the client is gone"
        else:
            log.error("request fails", listener=self._connections.listener, path=request.path, exc_info=exc)
            said = "internal error"
        response = answer(self._connections.form(status, said), status)
        response.force_close()
        return response

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """Log an error of aiohttp."""
        log.error("connection fails", listener=self._connections.listener, exc_info=kw.get("exc_info", True))


def _said(request: web.BaseRequest, error: web.HTTPException) -> str:
    if error.status == 404:
        return "no such path"
    if error.status == 405:
        return f"{request.method} is not supported"
    return error.text or error.reason
