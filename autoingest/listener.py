"""Opening a listener: its address, its certificate, who may ask, and what it bears of its clients."""

from __future__ import annotations

import errno
import hmac
import ssl
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager

from pydantic import SecretStr

from .config import Listen
from .connections import Connections
from .errors import ConfigurationError
from .lean_http import Answer, Request, Server

MAX_BODY = 64 * 1024
"""Bytes of a body at the most, where none is expected."""


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


class Listener:
    """A listener: opens where its block of the configuration says, and closes.

    Parameters
    ----------
    block
        Block of the configuration that says where.
    where
        Address and port, certificate, limits.
    handle
        Answers a request.
    max_body
        Bytes of a request's body at the most.
    """

    def __init__(
        self, block: str, where: Listen, handle: Callable[[Request], Awaitable[Answer]], max_body: int = MAX_BODY
    ) -> None:
        self._block = block
        self._where = where
        self._server = Server(handle, Connections(block, where), max_body)
        self.port = where.port
        """Bound TCP port, once open."""

    @property
    def is_open(self) -> bool:
        """Whether connections are accepted."""
        return self._server.is_open

    async def open(self) -> None:
        """Bind and listen.

        Raises
        ------
        ConfigurationError
            As `binding` and `tls_context` do.
        """
        context = tls_context(self._block, self._where)
        with binding(self._block, self._where):
            self.port = await self._server.open(self._where.host, self._where.port, context)

    async def close(self, patience: float) -> None:
        """Close; requests under way are answered if that takes no longer than `patience` seconds."""
        await self._server.close(patience)
