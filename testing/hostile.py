"""Senders that mean harm, or don't know better."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager

from testing.messages import body, record

MIB = 2**20
LISTS = b'{"Records":[' + b"[]," * (MIB // 3 - 10) + b"[]]}"
NAMES = b'{"Records":[{' + b",".join(b'"%x":0' % number for number in range(90_000)) + b"}]}"


class Hostile:
    """Sends to one listener until it is stopped, in a thread of its own.

    Parameters
    ----------
    port
        Port of the listener.
    each
        Connections of each kind at once.
    """

    def __init__(self, port: int, each: int) -> None:
        self._port = port
        self._each = each
        self._stop = threading.Event()
        self.done: Counter[str] = Counter()
        """What was tried, by kind, and what was answered, by status."""

    @contextmanager
    def attacking(self) -> Iterator[None]:
        """Attack until the context ends."""
        thread = threading.Thread(target=lambda: asyncio.run(self._attack()), name="hostile", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join(60)
            assert not thread.is_alive()

    async def _attack(self) -> None:
        kinds = (self._wrong, self._malformed, self._slow_head, self._slow_body, self._huge, self._beyond, self._silent)
        tasks = [asyncio.create_task(self._repeat(kind)) for kind in kinds for _ in range(self._each)]
        await asyncio.gather(*tasks)
        await asyncio.sleep(0.1)  # the loop lets go of what was aborted

    async def _repeat(self, kind: Callable[[], Coroutine[None, None, None]]) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await kind()
            self.done[kind.__name__.removeprefix("_")] += 1
            await asyncio.sleep(0.05)

    async def _send(self, *pieces: bytes, pause: float = 0.0) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(pause)
            if said := await reader.read(13):
                self.done[said[9:12].decode(errors="replace")] += 1
        finally:
            writer.transport.abort()

    async def _wrong(self) -> None:
        await self._send(post(body(record(secret="wrong"))))

    async def _malformed(self) -> None:
        for sent in (
            b"nonsense\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01",
            post(b"{"),
            post(body(record()), b"Transfer-Encoding: chunked\r\n"),
        ):
            await self._send(sent, b"\r\n\r\n")

    async def _slow_head(self) -> None:
        await self._send(*[bytes([byte]) for byte in b"POST /notify HTTP/1.1\r\nHost: a\r\nX: yyyyyyyyyy"], pause=0.1)

    async def _slow_body(self) -> None:
        await self._send(*[post(LISTS)[at : at + 8192] for at in range(0, 8192 * 40, 8192)], pause=0.1)

    async def _huge(self) -> None:
        for content in (LISTS, NAMES):
            await self._send(post(content))

    async def _beyond(self) -> None:
        await self._send(post(bytes(2 * MIB)))

    async def _silent(self) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", self._port)
        await asyncio.sleep(2)
        writer.transport.abort()


def post(content: bytes, headers: bytes = b"") -> bytes:
    """Return a whole request."""
    return b"POST /notify HTTP/1.1\r\nHost: a\r\n%sContent-Length: %d\r\n\r\n%s" % (headers, len(content), content)
