from __future__ import annotations

import socket
from dataclasses import replace

import pytest
from redis.asyncio import Redis

from autoingest.queue import heartbeats as module
from autoingest.queue import keys
from autoingest.queue.heartbeats import (
    Heartbeat,
    RoleState,
    Since,
    Trouble,
    beat,
    end_heartbeat,
    heartbeats,
    process_name,
    workers_alive,
)
from autoingest.queue.status import queue_status

ONE = Heartbeat(
    "one", "host-1", 17, "1.2.3", 1000.0, 2000.0,
    {"ingest": RoleState("writes 9 files of b", (Trouble("the store is away", 1500.0),),
                         {"store": Trouble("refused", 1500.0), "butler": None})}, workers={"b": 2},
)  # fmt: skip


@pytest.mark.parametrize("host", ["host:1", "", "fe80::1%eth0", "a b/c", "höst"])
def test_name_holds_no_colon(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: host)
    assert set(process_name()).isdisjoint(": /%ö")
    assert process_name() != process_name()


async def test_heartbeat_is_told_and_removed(redis_client: Redis) -> None:
    await beat(redis_client, ONE)
    (found,) = await heartbeats(redis_client)
    assert replace(found, heard=0.0, age=0.0) == ONE
    assert found.is_alive
    assert found.clock_offset < 0
    assert 0 < await redis_client.ttl(keys.HEARTBEATS) <= keys.HEARTBEAT_EXPIRY
    await end_heartbeat(redis_client, "one")
    assert await heartbeats(redis_client) == []


async def test_silent_process_is_seen_and_then_forgotten(redis_client: Redis) -> None:
    await beat(redis_client, ONE)
    seconds, _ = await redis_client.time()
    await redis_client.zadd(keys.HEARTBEAT_TIMES, {"one": seconds - 60})
    (found,) = await heartbeats(redis_client)
    assert not found.is_alive
    assert workers_alive([found], "b") == 0
    await redis_client.zadd(keys.HEARTBEAT_TIMES, {"one": seconds - keys.HEARTBEAT_EXPIRY - 1})
    await beat(redis_client, replace(ONE, name="two"))
    assert [found.name for found in await heartbeats(redis_client)] == ["two"]
    assert await redis_client.hkeys(keys.HEARTBEATS) == ["two"]


async def test_number_of_processes_is_limited(redis_client: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_PROCESSES", 2)
    for name in ("one", "two", "three"):
        await beat(redis_client, replace(ONE, name=name))
    assert sorted(await redis_client.hkeys(keys.HEARTBEATS)) == ["three", "two"]


async def test_heartbeat_of_another_release_or_type_does_no_harm(redis_client: Redis) -> None:
    await beat(redis_client, ONE)
    await redis_client.hset(keys.HEARTBEATS, "one", '{"roles": 7}')
    assert await heartbeats(redis_client) == []
    await redis_client.set(keys.HEARTBEATS, "no hash")
    assert await heartbeats(redis_client) == []
    await beat(redis_client, ONE)
    assert [found.name for found in await heartbeats(redis_client)] == ["one"]


async def test_idle_workers_are_counted(redis_client: Redis) -> None:
    assert (await queue_status(redis_client, "b")).workers == 0
    await beat(redis_client, ONE)
    await beat(redis_client, replace(ONE, name="two"))
    assert (await queue_status(redis_client, "b")).workers == 4


def test_trouble_keeps_its_beginning() -> None:
    since = Since()
    (first,) = since(["a"])
    assert since(["a", "b"])[0] == first
    since([])
    assert since(["a"])[0].since >= first.since
