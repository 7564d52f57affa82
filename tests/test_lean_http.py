"""What the listeners understand of HTTP, and that it does not matter in which pieces it comes."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from autoingest.config import Listen
from autoingest.lean_http import MAX_HEAD, Answer, Request
from autoingest.listener import Listener

from .support.examples import number

MAX_BODY = 1000
BODY = re.compile(rb"\r\n\r\n(.*?)(?=HTTP/1\.1 |\Z)", re.DOTALL)


async def echo(request: Request) -> Answer:
    return Answer(200, f"<{request.method} {request.target} {request.body.decode()}>".encode())


Handle = Callable[[Request], Awaitable[Answer]]


@asynccontextmanager
async def serving(handle: Handle = echo) -> AsyncIterator[int]:
    listener = Listener("test", Listen(host="127.0.0.1", port=0), handle, MAX_BODY)
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


CHUNKED = b"POST /c HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
REQUESTS = [
    (b"GET /a b HTTP/1.1\r\nHost: x\r\n\r\n", b"<GET /a b >"),
    (b"POST /p HTTP/1.1\r\ncontent-length:  5 \r\n\r\nhello", b"<POST /p hello>"),
    (b"POST /p HTTP/1.1\r\nContent-Length: 0\r\n\r\n\r\n", b"<POST /p >"),
    (CHUNKED + b"5\r\nhello\r\n6;a=b\r\n world\r\n0\r\n\r\n", b"<POST /c hello world>"),
    (CHUNKED + b"A\r\n0123456789\r\n0\r\nTrailer: x\r\nOther: y\r\n\r\n", b"<POST /c 0123456789>"),
    (b"PUT /q?x=\xc3\xa9 HTTP/1.1\r\nX:\r\nContent-Length: 2\r\n\r\n\r\n", "<PUT /q?x=é \r\n>".encode()),
]
LAST = (b"GET /last HTTP/1.1\r\nConnection: close\r\n\r\n", b"<GET /last >")


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


async def test_line_between_requests_in_two_pieces() -> None:
    async with serving() as port, asyncio.timeout(60):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(REQUESTS[0][0] + b"\r")
        await reader.readuntil(REQUESTS[0][1])
        writer.write(b"\n" + LAST[0])
        assert (await reader.read()).endswith(LAST[1])
        writer.close()


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"POST / HTTP/1.1\r\nContent-Length: 1001\r\n\r\n", b"413"),
        (CHUNKED + b"3e9\r\n" + b"x" * 1001 + b"\r\n", b"413"),
        (CHUNKED + b"200\r\n" + b"x" * 512 + b"\r\n200\r\n" + b"x" * 512 + b"\r\n", b"413"),
        (CHUNKED + b"fffffff\r\n" + b"x" * 1001, b"413"),
        (CHUNKED + b"five\r\n", b"400"),
        (CHUNKED + b"x" * MAX_HEAD, b"400"),
        (CHUNKED + b"5\r\nhello!\r\n", b"400"),
        (CHUNKED + b"0\r\n" + b"X: y\r\n" * MAX_HEAD, b"400"),
        (b"POST / HTTP/1.1\r\nContent-Length: five\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nContent-Length : 1\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nX: y\r\n z\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\nX: y\n\r\n\r\n", b"400"),
    ],
)
async def test_what_can_not_be_read_is_answered_and_ends_the_connection(sent: bytes, status: bytes) -> None:
    async with serving() as port:
        said = await say(port, [sent])
        assert (said[9:12], said.count(b"HTTP/1.1 ")) == (status, 1)
        assert b"\r\nConnection: close\r\n" in said


async def test_answer_to_head_has_no_body() -> None:
    async with serving() as port:
        said = await say(port, [b"HEAD /h HTTP/1.1\r\n\r\n" + LAST[0]])
    assert b"Content-Length: 10\r\n\r\nHTTP/1.1 200 OK\r\n" in said


async def test_who_waits_to_be_told_to_go_on_is_told() -> None:
    async with serving() as port, asyncio.timeout(60):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST /p HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"hello" + LAST[0])
        assert BODY.findall(await reader.read()) == [b"<POST /p hello>", LAST[1]]
        writer.close()


async def test_answers_to_who_does_not_read_do_not_pile_up() -> None:
    waiting, held = [], []

    async def answer(request: Request) -> Answer:
        waiting.append(request.transport.get_write_buffer_size())
        held.append(len(request.transport.get_protocol()._received))  # type: ignore[union-attr]
        return await echo(request)

    many = 30_000
    async with serving(answer) as port, asyncio.timeout(120):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1000)
        request = b"POST /p HTTP/1.1\r\nContent-Length: 900\r\n\r\n" + b"x" * 900
        writer.write(request * many + LAST[0])
        while not any(waiting):
            await asyncio.sleep(0)
        for _ in range(1000):
            await asyncio.sleep(0)
        said = await reader.read()
        writer.close()
    assert said.count(b"HTTP/1.1 200 OK\r\n") == many + 1
    assert max(waiting) < 2**17
    assert max(held) < 2**20
