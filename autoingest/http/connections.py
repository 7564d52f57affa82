"""Connection limits of a listener: how many connections, and how long each may be idle."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, cast

import structlog
from aiohttp import hdrs, web
from aiohttp.http_exceptions import HttpProcessingError

from ..app import metrics
from ..app.config import Listen
from ..app.pacing import PacedLog
from .answers import ErrorForm, answer

SILENT = 1.0
"""Seconds for which an idle connection is kept even though new connections are waiting."""

LINGER = 2.0
"""Seconds for which the rest of a refused body is read, so that its sender receives the answer."""

MAX_LINE = 8190
"""Maximum length in bytes of the request line and of each header."""

MAX_HEADERS = 64
"""Maximum number of headers in a request."""

READ_AHEAD = 2**14
"""Bytes of a body that are buffered before reading pauses."""

MAX_QUEUE = 2
"""Pipelined requests of a connection that are buffered before reading pauses."""

CLOSING = (400, 408, 413, 501, 505)
"""Statuses after which the connection is closed."""

log = structlog.get_logger(__name__)


class Connections:
    """The connections of one listener.

    A connection is *busy* from the end of a request's head until its answer is ready, except while the body has not
    arrived. At all other times it is *idle*: its client has yet to finish a TLS handshake, send a request, or read the
    answer. Only idle connections are closed: after `Listen.patience` seconds, or, when the limit is reached, the one
    that has been idle longest.

    Parameters
    ----------
    listener
        Name of the listener, for log and metrics.
    limits
        Maximum number of connections, and idle timeout.
    form
        Form of an error's answer.
    """

    def __init__(self, listener: str, limits: Listen, form: ErrorForm) -> None:
        self.listener = listener
        self.form = form
        self.closing = False
        """Whether each connection is closed after its next answer."""
        self.all: set[Connection] = set()
        """Open connections, including those still in the TLS handshake."""
        self.waiting: OrderedDict[Connection, float] = OrderedDict()
        """Idle connections, each with the loop time since when; longest idle first."""
        self.malformed = PacedLog("malformed requests")
        self._full = PacedLog("too many connections")
        self._limit = limits.max_connections
        self._patience = limits.patience
        self._timer: asyncio.TimerHandle | None = None

    @property
    def full(self) -> bool:
        """Whether the connection limit is reached."""
        return len(self.all) >= self._limit

    def make_room(self) -> bool:
        """Close the connection that has been idle longest; return False if none is idle."""
        self._full.warn("", listener=self.listener, limit=self._limit)
        return self._cut(SILENT, "limit")

    def watch(self) -> None:
        """Start the timer that closes connections after the idle timeout."""
        if self._timer is None and self.all:
            self._timer = asyncio.get_running_loop().call_later(self._patience / 8, self._sweep)

    def _sweep(self) -> None:
        self._timer = None
        while self._cut(self._patience, "patience"):
            pass
        self.watch()

    def _cut(self, patience: float, why: str) -> bool:
        connection, since = next(iter(self.waiting.items()), (None, 0.0))
        if connection is None or since + patience > connection.loop.time():
            return False
        metrics.CONNECTIONS_CLOSED.labels(self.listener, why).inc()
        del self.waiting[connection]
        connection.cut()
        return True


class Connection(web.RequestHandler):
    """One connection served by aiohttp, with our limits, log and form of errors."""

    __slots__ = ("_connections", "_line", "_lost", "loop", "opening")

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
            tcp_keepalive=False,  # `Connections` also closes those whose client has vanished
        )
        self._max_msg_queue_size = MAX_QUEUE
        self._msg_queue_resume_size = MAX_QUEUE - 1
        self._connections = connections
        self._line: asyncio.Transport | None = None
        self._lost = lost
        self.loop = loop
        self.opening: asyncio.Task[None] | None = None
        """Task that opens the connection."""
        connections.all.add(self)
        connections.waiting[self] = loop.time()
        connections.watch()

    @property
    def is_open(self) -> bool:
        """Whether the connection is open."""
        return self._line is not None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember the transport."""
        self._line = cast(asyncio.Transport, transport)
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Release the connection's place."""
        super().connection_lost(exc)
        self.gone()

    def gone(self) -> None:
        """Release the place for another connection."""
        self._line = None
        self._connections.all.discard(self)
        self._connections.waiting.pop(self, None)
        self._lost()

    def data_received(self, data: bytes) -> None:
        """Mark the connection busy as soon as the head of a request has arrived."""
        super().data_received(data)
        if self._messages and self._waiter:  # otherwise the client has yet to read an answer
            self.serves()

    def cut(self) -> None:
        """Close the connection immediately."""
        if self._line:
            self._line.abort()
        elif self.opening:
            self.opening.cancel()

    def serves(self) -> None:
        """Mark the connection busy: the client waits for us."""
        self._connections.waiting.pop(self, None)

    def waits(self) -> None:
        """Mark the connection idle: we wait for the client."""
        self.serves()
        if self._line:
            self._connections.waiting[self] = self.loop.time()

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send an answer; errors raised by aiohttp itself get our form."""
        self.waits()
        if type(resp) is not web.Response and isinstance(resp, web.HTTPException):
            headers = {name: value for name, value in resp.headers.items() if name in ("Allow", "Retry-After")}
            status = resp.status
            resp = answer(self._connections.form(status, _said(request, resp)), status, headers)
            if status in CLOSING:
                resp.force_close()
        # aiohttp drops data that follows an unknown upgrade in the same packet.
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
        """Answer a malformed request, or one whose handler failed."""
        if isinstance(exc, HttpProcessingError | web.RequestPayloadError):
            metrics.CONNECTIONS_CLOSED.labels(self._connections.listener, "malformed").inc()
            self._connections.malformed.warn(
                "", listener=self._connections.listener, error=type(exc).__name__, remote=request.remote
            )
            status, said = 400, "malformed HTTP request"
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
