"""Version 2 of presence: waiting, streams, and what is refused."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, closing
from datetime import UTC, datetime
from pathlib import Path
from typing import cast
from urllib.parse import quote

import aiohttp
import pytest
from redis.asyncio import Redis

from autoingest.app.config import Config, RedisConfig
from autoingest.app.secrets import READ_TOKEN
from autoingest.butler.create import create_repository
from autoingest.butler.native import NativeEngine
from autoingest.client import AsyncPresenceClient, PresenceClient, PresenceError
from autoingest.dev import embedded
from autoingest.http import sse
from autoingest.queue import keys
from autoingest.queue.arrivals import Arrivals
from autoingest.queue.connection import REDIS_AWAY, connect
from autoingest.queue.presence import Arrival, GroupKeys
from autoingest.roles.presence import PresenceRole
from testing import exposures
from testing.waiting import until

GROUP = "2025-04-16T00:25:46.032#1"


def image(detector: str = "R22_S11", snap: int = 0, seq: int = 60, snaps: int = 1, etag: str = "e1") -> Arrival:
    obs_id = f"MC_O_20250415_{seq:06d}"
    url = f"s3://embargo@rubin-summit/LSSTCam/20250415/{obs_id}/{obs_id}_{detector}.fits"
    return Arrival("LSSTCam", GROUP, snap, detector, url, obs_id, 14400, etag, snaps)


@asynccontextmanager
async def serving(client: Redis, **presence: object) -> AsyncIterator[PresenceRole]:
    presence = {"listen": {"host": "127.0.0.1", "port": 0}, "unauthenticated": True} | presence
    config = Config.from_dict({"buckets": ["b"], "ingest": {"repo": "/nowhere"}, "presence": presence}, "test")
    role, stop = PresenceRole(config, client), asyncio.Event()
    await role.start()
    running = asyncio.create_task(role.run(stop))
    try:
        yield role
    finally:
        stop.set()
        await running
        await role.close()


def url(role: PresenceRole) -> str:
    return f"http://127.0.0.1:{role.port}"


async def waiting(role: PresenceRole, number: int) -> None:
    """Wait until so many clients wait."""

    async def holds() -> bool:
        return role._arrivals.waiting == number

    await until(holds)


async def test_what_has_arrived(redis_client: Redis) -> None:
    groups = GroupKeys(redis_client, 60)
    await groups.record([image("R22_S12"), image(snaps=2), image(snap=1, seq=61, snaps=2), image(seq=62, snaps=2)])
    async with serving(redis_client) as role, AsyncPresenceClient(url(role)) as client:
        found = await client.arrivals("LSSTCam", GROUP)
        assert [(item.raft_sensor, item.snap, item.obs_id[-2:]) for item in found.images] == [
            ("R22_S11", 0, "62"), ("R22_S11", 0, "60"), ("R22_S11", 1, "61"), ("R22_S12", 0, "60"),
        ]  # fmt: skip
        first = found.images[0]
        assert (first.detector, first.exposure, first.size, first.etag) == (94, 2025041500062, 14400, "e1")
        assert (first.bucket, f"s3://{first.bucket}/{first.key}") == ("embargo@rubin-summit", first.uri)
        assert first.arrived
        assert found.known_since
        assert first.arrived >= found.known_since[:19]
        assert found.expected_snaps == 2
        assert found.is_complete(1)
        assert not found.is_complete(2)
        some = await client.arrivals("LSSTCam", GROUP, [95, "R22_S11"], snap=0)
        assert [item.raft_sensor for item in some.images] == ["R22_S11", "R22_S11", "R22_S12"]
        nothing = await client.arrivals("LSSTCam", "another")
        assert (nothing.images, nothing.expected_snaps, nothing.cursor) == ([], None, "0-0")


@pytest.mark.parametrize("first", [False, True], ids=["nothing yet", "after a cursor"])
async def test_waits_for_an_arrival(redis_client: Redis, first: bool) -> None:
    groups = GroupKeys(redis_client, 60)
    async with serving(redis_client) as role, AsyncPresenceClient(url(role)) as client:
        after = None
        if first:
            await groups.record([image()])
            after = (await client.arrivals("LSSTCam", GROUP, wait=15)).cursor
        asked = asyncio.create_task(client.arrivals("LSSTCam", GROUP, [94], wait=15, after=after))
        await waiting(role, 1)
        await groups.record([image("R22_S12"), image("R22_S11", snap=1, seq=61)])
        found = await asked
        assert found.images[-1].snap == 1
        assert len(found.images) == 1 + first
        await waiting(role, 0)


async def test_same_version_arrives_once(redis_client: Redis) -> None:
    groups = GroupKeys(redis_client, 60)
    for etag in ("e1", "e1", "e2"):
        await groups.record([image(etag=etag)])
    assert await redis_client.xlen(keys.ARRIVAL_STREAM) == 2
    async with serving(redis_client) as role, AsyncPresenceClient(url(role)) as client:
        [found] = (await client.arrivals("LSSTCam", GROUP)).images
        assert found.etag == "e2"


async def test_time_is_over(redis_client: Redis) -> None:
    await GroupKeys(redis_client, 60).record([image()])
    async with serving(redis_client) as role, AsyncPresenceClient(url(role)) as client:
        found = await client.arrivals("LSSTCam", GROUP, wait=5)
        again = await client.arrivals("LSSTCam", GROUP, wait=0.05, after=found.cursor)
        assert (again.images, again.cursor) == (found.images, found.cursor)


async def test_each_client_is_woken_by_what_it_waits_for(redis_client: Redis) -> None:
    names = [f"R22_S{number}" for number in ("00", "01", "02", "10", "11", "12", "20", "21", "22")]
    groups, arrivals, stop = GroupKeys(redis_client, 60), Arrivals(redis_client), asyncio.Event()
    following = asyncio.create_task(arrivals.run(stop))
    with ExitStack() as stack:
        every = stack.enter_context(arrivals.waiter("LSSTCam", GROUP, frozenset(), None))
        waiters = {name: stack.enter_context(arrivals.waiter("LSSTCam", GROUP, frozenset([name]), 0)) for name in names}
        await every.woken.wait()  # once, as the stream begins to be followed
        for waiter in waiters.values():
            waiter.woken.clear()
        await groups.record([image("R22_S11", snap=1)])  # another snap
        await groups.record([image("R22_S11")])
        await waiters["R22_S11"].woken.wait()
        assert [name for name, waiter in waiters.items() if waiter.woken.is_set()] == ["R22_S11"]
        await groups.record([image(name) for name in names if name != "R22_S11"])
        for waiter in waiters.values():
            await waiter.woken.wait()
    stop.set()
    await following


async def test_stream_is_resumed(redis_client: Redis) -> None:
    groups = GroupKeys(redis_client, 60)
    await groups.record([image(snaps=3)])
    async with serving(redis_client) as role, AsyncPresenceClient(url(role)) as client:
        stream = client.stream("LSSTCam", GROUP, [94])
        assert (await anext(stream)).snap == 0
        arriving = asyncio.ensure_future(anext(stream))
        await waiting(role, 1)
        await groups.record([image(snap=1, seq=61), image("R22_S12")])
        assert (await arriving).snap == 1
        async with (
            aiohttp.ClientSession() as session,
            session.get(
                f"{url(role)}/v2/presence/LSSTCam",
                params={"group": GROUP, "detector": "94"},
                headers={"Accept": "text/event-stream", "Last-Event-ID": "0-0"},
            ) as response,
        ):
            assert response.content_type == "text/event-stream"
            lines = [await response.content.readline() for _ in range(4)]
        cursor = lines[0].removeprefix(b"id: ").strip().decode()
        assert lines[1] == b"event: arrival\n"
        assert json.loads(lines[2].removeprefix(b"data: "))["snap"] == 0
        resumed = client.stream("LSSTCam", GROUP, [94], after=cursor)
        assert (await anext(resumed)).snap == 1
        await resumed.aclose()  # type: ignore[attr-defined]
        await stream.aclose()  # type: ignore[attr-defined]


async def test_all_snaps_are_awaited(redis_client: Redis) -> None:
    groups = GroupKeys(redis_client, 60)
    async with serving(redis_client) as role, AsyncPresenceClient(url(role)) as client:

        async def collect() -> list[int]:
            return [item.snap async for item in client.wait_for("LSSTCam", GROUP, 94, timeout=60)]

        both = [
            asyncio.create_task(collect()),
            asyncio.create_task(
                asyncio.to_thread(
                    lambda: [
                        item.snap
                        for item in PresenceClient(url(role)).wait_for("LSSTCam", GROUP, "R22_S11", timeout=60)
                    ]
                )
            ),
        ]
        await waiting(role, 2)
        await groups.record([image(snaps=2)])
        await waiting(role, 2)
        await groups.record([image(snap=1, seq=61, snaps=2)])
        assert await asyncio.gather(*both) == [[0, 1], [0, 1]]


@pytest.mark.parametrize(
    ("instrument", "query", "code"),
    [
        ("DECam", {"group": "g"}, "unknown-instrument"),
        ("LSSTCam", {}, "invalid-group"),
        ("LSSTCam", {"group": "g" * 300}, "invalid-group"),
        ("LSSTCam", {"group": "g", "detector": "R99_S11"}, "unknown-detector"),
        ("LSSTCam", {"group": "g", "detector": "205"}, "unknown-detector"),
        ("LATISS", {"group": "g", "detector": "94"}, "unknown-detector"),
        ("LSSTCam", {"group": "g", "snap": "-1"}, "invalid-snap"),
        ("LSSTCam", {"group": "g", "wait": "15.1"}, "invalid-wait"),
        ("LSSTCam", {"group": "g", "wait": "nan"}, "invalid-wait"),
        ("LSSTCam", {"group": "g", "wait": "soon"}, "invalid-wait"),
        ("LSSTCam", {"group": "g", "after": "1-"}, "invalid-cursor"),
        ("LSSTCam", {"group": "g", "after": "-1-0"}, "invalid-cursor"),
        ("LSSTCam", {"group": "g", "grupo": "x"}, "unknown-parameter"),
    ],
)
async def test_what_is_refused(redis_client: Redis, instrument: str, query: dict[str, str], code: str) -> None:
    async with (
        serving(redis_client) as role,
        aiohttp.ClientSession() as session,
        session.get(f"{url(role)}/v2/presence/{instrument}", params=query) as response,
    ):
        assert response.status == (404 if code == "unknown-instrument" else 400)
        assert (await response.json())["error"]["code"] == code


async def test_token_is_required(redis_client: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(redis_client, unauthenticated=False) as role, AsyncPresenceClient(url(role)) as client:
        with pytest.raises(PresenceError, match="unauthorized"):
            await client.arrivals("LSSTCam", GROUP)
    monkeypatch.setenv(READ_TOKEN, "old new")
    async with serving(redis_client, unauthenticated=False) as role:
        for token, code in (("new", None), ("neu", "unauthorized"), (None, "unauthorized")):
            async with AsyncPresenceClient(url(role), token) as client:
                if code is None:
                    assert (await client.arrivals("LSSTCam", GROUP)).images == []
                else:
                    with pytest.raises(PresenceError, match=code):
                        await client.arrivals("LSSTCam", GROUP)
        async with aiohttp.ClientSession() as session:
            async with session.get(f"{url(role)}/presence/LSSTCam/{GROUP.replace('#', '%23')}/0/R22_S11") as response:
                assert response.status == 200, "version 1 needs none"
            async with session.get(f"{url(role)}/v2/version") as response:
                assert (await response.json())["interfaces"]["presence"] == [1, 2]


async def test_redis_dies_while_clients_wait(tmp_path: Path) -> None:
    """They are answered once it is back, with what has arrived since."""
    async with AsyncExitStack() as stack:
        with embedded.valkey(tmp_path) as address:
            port = int(address.rpartition(":")[2].partition("/")[0])
            redis = await stack.enter_async_context(connect(RedisConfig(url=address, socket_timeout=2)))
            groups = GroupKeys(redis, 60)
            await groups.record([image("R22_S12")])
            role = await stack.enter_async_context(serving(redis))
            client = await stack.enter_async_context(AsyncPresenceClient(url(role)))
            names = [name for name in ("R22_S11", "R22_S10") for _ in range(100)]
            asked = [asyncio.create_task(_until_there(client, name)) for name in names]
            await waiting(role, 200)
        with embedded.valkey(tmp_path, port=port):
            await until(lambda: _record(groups, [image(), image("R22_S10")]))
            assert await asyncio.gather(*asked) == [[name] for name in names]


async def _until_there(client: AsyncPresenceClient, name: str) -> list[str]:
    return [item.raft_sensor async for item in client.wait_for("LSSTCam", GROUP, name, timeout=120)]


async def _record(groups: GroupKeys, images: list[Arrival]) -> bool:
    try:
        await groups.record(images)
    except REDIS_AWAY:
        return False
    return True


async def test_end_answers_those_who_wait(redis_client: Redis) -> None:
    async with serving(redis_client) as role, AsyncPresenceClient(url(role)) as client:
        asked = asyncio.create_task(client.arrivals("LSSTCam", GROUP, wait=15))
        await waiting(role, 1)
        await role.close()
        assert (await asked).images == []


async def test_older_groups_are_looked_up_in_the_butler(
    redis_client: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo = str(tmp_path / "repo")
    create_repository(repo, cameras=["LSSTCam"])
    with closing(NativeEngine(repo)) as engine:
        engine.ingest(exposures.files(1, [94, 95], GROUPID="2025-04-16T00:25:46.032"))
    await GroupKeys(redis_client, 60).record([image()])  # arrivals are known from now on
    presence = {"listen": {"host": "127.0.0.1", "port": 0}, "unauthenticated": True, "butler": True}
    config = Config.from_dict({"buckets": ["b"], "ingest": {"repo": repo}, "presence": presence}, "test")
    role = PresenceRole(config, redis_client)
    await role.start()
    async with AsyncPresenceClient(url(role)) as client:
        found = await client.arrivals("LSSTCam", "2025-04-16T00:25:46.032", wait=15)
        assert [(item.detector, item.snap, item.arrived) for item in found.images] == [(94, 0, None), (95, 0, None)]
        assert found.images[0].exposure == exposures.exposure_id(1)
        assert found.cursor == "0-0"
        to_come = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S}.999999"
        monkeypatch.setattr(role._group_reader, "images", None)  # is not asked of a group that is still to come
        assert (await client.arrivals("LSSTCam", to_come)).images == []
    await role.close()


async def test_client_that_does_not_read_its_stream_is_let_go(
    redis_client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sse, "READ_PATIENCE", 0.2)
    groups = GroupKeys(redis_client, 60)
    names = [f"R{raft}_S{sensor}" for raft in (21, 22, 23) for sensor in ("00", "01", "02", "10", "11", "12", "20")]
    await groups.record([image(name, seq=seq) for name in names for seq in range(100)])
    async with serving(redis_client) as role:
        _, writer = await asyncio.open_connection("127.0.0.1", role.port, limit=1024)
        cast(asyncio.ReadTransport, writer.transport).pause_reading()
        target = f"/v2/presence/LSSTCam?group={quote(GROUP)}"
        writer.write(f"GET {target} HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n\r\n".encode())
        await waiting(role, 1)
        await waiting(role, 0)
        writer.close()
