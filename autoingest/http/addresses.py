"""A listener's sockets and certificate."""

from __future__ import annotations

import errno
import socket
import ssl
from contextlib import ExitStack
from pathlib import Path

from ..app import metrics
from ..app.config import Listen
from ..errors import ConfigurationError

BACKLOG = 1024
"""Connections that may wait to be accepted."""

BUFFERS = 2**16
"""Size in bytes of the kernel's send and receive buffers of a connection. By default the kernel may use megabytes for
each client that sends but does not read."""

PORT_ATTEMPTS = 20
"""Number of ports to try when any free port will do; it must be free on all addresses."""

_NO_SUCH_FAMILY = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT)


def listening_sockets(block: str, where: Listen) -> list[socket.socket]:
    """Bind and listen.

    Parameters
    ----------
    block
        Name of the configuration block, for messages.
    where
        Address and port.

    Returns
    -------
    sockets
        One for each address of the host, all with the same port.

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
            remedy = f"stop the program that listens there, or set {block}.listen.port to another"
            why = f"port {where.port} is in use; {remedy}"
        else:
            why = f"{block}.listen can't be bound: {err}"
        raise ConfigurationError(f"{block} can't listen on {shown}:{where.port}: {why}") from err
    raise AssertionError("unreachable")


def _bind(
    addresses: list[tuple[socket.AddressFamily, tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]]],
) -> list[socket.socket]:
    """Bind all addresses. On a machine with only IPv4 or only IPv6, addresses of the other family are left out."""
    port = 0
    absent: OSError | None = None
    with ExitStack() as opened:
        sockets = []
        for family, address in addresses:
            try:
                sock = opened.enter_context(socket.socket(family, socket.SOCK_STREAM))
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                for direction in (socket.SO_RCVBUF, socket.SO_SNDBUF):  # also applies to the connections
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
        If the certificate or the key can't be read, or they don't match.
    """
    if where.tls is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(where.tls.cert_file, where.tls.key_file, password="")
    except OSError as err:  # ssl.SSLError is one
        files = " and ".join(str(file) for file in (where.tls.cert_file, where.tls.key_file) if file)
        raise ConfigurationError(f"{block}.listen.tls: {files} can't be used: {err}") from err
    metrics.CERTIFICATE_EXPIRY.labels(block).set(_expiry(where.tls.cert_file))
    return context


def _expiry(file: Path) -> float:
    """Return when the first certificate of a file expires, in epoch seconds."""
    from cryptography.x509 import load_pem_x509_certificates

    return load_pem_x509_certificates(file.read_bytes())[0].not_valid_after_utc.timestamp()
