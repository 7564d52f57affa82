"""HTTP/1.1 as far as the listeners need it: small requests and answers, each as quickly as possible.

General servers spend most of a request's time on what these have none of (routes, middleware, streams), and refuse the
raw spaces that clients of presence send in groups.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import NamedTuple, cast

import orjson
import structlog

from .connections import Connections

MAX_HEAD = 8 * 1024
"""Bytes of a request's head at the most."""

BACKLOG = 1024
"""Connections that may wait to be accepted."""

JSON = b"application/json; charset=utf-8"

_BEGIN = re.compile(rb"[A-Z]{1,20}(?: |\Z)")
_LINE = re.compile(rb"([A-Z]{1,20}) (/[^\r\n]*) HTTP/1\.([01])")
_FIELDS = re.compile(rb"(?:\n[-!#$%&'*+.^_`|~0-9A-Za-z]+:[^\r\n\0]*\r)*\n\r\n")
_LENGTH = re.compile(rb"\ncontent-length:[ \t]*([0-9]{1,18})[ \t]*\r")
_CHUNKED = re.compile(rb"\ntransfer-encoding:[ \t]*chunked[ \t]*\r")
_SIZE = re.compile(rb"([0-9a-fA-F]{1,8})[ \t]*(?:;[^\r\n]*)?")
_AUTHORIZATION = re.compile(rb"\nauthorization:[ \t]*(.*?)[ \t]*\r", re.IGNORECASE)
_STATUS = {status.value: b"HTTP/1.1 %d %s\r\n" % (status.value, status.phrase.encode()) for status in HTTPStatus}

log = structlog.get_logger(__name__)


class Request(NamedTuple):
    """One request."""

    method: str
    target: str
    """As it was sent."""
    head: bytes
    body: bytes
    transport: asyncio.Transport

    @property
    def remote(self) -> str | None:
        """The client's address."""
        peer = self.transport.get_extra_info("peername")
        return str(peer[0]) if peer else None

    @property
    def authorization(self) -> bytes | None:
        """Value of the header Authorization."""
        found = _AUTHORIZATION.search(self.head)
        return found[1] if found else None


class Answer(NamedTuple):
    """What is answered."""

    status: int
    body: bytes
    headers: bytes = b""
    """Whole lines."""
    content_type: bytes = JSON


class _RefusedError(Exception):
    """The request can't be read: status of the answer, and why; nothing after it on its connection is a request."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


class Server:
    """Answers requests, each connection's in order.

    Parameters
    ----------
    handle
        Answers a request.
    connections
        Takes note of connections and answers.
    max_body
        Bytes of a body at the most.
    """

    def __init__(self, handle: Callable[[Request], Awaitable[Answer]], connections: Connections, max_body: int) -> None:
        self.handle = handle
        self.connections = connections
        self.max_body = max_body
        self.clients: set[_Client] = set()
        self._server: asyncio.Server | None = None

    @property
    def is_open(self) -> bool:
        """Whether connections are accepted."""
        return self._server is not None

    async def open(self, host: str, port: int, tls: ssl.SSLContext | None) -> int:
        """Bind and listen; return the port."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Client(self), host, port, backlog=BACKLOG, ssl=tls)
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    async def close(self, patience: float) -> None:
        """Close; requests under way are answered if that takes no longer than `patience` seconds."""
        if self._server is None:
            return
        self._server.close()
        self._server = None
        if busy := [client.task for client in self.clients if client.task]:
            await asyncio.wait(busy, timeout=patience)
        for client in list(self.clients):
            client.transport.abort()


class _Head(NamedTuple):
    """Head of a request whose body is on its way."""

    method: str
    target: str
    text: bytes
    length: int | None
    """Bytes of the body; None if it comes in chunks."""
    last: bool
    """Whether no request follows on the connection."""


