"""Opening a listener: its address, its certificate, who may ask, and what it bears of its clients."""

from __future__ import annotations

import asyncio
import errno
import hmac
import logging
import ssl
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import structlog
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from pydantic import SecretStr

from . import metrics
from .config import Listen
from .connections import Connections
from .errors import ConfigurationError

BACKLOG = 1024
"""Connections that may wait to be accepted."""

MALFORMED_PAUSE = 60.0
"""Seconds from one line of the log about malformed requests to the next."""

log = structlog.get_logger(__name__)


@contextmanager
def binding(block: str, where: Listen) -> Iterator[None]:
    """Turn the errors of binding a listener into one that says what to do.

    Parameters
    ----------
    block
        Block of the configuration that says where.
    where
        Address and port.

    Raises
    ------
    ConfigurationError
        If the address can't be bound, because the port is in use or the address isn't this machine's.
    """
    try:
        yield
    except OSError as err:
        if err.errno == errno.EADDRINUSE:
            why = f"port {where.port} is in use; end what listens there, or set {block}.listen.port to another"
        else:
            why = f"{block}.listen can't be bound: {err}"
        raise ConfigurationError(f"{block} can't listen on {where.host}:{where.port}: {why}") from err


def tls_context(block: str, where: Listen) -> ssl.SSLContext | None:
    """Read a listener's certificate; return None if it has none.

    Raises
    ------
    ConfigurationError
        If certificate or key can't be read, or don't fit each other.
    """
    if where.tls is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(where.tls.cert_file, where.tls.key_file, password="")
    except OSError as err:  # of which those of TLS are
        files = " and ".join(str(file) for file in (where.tls.cert_file, where.tls.key_file) if file)
        raise ConfigurationError(f"{block}.listen.tls: {files} can't be used: {err}") from err
    return context


class Bearer:
    """Tells whether a request carries one of the tokens that are asked for.

    Parameters
    ----------
    tokens
        Those that are valid; without any, every request may pass.
    """

    def __init__(self, tokens: Sequence[SecretStr]) -> None:
        self._expected = [f"Bearer {token.get_secret_value()}".encode() for token in tokens]

    def admits(self, authorization: bytes | None) -> bool:
        """Tell whether the value of a request's Authorization header, None without one, will do."""
        given = authorization or b""
        # All are compared, each in constant time.
        matches = [hmac.compare_digest(given, expected) for expected in self._expected]
        return any(matches) or not self._expected


class _Malformed(logging.Filter):
    """Keeps out of the log what clients send instead of HTTP: it is counted, and told of now and then.

    aiohttp logs each such request as an error, with its text and a traceback.
    """

    def __init__(self, listener: str) -> None:
        super().__init__()
        self._listener = listener
        self._next = 0.0

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if not isinstance(error, HttpProcessingError | web.RequestPayloadError):
            return True
        metrics.CONNECTIONS_CLOSED.labels(self._listener, "malformed").inc()
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + MALFORMED_PAUSE
            log.warning("malformed requests", listener=self._listener, error=type(error).__name__)
        return False


def _http_log(listener: str) -> logging.Logger:
    """Make the log of a listener's HTTP protocol."""
    result = logging.Logger(f"{__name__}.{listener}", logging.DEBUG)  # what is not even a method is told as DEBUG
    result.parent = logging.getLogger()
    result.addFilter(_Malformed(listener))
    return result


async def listen(block: str, app: web.Application, where: Listen, patience: float) -> tuple[web.AppRunner, int]:
    """Open a listener of aiohttp.

    Parameters
    ----------
    block
        Block of the configuration that says where.
    app
        What answers.
    where
        Address and port, certificate, limits.
    patience
        Seconds that requests under way get when it is closed.

    Returns
    -------
    runner
        Its `cleanup` closes the listener.
    port
        The bound TCP port, also where 0 was asked for.

    Raises
    ------
    ConfigurationError
        As `binding` and `tls_context` do.
    """
    context = tls_context(block, where)
    connections = Connections(block, where)

    async def answered(request: web.Request, _: web.StreamResponse) -> None:
        if request.transport is not None:
            connections.answered(request.transport)

    app.on_response_prepare.append(answered)
    runner = web.AppRunner(app, access_log=None, logger=_http_log(block), shutdown_timeout=patience)
    await runner.setup()
    try:
        with binding(block, where):
            await _Site(runner, connections, where, context).start()
    except ConfigurationError:
        await runner.cleanup()
        raise
    return runner, int(runner.addresses[0][1])


class _Site(web.BaseSite):
    """A site whose connections are counted."""

    def __init__(
        self, runner: web.AppRunner, connections: Connections, where: Listen, context: ssl.SSLContext | None
    ) -> None:
        super().__init__(runner, ssl_context=context, backlog=BACKLOG)
        self._connections = connections
        self._where = where

    @property
    def name(self) -> str:
        return f"{self._where.host}:{self._where.port}"

    async def start(self) -> None:
        await super().start()
        server = self._runner.server
        assert server is not None
        self._server = await asyncio.get_running_loop().create_server(
            self._connections.guarded(server),
            self._where.host,
            self._where.port,
            ssl=self._ssl_context,
            backlog=self._backlog,
        )
