"""Where files are, beside services that change no state."""

from __future__ import annotations

from typing import Any

import pytest
from redis.asyncio import Redis

from autoingest.queue import keys
from autoingest.queue.file_status import file_statuses
from testing.redis import BUCKET, audit, image

PATH = image(1)


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"state": "queued", "ingest_time": "6"}, "ingested"),
        ({"state": "queued", "ingest_time": "5"}, "ingested"),
        ({"state": "queued", "ingest_time": "4"}, None),
        ({"state": "queued", "ingest_time": "rubbish"}, None),
        ({"state": "queued", "ingest_time": "6", "ing_fail_exc": "no"}, "ingested"),
        ({"state": "queued", "ing_fail_exc": "no"}, "given up"),
        ({"state": "queued", "md_fail_exc": "no"}, "given up"),
        ({"state": "queued"}, None),
        ({"ingest_time": "6"}, "ingested"),
        ({"md_fail_exc": "no"}, "given up"),
        ({}, None),
        ({"state": "working", "worker": "w", "ingest_time": "6"}, "ingested"),
        ({"state": "working", "worker": "w", "ing_fail_exc": "no"}, "given up"),
        ({"state": "working", "worker": "w"}, None),
        ({"state": "waiting", "ingest_time": "6"}, "ingested"),
        ({"state": "waiting", "ing_fail_exc": "no"}, None),
        ({"state": "dead", "ing_fail_exc": "no"}, None),
        ({"state": "ingested", "ingest_time": "4"}, "ingested"),
        ({"state": "dropped", "ing_fail_exc": "no"}, "dropped"),
    ],
)
async def test_a_file_on_no_list(redis_client: Redis, fields: dict[str, str], place: str | None) -> None:
    await redis_client.hset(keys.file(PATH), mapping=dict[Any, Any](fields) | {"recv_time": "5"})
    (status,) = await file_statuses(redis_client, BUCKET, [PATH])
    assert (status.place, status.on_the_way) == (place, False)
    report = await audit(redis_client)
    assert report.consistent == (place is not None)
    if place:
        assert {name: number for name, number in report.counts[BUCKET].items() if number} == {place: 1}
    else:
        assert [(finding.path, finding.problem) for finding in report.findings] == [(PATH, "nowhere")]


@pytest.mark.parametrize("state", [None, "queued", "working", "ingested"])
@pytest.mark.parametrize("by", ["queue", "old worker"])
async def test_what_an_old_service_has_pushed_or_taken(redis_client: Redis, state: str | None, by: str) -> None:
    await redis_client.hset(keys.file(PATH), mapping={"recv_time": "5", "ingest_time": "4"})
    if state:
        await redis_client.hset(keys.file(PATH), "state", state)
    await redis_client.lpush(keys.queue(BUCKET) if by == "queue" else keys.worker(BUCKET, "old"), PATH)
    (status,) = await file_statuses(redis_client, BUCKET, [PATH])
    assert status.on_the_way
    report = await audit(redis_client)
    if (state, by) == ("working", "queue"):  # the old idle service has moved it from one of our workers
        assert [finding.problem for finding in report.findings] == ["elsewhere"]
    else:
        assert report.consistent
        assert report.counts[BUCKET]["queued" if by == "queue" else "working"] == 1


async def test_keys_of_the_wrong_type_count_as_empty(redis_client: Redis) -> None:
    await redis_client.set(keys.file(PATH), "text")
    await redis_client.set(keys.queue(BUCKET), "text")
    await redis_client.set(keys.worker(BUCKET, "old"), "text")
    await redis_client.set(keys.waiting(BUCKET), "text")
    await redis_client.set(keys.dead(BUCKET), "text")
    (status,) = await file_statuses(redis_client, BUCKET, [PATH])
    assert (status.place, status.on_the_way, status.etag) == (None, False, None)