class _Client(asyncio.Protocol):
    """A client's connection."""

    transport: asyncio.Transport

    def __init__(self, server: Server) -> None:
        self._server = server
        self._received = bytearray()
        self._head: _Head | None = None
        self._chunks = bytearray()
        self._deaf = False
        """Whether what is received from now on is no request."""
        self._full = False
        """Whether the client does not read what it is told."""
        self._paused = False
        """Whether nothing more is taken from the client for now."""
        self.task: asyncio.Task[None] | None = None
        """The request that is being answered."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._server.clients.add(self)
        self._server.connections.opened(self.transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._deaf = True
        self._server.clients.discard(self)
        self._server.connections.closed(self.transport)

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        self._received += data
        if self.task is None and not self._full:
            self._next()
        elif len(self._received) > MAX_HEAD:
            self._paused = True
            self.transport.pause_reading()

    def eof_received(self) -> bool:
        self._deaf = True
        return self.task is not None and self.transport.get_extra_info("sslcontext") is None

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        if self.task is None:
            self._go_on()

    def _go_on(self) -> None:
        """Take more from the client, unless it does not read or is gone."""
        if self._full or self.transport.is_closing():
            return
        self._next()
        if self._paused and (self.task is None or len(self._received) <= MAX_HEAD):
            self._paused = False
            self.transport.resume_reading()

    def _next(self) -> None:
        """Begin with the next request, if all of it is there."""
        if self._deaf:
            return
        try:
            if self._head is None:
                self._head = _take_head(self._received, self._server.max_body)
                if self._head is None:
                    return
                if (
                    self._head.length != 0
                    and not self._received
                    and b"\nexpect: 100-continue\r" in self._head.text.lower()
                ):
                    self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            body = self._body(self._head.length)
        except _RefusedError as err:
            self._server.connections.malformed(str(err))
            self._write(Answer(err.status, orjson.dumps({"error": str(err)})), last=True)
            return
        if body is not None:
            head, self._head = self._head, None
            request = Request(head.method, head.target, head.text, body, self.transport)
            self.task = asyncio.get_running_loop().create_task(self._respond(request, head.last))

    def _body(self, length: int | None) -> bytes | None:
        received = self._received
        if length is not None:
            if len(received) < length:
                return None
            body = bytes(received[:length])
            del received[:length]
            return body
        while (chunk := _take_chunk(received)) is not None:
            if not chunk:
                body = bytes(self._chunks)
                self._chunks.clear()
                return body
            self._chunks += chunk
            if len(self._chunks) > self._server.max_body:
                raise _too_long(self._server.max_body)
        if len(received) > self._server.max_body:
            raise _too_long(self._server.max_body)
        return None

    async def _respond(self, request: Request, last: bool) -> None:
        try:
            answer = await self._server.handle(request)
        except Exception:
            log.exception("request fails", target=request.target)
            answer = Answer(500, b'{"error":"internal error"}')
        self.task = None
        if not self.transport.is_closing():
            self._write(answer, last=last or not self._server.is_open, body=request.method != "HEAD")
            self._go_on()

    def _write(self, answer: Answer, *, last: bool, body: bool = True) -> None:
        self.transport.write(
            b"%sContent-Type: %s\r\nContent-Length: %d\r\n%s%s\r\n%s"
            % (
                _STATUS[answer.status],
                answer.content_type,
                len(answer.body),
                answer.headers,
                b"Connection: close\r\n" if last else b"",
                answer.body if body else b"",
            )
        )
        self._server.connections.answered(self.transport)
        if self._deaf:
            self.transport.close()
        elif last:
            # The client may still be sending, and would not hear the answer if the connection were closed now.
            self._deaf = True
            self._received.clear()
            if self.transport.can_write_eof():
                self.transport.write_eof()


def _take_head(received: bytearray, max_body: int) -> _Head | None:
    """Take a request's head from what has been received; None while it is not there as a whole."""
    if received.startswith(b"\r\n"):  # some clients end a body with it
        del received[:2]
    end = received.find(b"\r\n\r\n", 0, MAX_HEAD)
    if end < 0:
        if len(received) >= MAX_HEAD:
            raise _RefusedError(400, f"the head has more than {MAX_HEAD} bytes")
        if received and received != b"\r" and not _BEGIN.match(received):
            raise _RefusedError(400, "not an HTTP request")
        return None
    text = bytes(received[: end + 4])
    del received[: end + 4]
    first, _, fields = text.partition(b"\r")
    line = _LINE.fullmatch(first)
    if line is None or not _FIELDS.fullmatch(fields):
        raise _RefusedError(400, "not an HTTP request")
    fields = fields.lower()
    length: int | None = 0
    if b"\ntransfer-encoding:" in fields:
        if b"\ncontent-length:" in fields or not _CHUNKED.search(fields):
            raise _RefusedError(400, "the length of the body is not clear")
        length = None
    elif b"\ncontent-length:" in fields:
        found = _LENGTH.findall(fields)
        if len(found) != fields.count(b"\ncontent-length:") or len(set(found)) != 1:
            raise _RefusedError(400, "the length of the body is not clear")
        length = int(found[0])
        if length > max_body:
            raise _too_long(max_body)
    if b"\ncontent-encoding:" in fields:
        raise _RefusedError(400, "compressed bodies are not understood")
    last = line[3] == b"0" or b"\nconnection: close\r" in fields
    return _Head(line[1].decode(), line[2].decode(errors="replace"), text, length, last)


def _take_chunk(received: bytearray) -> bytes | None:
    """Take a chunk of a body; None while it is not there as a whole, nothing once all are there."""
    end = received.find(b"\r\n", 0, MAX_HEAD)
    found = _SIZE.fullmatch(received, 0, end) if end >= 0 else None
    if found is None:
        if end >= 0 or len(received) >= MAX_HEAD:
            raise _RefusedError(400, "not a chunk")
        return None
    size = int(found[1], 16)
    if not size:
        # Fields may follow, which say nothing that matters here, and then an empty line.
        last = received.find(b"\r\n\r\n", end, MAX_HEAD)
        if last < 0 and len(received) >= MAX_HEAD:
            raise _RefusedError(400, f"fields after the body have more than {MAX_HEAD} bytes")
        if last >= 0:
            del received[: last + 4]
        return b"" if last >= 0 else None
    after = end + 2 + size
    if len(received) < after + 2:
        return None
    if not received.startswith(b"\r\n", after):
        raise _RefusedError(400, "not a chunk")
    chunk = bytes(received[end + 2 : after])
    del received[: after + 2]
    return chunk


def _too_long(most: int) -> _RefusedError:
    return _RefusedError(413, f"the body has more than {most} bytes")
