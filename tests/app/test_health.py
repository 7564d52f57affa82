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
from autoingest.queue.connection import Client, connect
from autoingest.queue.work import WorkQueue
from autoingest.roles import Role
from testing.redis import BUCKET, claim_of, image, put


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
            (sample.name, sample.labels.get("bucket", "")): sample.value
            for family in text_string_to_metric_families(await answer.text())
            for sample in family.samples
        }


async def test_ready_says_in_words_what_is_missing(redis_client: Redis) -> None:
    one, other = Part("ingest"), Part("presence")
    async with serving(redis_client, one, other) as session:
        async with session.get("/readyz") as answer:
            assert (answer.status, await answer.json()) == (200, {"ready": True, "missing": []})
        one.lacks, other.lacks = ["Butler: starting", "store"], ["listener is not open"]
        async with session.get("/readyz") as answer:
            assert answer.status == 503
            assert await answer.json() == {
                "ready": False,
                "missing": ["ingest: Butler: starting", "ingest: store", "presence: listener is not open"],
            }


async def test_enqueue_stays_ready_without_redis() -> None:
    """Ceph must not be refused while answers can still be held back."""
    client = connect(RedisConfig(url=f"redis://127.0.0.1:{embedded.free_port()}/0"))
    async with client, serving(client, Part("enqueue"), Part("ingest")) as session, session.get("/readyz") as answer:
        content = await answer.json()
        assert (answer.status, content["ready"], len(content["missing"])) == (200, True, 1)
        assert content["missing"][0].startswith("Redis at 127.0.0.1:")


async def test_enqueue_alone_decides_where_it_runs(redis_client: Redis) -> None:
    enqueue, ingest = Part("enqueue"), Part("ingest")
    async with serving(redis_client, enqueue, ingest) as session:
        ingest.lacks = ["Butler: the database is away"]
        async with session.get("/readyz") as answer:
            assert (answer.status, (await answer.json())["missing"]) == (200, ["ingest: Butler: the database is away"])
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


async def test_without_redis_it_lives_and_says_so(redis_client: Redis) -> None:
    async with serving(redis_client) as session:
        await metrics(session)
    client = connect(RedisConfig(url=f"redis://127.0.0.1:{embedded.free_port()}/0"))
    async with client, serving(client, Part("presence")) as session:
        async with session.get("/livez") as answer:
            assert answer.status == 200
        async with session.get("/readyz") as answer:
            content = await answer.json()
            assert (answer.status, content["ready"], len(content["missing"])) == (503, False, 1)
            assert "Connect call failed" in content["missing"][0]
        found = await metrics(session)
    assert found["autoingest_redis_up", ""] == 0
    assert ("autoingest_queue_depth", BUCKET) not in found
