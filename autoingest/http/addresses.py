"""Where a listener listens: its sockets and its certificate."""

from __future__ import annotations

import errno
import socket
import ssl
from contextlib import ExitStack

from ..app.config import Listen
from ..errors import ConfigurationError

BACKLOG = 1024
"""Connections that may wait to be accepted."""

BUFFERS = 2**16
"""Bytes that the kernel keeps of what a connection has received, and of what it is to send: by itself it may keep
megabytes for each client that sends without reading."""

PORT_ATTEMPTS = 20
"""Ports that are tried where any free one will do, but it must be free on all addresses."""

_NO_SUCH_FAMILY = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT)


def listening_sockets(block: str, where: Listen) -> list[socket.socket]:
    """Bind and listen.

    Parameters
    ----------
    block
        Block of the configuration that says where.
    where
        Address and port.

    Returns
    -------
    sockets
        One for each address of the host; all of them have the same port.

    Raises
    ------
    ConfigurationError
        If an address can't be bound: the port is in use, or the address is not one of this machine.
    """
    shown = f"[{where.host}]" if where.host and ":" in where.host else where.host or "*"
    try:
        found = socket.getaddrinfo(where.host, where.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for attempt in range(PORT_ATTEMPTS):
            try:
                return _bind(list(dict.fromkeys((family, address) for family, _, _, _, address in found)))
            except OSError as err:
                if where.port or err.errno != errno.EADDRINUSE or attempt == PORT_ATTEMPTS - 1:
                    raise
    except (OSError, UnicodeError) as err:
        if isinstance(err, OSError) and err.errno == errno.EADDRINUSE:
            why = f"port {where.port} is in use; end what listens there, or set {block}.listen.port to another"
        else:
            why = f"{block}.listen can't be bound: {err}"
        raise ConfigurationError(f"{block} can't listen on {shown}:{where.port}: {why}") from err
    raise AssertionError("unreachable")


def _bind(
    addresses: list[tuple[socket.AddressFamily, tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]]],
) -> list[socket.socket]:
    """Bind all addresses; a machine that has one family only leaves out those of the other."""
    port = 0
    absent: OSError | None = None
    with ExitStack() as opened:
        sockets = []
        for family, address in addresses:
            try:
                sock = opened.enter_context(socket.socket(family, socket.SOCK_STREAM))
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                for direction in (socket.SO_RCVBUF, socket.SO_SNDBUF):  # of its connections, too
                    sock.setsockopt(socket.SOL_SOCKET, direction, BUFFERS)
                if family == socket.AF_INET6:
                    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                sock.bind((address[0], port or address[1], *address[2:]))
            except OSError as err:
                if err.errno not in _NO_SUCH_FAMILY:
                    raise
                absent = err
                continue
            sock.setblocking(False)
            sock.listen(BACKLOG)
            port = sock.getsockname()[1]
            sockets.append(sock)
        if absent and not sockets:
            raise absent
        opened.pop_all()
        return sockets


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
