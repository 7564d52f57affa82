"""The queue of a bucket belongs to one repository: workers of another take nothing."""

from __future__ import annotations

import asyncio

import pytest
from redis.asyncio import Redis

from autoingest.queue import keys
from autoingest.queue.site import ForeignQueueError, check_site, owner_of, site_of, take_over
from autoingest.queue.work import WorkQueue
from testing.redis import BUCKET, image, put, upcoming

HERE, THERE = "s3://here/butler.yaml", "s3://there/butler.yaml"


def worker(client: Redis, name: str, repo: str) -> WorkQueue:
    return WorkQueue(client, BUCKET, name, 60, repo=repo)


@pytest.mark.parametrize(
    "repo",
    ["/data/repo", "/data/repo/", "/data/repo/butler.yaml", "file:///data/repo", "file:///data/repo/butler.yaml"],
)
def test_one_repository_has_one_name(repo: str) -> None:
    assert site_of(repo) == "/data/repo"
    assert site_of(HERE) == site_of("s3://here/") == "s3://here"


async def test_the_first_worker_takes_the_queue_for_its_repository(redis_client: Redis) -> None:
    await put(redis_client, *(image(number) for number in range(4)))
    claims = await asyncio.gather(
        *(worker(redis_client, f"w{n}", (HERE, THERE)[n % 2]).claim(1) for n in range(4)), return_exceptions=True
    )
    refused = [claim for claim in claims if isinstance(claim, ForeignQueueError)]
    assert len(refused) == 2
    assert "s3://here" in str(refused[0])
    assert "s3://there" in str(refused[0])
    assert len(await upcoming(redis_client)) == 2
    assert await redis_client.ttl(keys.site(BUCKET)) == -1


async def test_a_worker_of_another_repository_takes_nothing_and_leaves_no_trace(redis_client: Redis) -> None:
    await check_site(redis_client, BUCKET, HERE)
    await check_site(redis_client, BUCKET, "s3://here")
    await put(redis_client, image(0))
    before = sorted(await redis_client.keys())
    with pytest.raises(ForeignQueueError):
        await worker(redis_client, "w", THERE).claim(5)
    with pytest.raises(ForeignQueueError):
        await check_site(redis_client, BUCKET, THERE)
    assert sorted(await redis_client.keys()) == before
    await take_over(redis_client, BUCKET, THERE)
    assert await owner_of(redis_client, BUCKET) == "s3://there"
    assert [claim.path for claim in await worker(redis_client, "w", THERE).claim(5)] == [image(0)]
    with pytest.raises(ForeignQueueError):
        await worker(redis_client, "v", HERE).claim(5)


async def test_a_marker_of_the_wrong_type_is_set_anew(redis_client: Redis) -> None:
    await redis_client.lpush(keys.site(BUCKET), "x")
    await put(redis_client, image(0))
    assert len(await worker(redis_client, "w", HERE).claim(5)) == 1
    assert await owner_of(redis_client, BUCKET) == "s3://here"
