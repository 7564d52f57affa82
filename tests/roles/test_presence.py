"""The contract with Prompt Processing, byte by byte."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from redis.asyncio import Redis

from autoingest.app.config import Config, RedisConfig
from autoingest.dev import embedded
from autoingest.queue.connection import connect
from autoingest.queue.presence import LOOKUP_TIMEOUT, Arrival, GroupKeys
from autoingest.roles.presence import PresenceRole

GROUP = "2025-04-16T00:25:46.032"
URL = "s3://embargo@rubin-summit/LSSTCam/20250415/MC_O_20250415_000060/MC_O_20250415_000060_R22_S11.fits"


def config(**presence: object) -> Config:
    presence["listen"] = {"host": "127.0.0.1", "port": 0}
    return Config.from_dict({"buckets": ["b"], "ingest": {"repo": "/nowhere"}, "presence": presence}, "test")


@asynccontextmanager
async def serving(client: Redis, **presence: object) -> AsyncIterator[PresenceRole]:
    role = PresenceRole(config(**presence), client)
    assert role.unready_reasons() == ["listener is not open"]
    await role.start()
    try:
        assert role.unready_reasons() == []
        yield role
    finally:
        await role.close()


async def ask(role: PresenceRole, target: str, method: str = "GET") -> tuple[int, dict[str, object]]:
    """Send the target as it is, and close, as a client without keep-alive does."""
    reader, writer = await asyncio.open_connection("127.0.0.1", role.port)
    writer.write(f"{method} {target} HTTP/1.1\r\nHost: presence\r\nConnection: close\r\n\r\n".encode())
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    await writer.wait_closed()
    assert b"content-type: application/json" in head.lower()
    return int(head.split(b" ")[1]), {} if method == "HEAD" else json.loads(body)


@pytest.mark.parametrize("instrument", ["LSSTCam", "LATISS", "LSSTCamSim", "LSSTComCam", "LSSTComCamSim", "LSST-TS8"])
@pytest.mark.parametrize("detector", ["R22_S11", "R00_SW0"])
async def test_present_and_absent(redis_client: Redis, instrument: str, detector: str) -> None:
    await GroupKeys(redis_client, 60).record([Arrival(instrument, GROUP, 0, detector, URL)])
    async with serving(redis_client) as role:
        for _ in range(2):  # seen, and still there
            assert await ask(role, f"/presence/{instrument}/{GROUP}/0/{detector}") == (
                200,
                {"error": False, "present": True, "uri": URL},
            )
        assert await ask(role, f"/presence/{instrument}/{GROUP}/1/{detector}") == (
            200,
            {"error": False, "present": False},
        )


@pytest.mark.parametrize(
    ("group", "sent"),
    [
        (f"{GROUP} +3", f"{GROUP}%20+3"),
        (f"{GROUP} +3", f"{GROUP}%20%2B3"),
        (f"{GROUP}+1", f"{GROUP}+1"),
        (f"{GROUP}#1", f"{GROUP}%231"),
        (f"{GROUP}", f"{GROUP}#1"),
        ("A", "%41"),
        ("a  b", "a%20%20b"),
        ("a?b&c=d", "a%3Fb&c=d"),
        ("50%", "50%25"),
        ("50%", "50%"),
        ("a/b", "a/b"),
        ("a/b", "a%2Fb"),
        ("a//b", "a%2F%2Fb"),
        ("..", ".."),
        ("wave,Focus,455,32.0PH=5um", "wave,Focus,455,32.0PH=5um"),
        ("Grüße 1", "Gr%C3%BC%C3%9Fe%201"),
        ("\ufffd", "%FF"),
    ],
)
async def test_group_as_clients_write_it(redis_client: Redis, group: str, sent: str) -> None:
    await GroupKeys(redis_client, 60).record([Arrival("LSSTCam", group, 0, "R22_S11", URL)])
    async with serving(redis_client) as role:
        end = "" if "#" in sent else "/0/R22_S11"
        status, body = await ask(role, f"/presence/LSSTCam/{sent}{end}")
    if end:
        assert (status, body.get("present")) == (200, True)
    else:
        assert (status, body["error"]) == (404, True)


@pytest.mark.parametrize(
    "target",
    [
        f"/presence//LSSTCam/{GROUP}/0/R22_S11",
        f"//presence/LSSTCam/{GROUP}/0/R22_S11",
        f"///presence///LSSTCam//{GROUP}//0//R22_S11//",
        f"/presence/LSSTCam/{GROUP}/0/R22_S11/",
        f"http://other:99/presence//LSSTCam/{GROUP}/0/R22_S11",
    ],
)
async def test_more_slashes_than_needed(redis_client: Redis, target: str) -> None:
    await GroupKeys(redis_client, 60).record([Arrival("LSSTCam", GROUP, 0, "R22_S11", URL)])
    async with serving(redis_client) as role:
        assert await ask(role, target) == (200, {"error": False, "present": True, "uri": URL})


async def test_guiders_are_always_absent(redis_client: Redis) -> None:
    """Even if somebody has written a key for one."""
    await GroupKeys(redis_client, 60).record([Arrival("LSSTCam", GROUP, 0, "R00_SG0", URL)])
    async with serving(redis_client) as role:
        answer = await ask(role, f"/presence/LSSTCam/{GROUP}/0/R00_SG0")
    assert answer == (200, {"error": False, "present": False})


@pytest.mark.parametrize(
    "target",
    [
        f"/presence/DECam/{GROUP}/0/R22_S11",
        f"/presence/LSSTCam/{GROUP}/x/R22_S11",
        f"/presence/LSSTCam/{GROUP}/-1/R22_S11",
        f"/presence/LSSTCam/{GROUP}/0/94",
        f"/presence/LSSTCam/{GROUP}/0/R22_S1",
        f"/presence/LSSTCam/{GROUP}/0/R22_SX1",
    ],
)
async def test_what_is_malformed_is_refused(redis_client: Redis, target: str) -> None:
    async with serving(redis_client) as role:
        status, body = await ask(role, target)
    assert (status, body["error"], sorted(body)) == (400, True, ["error", "message"])


@pytest.mark.parametrize(
    ("method", "target", "expected"),
    [
        ("GET", "/", 404),
        ("GET", "/presence", 404),
        ("GET", "/presence/", 404),
        ("GET", "/presence/LSSTCam/0/R22_S11", 404),
        ("GET", "/presences/LSSTCam/g/0/R22_S11", 404),
        ("HEAD", f"/presence/LSSTCam/{GROUP}/0/R22_S11", 405),
        ("OPTIONS", "*", 404),
        ("GET", "/presence/" + "x" * 9000, 400),
        ("POST", f"/presence/LSSTCam/{GROUP}/0/R22_S11", 405),
    ],
)
async def test_other_requests(redis_client: Redis, method: str, target: str, expected: int) -> None:
    async with serving(redis_client) as role:
        status, body = await ask(role, target, method)
    assert status == expected
    assert method == "HEAD" or (body["error"], sorted(body)) == (True, ["error", "message"])


async def test_connection_may_be_kept(redis_client: Redis) -> None:
    await GroupKeys(redis_client, 60).record([Arrival("LSSTCam", "a b", 0, "R22_S11", URL)])
    async with serving(redis_client) as role:
        reader, writer = await asyncio.open_connection("127.0.0.1", role.port)
        for _ in range(3):
            writer.write(b"GET /presence/LSSTCam/a%20b/0/R22_S11 HTTP/1.1\r\nHost: presence\r\n\r\n")
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 ")
            length = next(int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length:"))
            assert json.loads(await reader.readexactly(length))["uri"] == URL
        writer.close()
        await writer.wait_closed()


async def test_other_methods_are_refused_with_their_body(redis_client: Redis) -> None:
    async with serving(redis_client) as role, asyncio.timeout(60):
        reader, writer = await asyncio.open_connection("127.0.0.1", role.port)
        for _ in range(2):
            writer.write(b"POST /presence/LSSTCam/g/0/R22_S11 HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc")
            assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 405 ")
        writer.close()


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET /presence/LSSTCam/g/0/R22_S11 HTTP/3\r\n\r\n", b"400"),
        (b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\n\r\n", b"400"),
    ],
)
async def test_what_is_no_request_ends_the_connection(redis_client: Redis, sent: bytes, status: bytes) -> None:
    async with serving(redis_client) as role, asyncio.timeout(60):
        reader, writer = await asyncio.open_connection("127.0.0.1", role.port)
        writer.write(sent)
        answer = b""
        with contextlib.suppress(ConnectionResetError):
            answer = await reader.read()
        writer.close()
        assert answer[9:12] == status
        assert (await ask(role, "/presence/LSSTCam/g/0/R22_S11"))[0] == 200


async def test_requests_in_a_row_are_answered_in_order(redis_client: Redis) -> None:
    names = [f"R22_S{number:02d}" for number in range(20)]
    await GroupKeys(redis_client, 60).record([Arrival("LSSTCam", GROUP, 0, name, f"s3://b/{name}") for name in names])
    async with serving(redis_client) as role:
        reader, writer = await asyncio.open_connection("127.0.0.1", role.port)
        requests = [f"GET /presence/LSSTCam/{GROUP}/0/{name} HTTP/1.1\r\nHost: x\r\n\r\n" for name in names]
        writer.write("".join(requests).encode())
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answers = (await reader.read()).decode()
        writer.close()
    assert re.findall(r"s3://b/(\w+)", answers) == names


async def test_all_workers_of_a_camera_at_once(redis_client: Redis) -> None:
    detectors = [f"R{raft:02d}_S{sensor:02d}" for raft in range(41) for sensor in range(5)]
    await GroupKeys(redis_client, 60).record(
        [Arrival("LSSTCam", GROUP, 0, name, f"s3://b/{name}") for name in detectors]
    )
    async with serving(redis_client) as role:
        answers = await asyncio.gather(*(ask(role, f"/presence/LSSTCam/{GROUP}/0/{name}") for name in detectors))
    assert [body["uri"] for _, body in answers] == [f"s3://b/{name}" for name in detectors]


async def test_deletion_on_sight_is_an_option(redis_client: Redis) -> None:
    await GroupKeys(redis_client, 60).record([Arrival("LSSTCam", GROUP, 0, "R22_S11", URL)])
    async with serving(redis_client, deleteOnSight=True) as role:
        answers = [(await ask(role, f"/presence/LSSTCam/{GROUP}/0/R22_S11"))[1] for _ in range(2)]
    assert [body["present"] for body in answers] == [True, False]


async def test_redis_that_is_not_there() -> None:
    client = connect(RedisConfig(url=f"redis://127.0.0.1:{embedded.free_port()}/0"))
    async with client, serving(client) as role:
        status, body = await ask(role, f"/presence/LSSTCam/{GROUP}/0/R22_S11")
    assert (status, body["error"], sorted(body)) == (503, True, ["error", "message"])


async def test_redis_that_does_not_answer() -> None:
    silent = asyncio.Event()

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await silent.wait()
        writer.close()

    server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    client = connect(RedisConfig(url=f"redis://127.0.0.1:{port}/0"))
    async with server, client, serving(client) as role:
        answers = await asyncio.gather(*(ask(role, f"/presence/LSSTCam/{GROUP}/{n}/R22_S11") for n in range(3)))
        silent.set()
    assert [status for status, _ in answers] == [503] * 3
    assert LOOKUP_TIMEOUT < 1.0, "the client waits a second"
