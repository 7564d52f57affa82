"""A lean HTTP listener for GET requests whose target is taken as it was sent.

A camera's 205 workers ask at the same instant, each over a connection of its own, with a target that may hold spaces.
General servers refuse such targets, and spend most of a request's time on what these have none of: bodies, routes,
middleware.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from http import HTTPStatus
from typing import cast

from ..connections import Connections
from ..listener import BACKLOG

MAX_HEAD = 16 * 1024
"""Bytes of a request's head at the most; beyond it the connection is closed."""

_AUTHORIZATION = re.compile(rb"^authorization:[ \t]*(.*?)[ \t]*\r$", re.IGNORECASE | re.MULTILINE)

Answer = tuple[int, bytes]
"""HTTP status, and a body of JSON."""


class Listener:
    """Answers requests, each connection's in order.

    Parameters
    ----------
    answer
        Called with method, target and value of the header Authorization of a request; the first two are empty if it
        is none.
    connections
        Takes note of connections and answers.
    """

    def __init__(self, answer: Callable[[str, str, bytes | None], Awaitable[Answer]], connections: Connections) -> None:
        self._answer = answer
        self._connections = connections
        self._server: asyncio.Server | None = None
        self._clients: dict[asyncio.StreamWriter, asyncio.Task[None] | None] = {}

    @property
    def is_open(self) -> bool:
        """Whether connections are accepted."""
        return self._server is not None

    async def open(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> int:
        """Bind and listen; return the port."""
        self._server = await asyncio.start_server(self._serve, host, port, limit=MAX_HEAD, backlog=BACKLOG, ssl=tls)
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    async def close(self, patience: float) -> None:
        """Close; requests under way are answered if that takes no longer than `patience` seconds."""
        if self._server is None:
            return
        self._server.close()
        self._server = None
        if busy := [task for task in self._clients.values() if task]:
            await asyncio.wait(busy, timeout=patience)
        for writer in list(self._clients):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._clients[writer] = None
        transport = cast(asyncio.Transport, writer.transport)
        self._connections.opened(transport)
        try:
            keep = True
            while keep and self._server:
                head = await reader.readuntil(b"\r\n\r\n")
                self._clients[writer] = asyncio.current_task()
                keep = await self._respond(head, writer)
                self._connections.answered(transport)
                self._clients[writer] = None
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError):
            pass  # the client has gone, or what it sends is no request
        finally:
            del self._clients[writer]
            self._connections.closed(transport)
            with suppress(OSError):
                writer.close()

    async def _respond(self, head: bytes, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; tell whether another may follow on its connection."""
        line, _, fields = head.partition(b"\r\n")
        method, _, rest = line.partition(b" ")
        target, _, version = rest.rpartition(b" ")
        if version not in (b"HTTP/1.1", b"HTTP/1.0"):
            method = target = b""
        authorization = _AUTHORIZATION.search(fields)
        status, body = await self._answer(
            method.decode("latin-1"), target.decode("utf-8", "replace"), authorization and authorization[1]
        )
        # A body would have to be read over; those who have to do with us send none.
        names = fields.lower()
        last = version != b"HTTP/1.1" or any(
            mark in names for mark in (b"connection: close", b"content-length:", b"transfer-encoding:")
        )
        writer.write(
            b"HTTP/1.1 %d %s\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: %d\r\n%s\r\n%s"
            % (status, HTTPStatus(status).phrase.encode(), len(body), b"Connection: close\r\n" if last else b"", body)
        )
        await writer.drain()
        return not last
