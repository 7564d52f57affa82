"""What hostile senders can't do: keep others waiting, use up memory or connections, or fill the log."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import aiohttp
import pytest
import structlog
from aiohttp import web
from redis.asyncio import Redis

from autoingest.app.config import Config, Listen, Tls
from autoingest.app.health import Admin
from autoingest.app.pacing import MAX_KINDS, PacedLog
from autoingest.app.secrets import NOTIFICATION_SECRETS
from autoingest.http import bodies, connections, listener, refusals
from autoingest.http.listener import Listener
from autoingest.notify.records import MalformedMessageError, RecordParser
from autoingest.queue.connection import Client
from autoingest.roles.enqueue import EnqueueRole
from testing.messages import body, key, record
from testing.tls import certificate
from testing.waiting import until

MIB = 2**20


@asynccontextmanager
async def enqueue(client: Redis, listen: dict[str, Any] | None = None, **settings: Any) -> AsyncIterator[EnqueueRole]:
    config = Config.from_dict(
        {
            "buckets": ["embargo@rubin-summit"],
            "ingest": {"repo": "/nowhere"},
            "enqueue": {"listen": {"host": "127.0.0.1", "port": 0, **(listen or {})}, **settings},
        },
        "test",
    )
    role = EnqueueRole(config, client)
    try:
        await role.start()
        yield role
    finally:
        await role.close()


@asynccontextmanager
async def serving(handle: Callable[[web.Request], Any], **listen: Any) -> AsyncIterator[int]:
    opened = Listener("test", Listen(**{"host": "127.0.0.1", "port": 0, **listen}), [("GET", "/", handle)])
    await opened.open()
    try:
        yield opened.port
    finally:
        await opened.close(1.0)


async def ok(_: web.Request) -> web.Response:
    return web.Response(body=b"{}")


def message(content: bytes, headers: str = "") -> bytes:
    return f"POST /notify HTTP/1.1\r\nHost: a\r\n{headers}Content-Length: {len(content)}\r\n\r\n".encode() + content


async def say(port: int, content: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(content)
    return reader, writer


async def status(reader: asyncio.StreamReader) -> int:
    """Status of the next answer; its body is read, too."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    await reader.readexactly(int(length.split(b":")[1]))
    return int(head.split(b" ")[1])


async def ended(reader: asyncio.StreamReader) -> bool:
    """Wait until the listener closes the connection; whether it has said nothing more."""
    with contextlib.suppress(ConnectionError):
        return await reader.read() == b""
    return True


# Time


