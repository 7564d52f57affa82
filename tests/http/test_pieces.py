"""What the listeners understand of HTTP does not depend on the pieces in which it comes."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web
from aiohttp.http_parser import HttpRequestParser, HttpRequestParserPy
from aiohttp.typedefs import Handler
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from autoingest.app.config import Listen
from autoingest.http.bodies import Bodies
from autoingest.http.listener import Listener
from testing.examples import number

MAX_BODY = 1000
BODY = re.compile(rb"\r\n\r\n(.*?)(?=HTTP/1\.1 |\Z)", re.DOTALL)
METHODS = ("GET", "POST", "PUT")


async def echo(request: web.Request) -> web.Response:
    with Bodies(MAX_BODY, MAX_BODY).room() as room:
        body = await room.read(request)
    return web.Response(body=f"<{request.method} {request.raw_path} {body.decode()}>".encode())


@asynccontextmanager
async def serving(handle: Handler = echo) -> AsyncIterator[int]:
    routes = [(method, "/{path:.*}", handle) for method in METHODS]
    listener = Listener("test", Listen(host="127.0.0.1", port=0), routes)
    await listener.open()
    try:
        yield listener.port
    finally:
        await listener.close(1.0)


async def say(port: int, pieces: list[bytes]) -> bytes:
    """Send pieces, each once the one before it has gone; all that the server says until it closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for piece in pieces:
        writer.write(piece)
        await writer.drain()
        await asyncio.sleep(0)
    async with asyncio.timeout(60):
        said = await reader.read()
    writer.close()
    return said


CHUNKED = b"POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
REQUESTS = [
    (b"GET /a%20b HTTP/1.1\r\nHost: x\r\n\r\n", b"<GET /a%20b >"),
    (b"POST /p HTTP/1.1\r\nHost: x\r\ncontent-length:  5 \r\n\r\nhello", b"<POST /p hello>"),
    (b"POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n\r\n", b"<POST /p >"),
    (CHUNKED + b"5\r\nhello\r\n6;a=b\r\n world\r\n0\r\n\r\n", b"<POST /c hello world>"),
    (CHUNKED + b"A\r\n0123456789\r\n0\r\nTrailer: x\r\nOther: y\r\n\r\n", b"<POST /c 0123456789>"),
    (b"PUT /q?x=%C3%A9 HTTP/1.1\r\nHost: x\r\nX:\r\nContent-Length: 2\r\n\r\n\r\n", b"<PUT /q?x=%C3%A9 \r\n>"),
]
LAST = (b"GET /last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", b"<GET /last >")


def test_the_parser_is_the_quick_one() -> None:
    assert HttpRequestParser is not HttpRequestParserPy


async def test_in_whatever_pieces_it_comes() -> None:
    loop = asyncio.get_running_loop()
    async with serving() as port:

        @settings(max_examples=number(100), deadline=None, suppress_health_check=list(HealthCheck), database=None)
        @given(st.lists(st.sampled_from(REQUESTS), max_size=6), st.lists(st.integers(1, 60), max_size=60))
        def check(requests: list[tuple[bytes, bytes]], sizes: list[int]) -> None:
            whole = b"".join(sent for sent, _ in [*requests, LAST])
            pieces = []
            for size in sizes:
                pieces.append(whole[:size])
                whole = whole[size:]
            said = asyncio.run_coroutine_threadsafe(say(port, [*pieces, whole]), loop).result(60)
            assert BODY.findall(said) == [answer for _, answer in [*requests, LAST]]

        await asyncio.to_thread(check)


async def test_answers_to_who_does_not_read_do_not_pile_up() -> None:
    waiting = []

    async def answer(request: web.Request) -> web.Response:
        assert request.transport
        waiting.append(request.transport.get_write_buffer_size())
        return await echo(request)

    many = 30_000
    async with serving(answer) as port, asyncio.timeout(120):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1000)
        request = b"POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: 900\r\n\r\n" + b"x" * 900
        writer.write(request * many + LAST[0])
        while not any(waiting):
            await asyncio.sleep(0)
        for _ in range(1000):
            await asyncio.sleep(0)
        said = await reader.read()
        writer.close()
    assert said.count(b"HTTP/1.1 200 OK\r\n") == many + 1
    assert max(waiting) < 2**18
