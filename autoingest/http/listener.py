"""An HTTP listener: opens the configured address, serves its routes, and closes."""

from __future__ import annotations

import asyncio
import errno
import re
import socket
import ssl
from collections.abc import Sequence
from functools import lru_cache, partial
from typing import cast

import structlog
from aiohttp import HttpVersion10, HttpVersion11, hdrs, web
from aiohttp.typedefs import Handler

from ..app import metrics
from ..app.config import Listen
from ..app.pacing import PacedLog
from . import api_documents
from .addresses import listening_sockets, tls_context
from .answers import ErrorForm, plain_error
from .connections import Connection, Connections
from .spare import Spare

HANDSHAKE = 10.0
"""Time limit in seconds for a TLS handshake."""

TLS_CLOSE = 2.0
"""Time limit in seconds for closing a TLS connection."""

AT_ONCE = 32
"""Maximum number of connections accepted before other work gets its turn."""

RETRY = 0.1
"""Seconds until accepting is tried again after the limit was reached."""

_HOST = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=%-]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]*)?")
_NOTHING_LEFT = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

Route = tuple[str, str, Handler]
"""Method, path in the syntax of aiohttp's router, and handler."""

log = structlog.get_logger(__name__)


class Listener:
    """An HTTP listener.

    Parameters
    ----------
    block
        Name of the configuration block, for messages and metrics.
    where
        Address and port, certificate, limits.
    routes
        The routes that it serves.
    form
        Form of an error's answer.
    spare
        Number of file descriptors kept in reserve for connections.
    """

    def __init__(
        self, block: str, where: Listen, routes: Sequence[Route], form: ErrorForm = plain_error, spare: int = 0
    ) -> None:
        self._block = block
        self._where = where
        self._routes = routes
        self._connections = Connections(block, where, form)
        self._no_descriptors = PacedLog("no file descriptor left for a connection")
        self._spares = spare
        self._spare = Spare(0)
        self._sockets: list[socket.socket] = []
        self._paused = False
        self._runner: web.AppRunner | None = None
        self._tls: ssl.SSLContext | None = None
        self.port = where.port
        """Bound TCP port, once open."""

    @property
    def is_open(self) -> bool:
        """Whether connections are accepted."""
        return bool(self._sockets)

    async def open(self) -> None:
        """Bind and listen.

        Raises
        ------
        ConfigurationError
            As `listening_sockets` and `tls_context` do.
        """
        self._tls = tls_context(self._block, self._where)
        sockets = listening_sockets(self._block, self._where)
        self.port = sockets[0].getsockname()[1]
        app = web.Application()
        for method, path, handler in self._routes:
            app.router.add_route(method, path, _served(handler))
        for path, handler in api_documents.HANDLERS.items():
            app.router.add_get(path, _served(handler))
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        self._spare = Spare(self._spares)
        self._sockets = sockets
        self._resume()

    async def close(self, patience: float) -> None:
        """Close; requests in progress get `patience` seconds to be answered."""
        if self._runner is None:
            return
        self._connections.closing = True
        self._pause()
        for sock in self._sockets:
            sock.close()
        self._sockets = []
        for connection in self._connections.all:
            if not connection.is_open:
                connection.cut()
        server = self._runner.server
        assert server is not None
        server.pre_shutdown()
        await server.shutdown(patience)
        await self._runner.cleanup()
        self._spare.close()
        for connection in self._connections.all:
            connection.cut()
        self._runner = None

    def _resume(self) -> None:
        loop = asyncio.get_running_loop()
        self._paused = False
        for sock in self._sockets:
            loop.add_reader(sock.fileno(), self._accept, sock)

    def _pause(self) -> None:
        loop = asyncio.get_running_loop()
        self._paused = True
        for sock in self._sockets:
            loop.remove_reader(sock.fileno())

    def _retry(self) -> None:
        if self._paused and self._sockets:
            self._resume()

    def _accept(self, listening: socket.socket) -> None:
        """Accept waiting connections, up to the limit."""
        loop = asyncio.get_running_loop()
        if not self._connections.full or self._connections.make_room():
            for _ in range(AT_ONCE):
                try:
                    accepted, _ = listening.accept()
                except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                    return
                except OSError as err:
                    if err.errno not in _NOTHING_LEFT:
                        raise
                    self._no_descriptors.warn("", listener=self._block, error=str(err))
                    if self._spare.let_go():
                        continue
                    break
                accepted.setblocking(False)
                self._open(accepted)
                if self._connections.full:  # none is closed unless another is waiting
                    return
            else:
                return
        self._pause()
        loop.call_later(RETRY, self._retry)

    def _open(self, accepted: socket.socket) -> None:
        assert self._runner is not None
        server = self._runner.server
        assert server is not None
        connection = Connection(server, self._connections, self._lost)
        connection.opening = asyncio.get_running_loop().create_task(self._connect(connection, accepted))
        connection.opening.add_done_callback(partial(self._opened, connection, accepted))

    async def _connect(self, connection: Connection, accepted: socket.socket) -> None:
        if self._tls is None:
            await connection.loop.connect_accepted_socket(lambda: connection, accepted)
        else:
            await connection.loop.connect_accepted_socket(
                lambda: connection,
                accepted,
                ssl=self._tls,
                ssl_handshake_timeout=HANDSHAKE,
                ssl_shutdown_timeout=TLS_CLOSE,
            )

    def _opened(self, connection: Connection, accepted: socket.socket, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is None:
            return
        metrics.CONNECTIONS_CLOSED.labels(self._block, "handshake").inc()
        why = "cut off" if task.cancelled() else repr(task.exception())
        log.debug("connection not opened", listener=self._block, error=why)
        accepted.close()
        if not connection.is_open:
            connection.gone()

    def _lost(self) -> None:
        asyncio.get_running_loop().call_soon(self._spare.fill)
        self._retry()


def _served(handler: Handler) -> Handler:
    """Mark the connection busy while a request is handled, so that it is not closed."""

    async def serve(request: web.Request) -> web.StreamResponse:
        cast(Connection, request.protocol).serves()
        _check(request)
        return await handler(request)

    return serve


def _check(request: web.Request) -> None:
    """Refuse requests that aiohttp accepts although HTTP forbids them."""
    if not _is_host(request.headers.get(hdrs.HOST, "")):
        raise web.HTTPBadRequest(text="the header Host is malformed")
    if request.version != HttpVersion11 and request.version != HttpVersion10:
        raise web.HTTPVersionNotSupported(text="only HTTP/1.1 and HTTP/1.0 are supported")
    coding = request.headers.get(hdrs.TRANSFER_ENCODING)
    if coding is not None and (coding.lower() != "chunked" or request.version == HttpVersion10):
        raise web.HTTPNotImplemented(text="the only transfer coding supported is chunked, in HTTP/1.1")


@lru_cache(1000)
def _is_host(value: str) -> bool:
    return bool(_HOST.fullmatch(value))