def fill(unit: bytes, last: bytes) -> bytes:
    begin = b'{"Records":['
    return begin + unit * ((MIB - len(begin) - len(last)) // len(unit)) + last


NAMES = b",".join(b'"%x":0' % number for number in range(100_000))
HOSTILE = {
    "lists": fill(b"[],", b"[]]}"),
    "objects": fill(b"{},", b"{}]}"),
    "lists, not closed": fill(b"[],", b"[]]"),
    "lists, not UTF-8": fill(b"[],", b'"\xff"]}'),
    "lists, half a pair": fill(b"[],", b'"\\ud800"]}'),
    "halves of pairs": fill(b'"\\ud800",', b'""]}'),
    "backslashes": fill(b"\\\\", b'"]}') + b'"\\ud800',
    "nested": fill(b"[" * 1000 + b"]" * 1000 + b",", b"0]}"),
    "deep": fill(b"[", b"]}"),
    "numbers": fill(b"0,", b"0]}"),
    "fractions": fill(b"1.2345678901234567e-300,", b"0]}"),
    "a long number": fill(b"9", b"]}"),
    "texts": fill(b'"ab",', b'""]}'),
    "names": b'{"Records":[{' + NAMES + b"}]}",
    "names, half a pair": b'{"Records":[{' + NAMES + b',"a":"\\ud800"}]}',
    "empty records": b'{"Records":[' + b",".join([b"{}"] * 1000) + b"]}",
    "rejected records": body(*[record("x" * 800 + ".fits")] * 900)[:MIB],
    "long keys": body(*[record("a" * 900 + "/.fits")] * 900)[:MIB],
    "one long key": body(record("%61" * (MIB // 4) + ".fits")),
    "not UTF-8": fill(b"\xff", b'"]}'),
}


@pytest.mark.parametrize("pattern", [r"\.fits$", r"^(a+)+$", r"(.*)*\.(.*)*\.fits$", r"(a|aa)+x"])
@pytest.mark.parametrize("name", HOSTILE)
async def test_others_have_their_turn_while_a_message_is_read(name: str, pattern: str) -> None:
    """Processor time is measured, with room for a garbage collection; one that gives no turn takes seconds."""
    parser = RecordParser(["embargo@rubin-summit"], pattern)

    async def read() -> None:
        with contextlib.suppress(MalformedMessageError):
            await parser.parse(HOSTILE[name])

    reading = asyncio.gather(*(read() for _ in range(3)))
    longest = 0.0
    while not reading.done():
        before = time.thread_time()
        await asyncio.sleep(0)
        longest = max(longest, time.thread_time() - before)
    assert longest < 0.5


@pytest.mark.parametrize("pattern", ["(", "(?=a)", r"(a)\1", "[z-a]", "a{2000}"])
def test_patterns_that_can_not_be_searched_in_linear_time(pattern: str) -> None:
    with pytest.raises(Exception, match="not a regular expression that RE2 knows"):
        Config.from_dict({"buckets": ["b"], "ingest": {"repo": "r"}, "enqueue": {"filter": pattern}}, "f")


# Memory


async def test_bodies_together_have_a_limit(redis_client: Redis) -> None:
    """Long ones that find no room are answered as in an outage; short ones always find it; the room comes back."""
    async with (
        enqueue(redis_client, maxBody=200_000, maxBodies=400_000, hold=0.2) as role,
        asyncio.timeout(60),
    ):
        room = role._handler._bodies
        long = body(record(padding="x" * 190_000))
        halves = [await say(role.port, message(long)[:-10]) for _ in range(2)]
        await until(lambda: room.left < 60_000)
        reader, writer = await say(role.port, message(long))
        assert await status(reader) == 503
        writer.close()
        reader, writer = await say(role.port, message(body(record(key("R01_S00")))))
        assert await status(reader) == 200
        writer.close()
        for reader, writer in halves:
            writer.write(message(long)[-10:])
            assert await status(reader) == 200
            writer.close()
        assert room.left == 400_000
        # Whoever goes away in the middle gives it back, too.
        _, writer = await say(role.port, message(long)[:-10])
        await until(lambda: room.left < 400_000)
        writer.close()
        await until(lambda: room.left == 400_000)
        reader, writer = await say(role.port, message(long))
        assert await status(reader) == 200
        writer.close()


async def test_body_that_does_not_come(redis_client: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "BODY", 0.3)
    async with enqueue(redis_client) as role, asyncio.timeout(60):
        reader, writer = await say(role.port, message(body(record()))[:-1])
        assert await status(reader) == 408
        assert await ended(reader)
        writer.close()


async def test_bodies_that_break_off_or_are_malformed_later(
    redis_client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They fill no log, and the listener goes on; aiohttp does not tell of a chunk that is malformed."""
    monkeypatch.setattr(bodies, "BODY", 0.3)
    begin = b"POST /notify HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
    with structlog.testing.capture_logs() as logs:
        async with enqueue(redis_client) as role, asyncio.timeout(60):
            opened = role._listener._connections  # type: ignore[union-attr]
            for _ in range(5):
                for sent, end in ((message(body(record()))[:-1], None), (begin, None), (begin, b"x\r\n")):
                    reader, writer = await say(role.port, sent)
                    await until(lambda: any(connection._current_request for connection in opened.all))
                    if end:
                        writer.write(end)
                        assert await status(reader) == 408
                        assert await ended(reader)
                    writer.transport.abort()
                    await until(lambda: not opened.all)
            reader, writer = await say(role.port, message(body(record())))
            assert await status(reader) == 200
            writer.close()
    assert [entry["event"] for entry in logs if entry["log_level"] in ("warning", "error")] == [
        "notifications are not authenticated: no secret is configured",
    ]


# Secrets


@pytest.fixture
def secret(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv(NOTIFICATION_SECRETS, "old-secret n\u00e9w-secret")
    return "n\u00e9w-secret"


async def test_bearer_token_counts_as_the_secret_of_records(redis_client: Redis, secret: str) -> None:
    async with enqueue(redis_client, hold=0.1) as role, aiohttp.ClientSession() as http:

        async def post(content: bytes, authorization: str | None) -> int:
            headers = {"Authorization": authorization} if authorization is not None else {}
            async with http.post(f"http://127.0.0.1:{role.port}/notify", data=content, headers=headers) as response:
                return response.status

        bare, signed = body(record()), body(record(secret=secret))
        accepted = (f"Bearer {secret}", "bearer old-secret", "BEARER  old-secret ")
        assert [await post(bare, authorization) for authorization in accepted] == [200] * 3
        refused: tuple[str | None, ...] = (
            None,
            "",
            "Bearer",
            "Bearer ",
            f"Basic {secret}",
            secret,
            f"Bearer {secret}x",
            "Bearer é",
        )
        for authorization in refused:
            assert await post(bare, authorization) == 401, authorization
            assert await post(signed, authorization) == 200, authorization


async def test_refusals_are_slow_and_few(redis_client: Redis, secret: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those beyond the limit are answered at once and lose their connection; one line tells of all."""
    monkeypatch.setattr(refusals, "MAX_HELD", 3)
    async with enqueue(redis_client, hold=3.0) as role, asyncio.timeout(120):
        with structlog.testing.capture_logs() as logs:
            loop = asyncio.get_running_loop()
            role._handler._refusals._hold = 2.0
            started = loop.time()
            contents = [body(record(secret="wrong")), body(record()), b"[", body(record(secret="wrong"))]
            held = [await say(role.port, message(content)) for content in contents[:3]]
            handler = role._handler
            await until(lambda: handler._refusals._held == 3)
            reader, writer = await say(role.port, message(contents[3]))
            assert await status(reader) == 401
            assert await ended(reader)
            writer.close()
            assert handler._refusals._held == 3 or loop.time() - started >= 2.0
            statuses = []
            for reader, writer in held:
                statuses.append(await status(reader))
                writer.close()
            assert statuses == [401, 401, 400]
            assert loop.time() - started >= 2.0
            assert handler._refusals._held == 0
    assert [entry["event"] for entry in logs].count("records without a valid secret dropped") == 1
    assert not any(word in repr(logs) for word in ("wrong", "old-secret"))


def test_log_is_paced_for_each_sender(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    paced = PacedLog("refused")
    with structlog.testing.capture_logs() as logs:
        for _ in range(5):
            paced.warn("a", remote="a")
        paced.warn("b", remote="b")
        now = 61.0
        paced.warn("a", remote="a")
        for sender in range(2 * MAX_KINDS):
            paced.warn(sender)
    assert [entry.get("not_logged_since") for entry in logs if entry.get("remote")] == [None, None, 4]
    assert len(logs) <= MAX_KINDS + 3
    assert len(paced._kinds) <= MAX_KINDS + 1


# Connections


async def test_requests_under_way_keep_their_places(monkeypatch: pytest.MonkeyPatch) -> None:
    """New connections take the places of silent ones; where all have requests, they wait, and then they are served."""
    monkeypatch.setattr(connections, "SILENT", 0.0)
    go, busy = asyncio.Event(), 0

    async def slow(_: web.Request) -> web.Response:
        nonlocal busy
        busy += 1
        await go.wait()
        return web.Response(body=b"{}")

    get = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    async with serving(slow, maxConnections=5) as port, asyncio.timeout(60):
        silent = [await say(port, b"GET") for _ in range(5)]
        genuine = []
        for number in range(1, 6):
            genuine.append(await say(port, get))
            await until(lambda number=number: busy == number)  # type: ignore[misc]
        assert all([await ended(reader) for reader, _ in silent])
        late = [await say(port, get) for _ in range(3)]
        await asyncio.sleep(0.3)
        assert busy == 5
        go.set()
        for reader, writer in (*genuine, *late):
            assert await status(reader) == 200
            writer.close()
        for _, writer in silent:
            writer.close()


async def test_bodies_under_way_keep_their_places(redis_client: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """For as long as a connection may be silent."""
    monkeypatch.setattr(connections, "SILENT", 60.0)
    content = message(body(record()))
    async with enqueue(redis_client, {"maxConnections": 2}) as role, asyncio.timeout(60):
        slow = [await say(role.port, content[:-1]) for _ in range(2)]
        opened = role._listener._connections  # type: ignore[union-attr]
        await until(lambda: sum(bool(connection._current_request) for connection in opened.all) == 2)
        late = [await say(role.port, content) for _ in range(3)]
        for reader, writer in slow:
            writer.write(content[-1:])
            assert await status(reader) == 200
            writer.close()
        for reader, writer in late:
            assert await status(reader) == 200
            writer.close()


@pytest.mark.parametrize(
    "sent",
    [
        message(body(record()))[:-1],
        message(bytes(MIB))[: MIB // 2],
        message(body(record()), "Expect: 100-continue\r\n").partition(b"{")[0],
        b"POST /notify HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    ],
)
async def test_bodies_that_do_not_come_make_room(
    redis_client: Redis, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(connections, "SILENT", 0.0)
    monkeypatch.setattr(bodies, "BODY", 60.0)
    async with enqueue(redis_client, {"maxConnections": 3}) as role, asyncio.timeout(50):
        slow = [await say(role.port, sent) for _ in range(3)]
        opened = role._listener._connections  # type: ignore[union-attr]
        await until(lambda: sum(bool(connection._current_request) for connection in opened.all) == 3)
        reader, writer = await say(role.port, message(body(record())))
        assert await status(reader) == 200
        for _, open_ in (*slow, (reader, writer)):
            open_.close()


async def test_refused_senders_make_room(redis_client: Redis, secret: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "SILENT", 0.0)
    async with enqueue(redis_client, {"maxConnections": 5}, hold=60) as role, asyncio.timeout(50):
        refused = [await say(role.port, message(body(record(secret="wrong")))) for _ in range(5)]
        handler = role._handler
        await until(lambda: handler._refusals._held == 5)
        reader, writer = await say(role.port, message(body(record(secret=secret))))
        assert await status(reader) == 200
        for _, open_ in (*refused, (reader, writer)):
            open_.close()
        handler._refusals._hold = 0


async def test_1700_clients_of_presence_at_once(redis_client: Redis) -> None:
    """All of them connect before the first one asks, and each is answered."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 4000:
        pytest.skip("needs 4,000 file descriptors")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 4000), hard))
    limits = Config.from_dict({"buckets": ["b"], "ingest": {"repo": "r"}}, "t").presence.listen
    async with serving(ok, maxConnections=limits.max_connections) as port, asyncio.timeout(120):
        clients = []
        for _ in range(17):
            clients += await asyncio.gather(*(say(port, b"") for _ in range(100)))
        for _, writer in clients:
            writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert {await status(reader) for reader, _ in clients} == {200}
        for _, writer in clients:
            writer.close()


@pytest.mark.parametrize(("handshake", "silent"), [(0.5, 60.0), (60.0, 0.0)])
async def test_handshakes_that_do_not_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, handshake: float, silent: float
) -> None:
    """They count as connections; they end in time, or when others need their places."""
    monkeypatch.setattr(listener, "HANDSHAKE", handshake)
    monkeypatch.setattr(connections, "SILENT", silent)
    cert_file, key_file = certificate(tmp_path)
    trusting = ssl.create_default_context(cafile=str(cert_file))
    tls = {"certFile": str(cert_file), "keyFile": str(key_file)}
    async with serving(ok, maxConnections=3, tls=tls) as port, asyncio.timeout(50):
        stalled = [await say(port, b"\x16\x03\x01") for _ in range(3)]
        async with (
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trusting)) as http,
            http.get(f"https://127.0.0.1:{port}/") as answer,
        ):
            assert answer.status == 200
        if silent:
            assert all([await ended(reader) for reader, _ in stalled])
        for _, writer in stalled:
            writer.close()


@pytest.mark.parametrize("with_tls", [False, True])
async def test_who_does_not_read_is_let_go(tmp_path: Path, with_tls: bool) -> None:
    """Also if what it does not read fills the buffers of both sides."""

    async def much(_: web.Request) -> web.Response:
        return web.Response(body=bytes(64 * MIB))

    cert_file, key_file = certificate(tmp_path)
    tls = Tls(cert_file=cert_file, key_file=key_file) if with_tls else None
    context = ssl.create_default_context(cafile=str(cert_file)) if with_tls else None
    opened = Listener("test", Listen(host="127.0.0.1", port=0, tls=tls, patience=0.5), [("GET", "/", much)])
    await opened.open()
    async with asyncio.timeout(60):
        _, writer = await asyncio.open_connection("127.0.0.1", opened.port, ssl=context)
        cast(asyncio.ReadTransport, writer.transport).pause_reading()
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await until(lambda: len(opened._connections.all) == 1)
        while opened._connections.all:  # that further requests come does not matter
            with contextlib.suppress(ConnectionError):
                writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            await asyncio.sleep(0.05)
        writer.transport.abort()
        await opened.close(1.0)


async def test_no_more_is_taken_than_is_answered() -> None:
    """Requests that come while one is being answered stay with their sender."""
    go = asyncio.Event()

    async def slow(_: web.Request) -> web.Response:
        await go.wait()
        return web.Response(body=b"{}")

    request = b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 16000\r\n\r\n" + bytes(16000)
    async with serving(slow) as port, asyncio.timeout(60):
        reader, writer = await say(port, b"")
        writer.transport.set_write_buffer_limits(0)
        taken = 0
        with contextlib.suppress(TimeoutError):
            while True:
                writer.write(request)
                async with asyncio.timeout(1):
                    await writer.drain()
                taken += len(request)
        assert taken < 4 * MIB  # of which the sender's kernel keeps the most
        go.set()
        for _ in range(taken // len(request)):
            assert await status(reader) == 200
        writer.close()


@pytest.fixture
def no_descriptors() -> Iterator[Callable[[], None]]:
    """Use up all file descriptors of this process."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    held: list[socket.socket] = []

    def use_up() -> None:
        number = held_now = socket.socket().detach()
        socket.socket(fileno=held_now).close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (number + 20, limits[1]))
        with contextlib.suppress(OSError):
            while True:
                held.append(socket.socket())

    yield use_up
    for sock in held:
        sock.close()
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)


async def test_administration_without_file_descriptors(redis_client: Redis, no_descriptors: Callable[[], None]) -> None:
    config = Config.from_dict(
        {"buckets": ["b"], "ingest": {"repo": "r"}, "admin": {"listen": {"host": "127.0.0.1", "port": 0}}}, "t"
    )
    admin = Admin(config, cast(Client, redis_client), [])
    await admin.start()
    clients = [socket.socket() for _ in range(3)]
    try:
        with structlog.testing.capture_logs() as logs:
            no_descriptors()
            loop = asyncio.get_running_loop()
            async with asyncio.timeout(60):
                for client in clients:
                    client.setblocking(False)
                    await loop.sock_connect(client, ("127.0.0.1", admin.port))
                    await loop.sock_sendall(client, b"GET /livez HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                    assert b" 200 OK" in await loop.sock_recv(client, 1000)
        assert [entry["event"] for entry in logs].count("no file descriptor left for a connection") == 1
    finally:
        for client in clients:
            client.close()
        await admin.close()


async def test_both_families() -> None:
    if not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    async with serving(ok, host=None) as port, asyncio.timeout(60):
        for host in ("127.0.0.1", "::1"):
            try:
                reader, writer = await asyncio.open_connection(host, port)
            except OSError:
                if host == "::1" and not Path("/proc/net/if_inet6").exists():
                    continue
                raise
            writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert await status(reader) == 200
            writer.close()
