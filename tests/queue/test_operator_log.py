from __future__ import annotations

import pytest
from redis.asyncio import Redis

from autoingest.queue import keys
from autoingest.queue.dead_letters import drop, requeue
from autoingest.queue.operator_log import acts, pause_bucket, pause_of, resume_bucket
from autoingest.queue.work import WorkQueue
from testing.redis import BUCKET, image, put, upcoming


async def test_paused_bucket_keeps_its_files(redis_client: Redis) -> None:
    queue = WorkQueue(redis_client, BUCKET, "w", 60)
    await put(redis_client, image(1))
    (claimed,) = await queue.claim(1)
    await put(redis_client, image(2))
    await pause_bucket(redis_client, BUCKET, "upgrade")
    assert [held.path for held in await queue.claim(9, more=True)] == [claimed.path], "what it has stays in hand"
    await queue.give_back()
    assert await queue.claim(9) == []
    assert not await queue.wait(0.01), "it does not ask again at once"
    assert sorted(await upcoming(redis_client)) == sorted([image(1), image(2)])
    assert "upgrade" in str(await pause_of(redis_client, BUCKET))
    assert await resume_bucket(redis_client, BUCKET)
    assert not await resume_bucket(redis_client, BUCKET)
    assert len(await queue.claim(9)) == 2


async def test_acts_are_recorded_with_what_they_did(redis_client: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOINGEST_OPERATOR", "ada")
    await redis_client.hset(keys.dead(BUCKET), mapping={image(1): "{}", image(2): "{}"})
    assert await requeue(redis_client, BUCKET, [image(1)]) == [image(1)]
    assert await drop(redis_client, BUCKET, [image(2), image(3)]) == [image(2)]
    assert await drop(redis_client, BUCKET, [image(2)]) == [], "nothing done, nothing recorded"
    found = await acts(redis_client, 9)
    assert [(act["act"], act["number"], act["paths"]) for act in found] == [
        ("requeued", "1", image(1)),
        ("dropped", "1", image(2)),
    ]
    assert all(act["who"].startswith("ada@") for act in found)
