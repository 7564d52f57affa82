from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import aiohttp
from prometheus_client.parser import text_string_to_metric_families
from redis.asyncio import Redis

from autoingest.app.config import Config, RedisConfig
from autoingest.app.health import Admin
from autoingest.dev import embedded
from autoingest.queue import keys
from autoingest.queue.connection import Client, connect
from autoingest.queue.heartbeats import Heartbeat, beat
from autoingest.queue.work import WorkQueue
from autoingest.roles import Role
from testing.redis import BUCKET, claim_of, image, put

LABELS = ("bucket", "dependency", "state")
"""Labels by which `metrics` distinguishes samples."""


class Part:
    """A role that says what it is told to say."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.lacks: list[str] = []

    async def start(self) -> None: ...

    async def run(self, stop: asyncio.Event) -> None: ...

    async def close(self) -> None: ...

    def unready_reasons(self) -> list[str]:
        return self.lacks

    async def is_drained(self) -> bool:
        return True


@asynccontextmanager
async def serving(client: Redis, *roles: Role) -> AsyncIterator[aiohttp.ClientSession]:
    config = Config.from_dict(
        {
            "buckets": [BUCKET, "other"],
            "ingest": {"repo": "/nowhere"},
            "admin": {"listen": {"host": "127.0.0.1", "port": 0}},
        },
        "test",
    )
    admin = Admin(config, cast(Client, client), roles)
    await admin.start()
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{admin.port}") as session:
            yield session
    finally:
        await admin.close()


async def metrics(session: aiohttp.ClientSession) -> dict[tuple[str, str], float]:
    async with session.get("/metrics") as answer:
        assert answer.status == 200
        return {
            (sample.name, next((sample.labels[name] for name in LABELS if name in sample.labels), "")): sample.value
            for family in text_string_to_metric_families(await answer.text())
            for sample in family.samples
        }


async def test_ready_says_in_words_what_is_missing(redis_client: Redis) -> None:
    one, other = Part("ingest"), Part("presence")
    async with serving(redis_client, one, other) as session:
        async with session.get("/readyz") as answer:
            assert (answer.status, await answer.json()) == (200, {"ready": True, "troubles": []})
        one.lacks, other.lacks = ["Butler: starting", "store"], ["listener is not open"]
        async with session.get("/readyz") as answer:
            assert answer.status == 503
            assert await answer.json() == {
                "ready": False,
                "troubles": ["ingest: Butler: starting", "ingest: store", "presence: listener is not open"],
            }


async def test_enqueue_stays_ready_without_redis() -> None:
    """Ceph must not be refused while answers can still be held back."""
    client = connect(RedisConfig(url=f"redis://127.0.0.1:{embedded.free_port()}/0"))
    async with client, serving(client, Part("enqueue"), Part("ingest")) as session, session.get("/readyz") as answer:
        content = await answer.json()
        assert (answer.status, content["ready"], len(content["troubles"])) == (200, True, 1)
        assert content["troubles"][0].startswith("Redis at 127.0.0.1:")


async def test_enqueue_alone_decides_where_it_runs(redis_client: Redis) -> None:
    enqueue, ingest = Part("enqueue"), Part("ingest")
    async with serving(redis_client, enqueue, ingest) as session:
        ingest.lacks = ["Butler: the database is away"]
        async with session.get("/readyz") as answer:
            assert (answer.status, (await answer.json())["troubles"]) == (200, ["ingest: Butler: the database is away"])
        enqueue.lacks = ["no listener"]
        async with session.get("/readyz") as answer:
            assert answer.status == 503


async def test_metrics_count_the_queues(redis_client: Redis) -> None:
    await put(redis_client, *map(image, range(5)))
    queue = WorkQueue(redis_client, BUCKET, "a", 60)
    await queue.claim(3)
    await queue.give_up(await claim_of(redis_client, image(0)), "missing", "x")
    await queue.defer(await claim_of(redis_client, image(1)), 0, None)
    async with serving(redis_client) as session:
        found = await metrics(session)
    assert found["autoingest_queue_oldest_seconds", BUCKET] > 1e9  # received at 1.5
    names = ("queue_depth", "working_files", "workers", "waiting_files", "dead_letters")
    assert [found[f"autoingest_{name}", BUCKET] for name in names] == [2, 1, 1, 1, 1]
    assert [found[f"autoingest_{name}", "other"] for name in names] == [0] * 5
    assert found["autoingest_redis_up", ""] == 1
    assert found["autoingest_working_oldest_seconds", BUCKET] > 1e9
    assert found["autoingest_waiting_oldest_seconds", BUCKET] > 1e9
    assert found["autoingest_queue_oldest_seconds", "other"] == 0
    assert found["autoingest_redis_memory_bytes", ""] > 1e5


class Ingest(Part):
    def dependencies(self) -> dict[str, str]:
        return {"butler": "; ".join(self.lacks), "store": ""}


async def test_metrics_say_what_is_down_and_since_when(redis_client: Redis) -> None:
    role = Ingest("ingest")
    async with serving(redis_client, role) as session:
        found = await metrics(session)
        assert {name: value for (metric, name), value in found.items() if metric == "autoingest_dependency_up"} == {
            "redis": 1, "butler": 1, "store": 1,
        }  # fmt: skip
        role.lacks = ["connection refused"]
        first, again = await metrics(session), await metrics(session)
        assert (first["autoingest_dependency_up", "butler"], first["autoingest_dependency_up", "store"]) == (0, 1)
        since = ("autoingest_dependency_down_since_timestamp_seconds", "butler")
        assert first[since] == again[since]
        role.lacks = []
        found = await metrics(session)
    assert found["autoingest_dependency_up", "butler"] == 1
    assert since not in found


async def test_metrics_know_the_last_canary_and_silent_processes(redis_client: Redis) -> None:
    await redis_client.zadd(keys.canary_times(BUCKET), {"one": 5.0, "two": 7.0})
    for name in ("one", "two"):
        await beat(redis_client, Heartbeat(name, "host", 1, "1.0", 1.0, 1.0, {}))
    await redis_client.zadd(keys.HEARTBEAT_TIMES, {"two": (await redis_client.time())[0] - 60})
    async with serving(redis_client) as session:
        found = await metrics(session)
    assert found["autoingest_canary_last_timestamp_seconds", BUCKET] == 7
    assert ("autoingest_canary_last_timestamp_seconds", "other") not in found
    assert (found["autoingest_processes", "alive"], found["autoingest_processes", "silent"]) == (1, 1)


async def test_without_redis_it_lives_and_says_so(redis_client: Redis) -> None:
    async with serving(redis_client) as session:
        await metrics(session)
    client = connect(RedisConfig(url=f"redis://127.0.0.1:{embedded.free_port()}/0"))
    async with client, serving(client, Part("presence")) as session:
        async with session.get("/livez") as answer:
            assert answer.status == 200
        async with session.get("/readyz") as answer:
            content = await answer.json()
            assert (answer.status, content["ready"], len(content["troubles"])) == (503, False, 1)
            assert "Connect call failed" in content["troubles"][0]
        found = await metrics(session)
    assert found["autoingest_redis_up", ""] == 0
    assert ("autoingest_queue_depth", BUCKET) not in found
