from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Awaitable
from dataclasses import replace
from functools import partial

import pytest
from redis.asyncio import Redis

from autoingest.queue import keys
from autoingest.queue.reclaim import Reclaimer
from autoingest.queue.work import Claimed, Done, WorkQueue
from testing.redis import BUCKET, claim_of, done, image, put, state, text, texts, upcoming
from testing.waiting import until

OBS_ID = "MC_O_20250415_000001"


def work(client: Redis, name: str = "a", lease: float = 60.0) -> WorkQueue:
    return WorkQueue(client, BUCKET, name, lease)


async def held(client: Redis, name: str = "a") -> list[str]:
    return texts(await client.lrange(keys.worker(BUCKET, name), 0, -1))[::-1]


async def test_claim_takes_oldest_first_with_lease_and_tells_what_is_known(redis_client: Redis) -> None:
    await put(redis_client, image(0), size=8600, etag="e", created=1.25, ing_fail_count=2, first_wait=3.5)
    await put(redis_client, image(1), image(2))

    first, second = await work(redis_client).claim(2)

    assert (first.path, second.path) == (image(0), image(1))
    assert (first.size, first.etag, first.created, first.received) == (8600, "e", 1.25, 1.5)
    assert (first.attempts, first.first_wait) == (2, 3.5)
    assert (second.size, second.etag, second.attempts, second.first_wait) == (None, None, 0, None)
    assert await held(redis_client) == [image(0), image(1)]
    assert await upcoming(redis_client) == [image(2)]
    assert 0 < await redis_client.pttl(keys.lease(BUCKET, "a")) <= 60_000
    assert await redis_client.smembers(keys.leaseholders(BUCKET)) == {"a"}
    assert await state(redis_client, image(0)) == "working"


@pytest.mark.parametrize(
    ("limit", "first", "second"),
    [(250, 205, 205), (205, 205, 205), (100, 100, 100), (500, 410, 410), (409, 205, 205), (2000, 820, 0)],
)
async def test_a_batch_ends_with_an_exposure(redis_client: Redis, limit: int, first: int, second: int) -> None:
    for seq in range(4):
        await put(redis_client, *(image(number, seq=seq) for number in range(205)))
    assert len(await work(redis_client).claim(limit)) == first
    assert len(await work(redis_client, "b").claim(limit)) == second
    assert len(await work(redis_client).claim(limit)) == first, "an exposure that it does not have is left to others"


async def test_a_batch_of_interleaved_exposures_is_full(redis_client: Redis) -> None:
    await put(redis_client, *(image(number, seq=seq) for number in range(100) for seq in (1, 2)))
    assert len(await work(redis_client).claim(120)) == 120


async def test_claim_of_nothing_takes_no_lease(redis_client: Redis) -> None:
    assert await work(redis_client).claim(5) == []
    assert await redis_client.keys("*") == []


async def test_claim_of_a_path_from_an_old_enqueue(redis_client: Redis) -> None:
    await redis_client.lpush(keys.queue(BUCKET), image(0))
    (claimed,) = await work(redis_client).claim(5)
    assert (claimed.size, claimed.etag, claimed.created, claimed.received, claimed.attempts) == (None,) * 4 + (0,)
    assert await redis_client.ttl(keys.file(image(0))) > 0


async def test_path_that_is_twice_on_the_queue_comes_once(redis_client: Redis) -> None:
    await redis_client.lpush(keys.queue(BUCKET), image(0), image(1), image(0), image(0))
    assert [item.path for item in await work(redis_client).claim(10)] == [image(0), image(1)]
    assert await held(redis_client) == [image(0), image(1)]
    await redis_client.lpush(keys.queue(BUCKET), image(1), image(2))
    assert [item.path for item in await work(redis_client).claim(10)] == [image(0), image(1), image(2)]
    assert await upcoming(redis_client) == []


async def test_claim_whose_answer_was_lost_comes_again(redis_client: Redis) -> None:
    await put(redis_client, *map(image, range(3)))
    await work(redis_client).claim(2)  # the answer never arrived
    assert [item.path for item in await work(redis_client).claim(2)] == [image(0), image(1)]
    assert [item.path for item in await work(redis_client).claim(3)] == [image(0), image(1), image(2)]


async def test_claim_takes_the_path_out_of_waiting_and_of_the_dead_letters(redis_client: Redis) -> None:
    await redis_client.zadd(keys.waiting(BUCKET), {image(0): 1})
    await redis_client.hset(keys.dead(BUCKET), image(0), "{}")
    await redis_client.lpush(keys.queue(BUCKET), image(0))  # an old enqueue
    await work(redis_client).claim(1)
    assert not await redis_client.exists(keys.waiting(BUCKET), keys.dead(BUCKET))


async def test_workers_racing_for_one_queue_share_it_without_overlap(redis_client: Redis) -> None:
    await put(redis_client, *map(image, range(300)))

    async def take(name: str) -> list[str]:
        queue, mine = work(redis_client, name), []
        while batch := await queue.claim(7):
            mine += [item.path for item in batch]
            assert await queue.ingested([await done(redis_client, item.path) for item in batch]) == [
                item.path for item in batch
            ]
        return mine

    shares = await asyncio.gather(take("a"), take("b"), take("c"))
    assert sorted(path for share in shares for path in share) == sorted(map(image, range(300)))
    assert sum(bool(share) for share in shares) > 1
    assert await redis_client.hgetall(keys.ingested(BUCKET, "LSSTCam")) == {"20250415": "300"}


async def test_cancelled_claims_lose_nothing(valkey_url: str, redis_client: Redis) -> None:
    paths = [image(number) for number in range(100)]
    await put(redis_client, *paths)
    chance = random.Random(4)
    async with Redis.from_url(valkey_url, decode_responses=True) as client:
        for number in range(50):
            task = asyncio.create_task(work(client, f"w{number}").claim(2))
            for _ in range(chance.randrange(12)):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
    lists = [path for number in range(50) for path in await held(redis_client, f"w{number}")]
    assert sorted(lists + await upcoming(redis_client)) == sorted(paths)


async def blocked(client: Redis, number: int) -> bool:
    return bool((await client.info("clients"))["blocked_clients"] >= number)


async def test_wait_wakes_every_waiter_and_takes_nothing(valkey_url: str, redis_client: Redis) -> None:
    waiters = [asyncio.create_task(work(redis_client, name).wait(20)) for name in "abc"]

    await until(partial(blocked, redis_client, 3))
    await put(redis_client, image(0))
    async with asyncio.timeout(60):
        assert await asyncio.gather(*waiters) == [True] * 3
    assert await upcoming(redis_client) == [image(0)]


async def test_wait_leaves_the_object_to_an_old_worker_that_blocks_behind_it(redis_client: Redis) -> None:
    waiter = asyncio.create_task(work(redis_client).wait(20))
    old = asyncio.ensure_future(
        redis_client.blmove(keys.queue(BUCKET), keys.worker(BUCKET, "old"), 20, "RIGHT", "LEFT")
    )
    await until(partial(blocked, redis_client, 2))
    await put(redis_client, image(0))
    async with asyncio.timeout(60):
        assert await old == image(0)
        await redis_client.lpush(keys.queue(BUCKET), image(1))
        assert await waiter


async def test_wait_ends_before_the_socket_timeout(valkey_url: str, redis_client: Redis) -> None:
    await redis_client.flushall()
    async with Redis.from_url(valkey_url, decode_responses=True, socket_timeout=6) as client:
        assert not await work(client).wait(30)


async def test_ingested_is_acknowledged_once(redis_client: Redis) -> None:
    await put(redis_client, image(0), ing_fail_count=1, ing_fail_exc="x", md_fail_exc="y", first_fail=1, first_wait=1)
    queue = work(redis_client)
    await queue.claim(1)

    acknowledgement = await done(redis_client, image(0), etag="e2")
    assert await queue.ingested([acknowledgement]) == [image(0)]
    assert await queue.ingested([acknowledgement]) == []  # repeated because the answer was lost

    record = await redis_client.hgetall(keys.file(image(0)))
    assert abs(float(record.pop("ingest_time")) - time.time()) < 5
    assert record == {"state": "ingested", "recv_time": "1.5", "etag": "e2", "size": "17"}
    assert await redis_client.hgetall(keys.ingested(BUCKET, "LSSTCam")) == {"20250415": "1"}
    assert await held(redis_client) == []


async def test_late_acknowledgements_after_a_reclaim_do_no_harm(redis_client: Redis) -> None:
    await put(redis_client, image(0))
    late, other = work(redis_client, "late"), work(redis_client, "other")
    (claim,) = await late.claim(1)
    acknowledgement = await done(redis_client, image(0))
    await redis_client.delete(keys.lease(BUCKET, "late"))
    await Reclaimer(redis_client, [BUCKET], 10).run_once()
    await other.claim(1)
    before = await redis_client.hgetall(keys.file(image(0)))

    assert not await late.renew()
    assert await late.ingested([acknowledgement]) == []
    assert await late.defer(claim, 0, None) == "lost"
    assert await late.failed(claim, "missing", "x", max_attempts=1, delay=1) == "lost"
    assert not await late.give_up(claim, "missing", "x")
    assert await late.give_back() == 0

    assert await redis_client.hgetall(keys.file(image(0))) == before
    assert await held(redis_client, "other") == [image(0)]
    assert not await redis_client.exists(
        keys.dead(BUCKET), keys.waiting(BUCKET), keys.queue(BUCKET), keys.failed(BUCKET, "LSSTCam"),
        keys.ingested(BUCKET, "LSSTCam"),
    )  # fmt: skip
    assert await other.ingested([await done(redis_client, image(0))]) == [image(0)]


@pytest.mark.parametrize("step", ["ingested", "failed", "defer", "give_back", "reclaim"])
@pytest.mark.parametrize("taken", [None, "second", "first"])
async def test_new_version_that_came_meanwhile_is_left_alone(redis_client: Redis, step: str, taken: str | None) -> None:
    await put(redis_client, image(0), etag="1")
    first, second = work(redis_client, "first"), work(redis_client, "second")
    (claim,) = await first.claim(1)
    acknowledgement = await done(redis_client, image(0), etag="1")
    await put(redis_client, image(0), etag="2")
    if taken == "first" and step in ("give_back", "reclaim"):
        return  # it has only the new version
    if taken:
        (again,) = await {"first": first, "second": second}[taken].claim(1)
        assert again.token != claim.token
    match step:
        case "ingested":
            assert await first.ingested([acknowledgement]) == []
        case "failed":
            assert await first.failed(claim, "missing", "x", max_attempts=1, delay=1) == "lost"
        case "defer":
            assert await first.defer(claim, 0, OBS_ID) == "lost"
        case "give_back":
            assert await first.give_back() == 0
        case "reclaim":
            await redis_client.delete(keys.lease(BUCKET, "first"))
            await Reclaimer(redis_client, [BUCKET], 10).run_once()
    await first.claim(0)
    assert await held(redis_client, "first") == ([image(0)] if taken == "first" else [])
    assert await state(redis_client, image(0)) == ("working" if taken else "queued")
    places = [await upcoming(redis_client), await held(redis_client, "first"), await held(redis_client, "second")]
    assert [path for place in places for path in place] == [image(0)]
    assert await redis_client.hget(keys.file(image(0)), "etag") == "2"
    assert not await redis_client.exists(keys.dead(BUCKET), keys.waiting(BUCKET))


@pytest.mark.parametrize("late_first", [False, True])
async def test_version_written_after_its_successor_is_looked_at_again(redis_client: Redis, late_first: bool) -> None:
    """A worker that was delayed writes its old version after another worker has written the new one."""
    await put(redis_client, image(0), etag="1")
    late, other = work(redis_client, "late"), work(redis_client, "other")
    await late.claim(1)
    old = await done(redis_client, image(0), etag="1")
    await put(redis_client, image(0), etag="2")
    await other.claim(1)
    new = await done(redis_client, image(0), etag="2")
    if late_first:
        assert await late.ingested([old, old]) == []
        assert await other.ingested([new]) == []
    else:
        assert await other.ingested([new]) == [image(0)]
        assert await late.ingested([old]) == []
    assert await upcoming(redis_client) == [image(0)]
    assert await state(redis_client, image(0)) == "queued"
    assert await held(redis_client, "late") == await held(redis_client, "other") == []
    (claim,) = await late.claim(1)
    assert claim.size is None, "the store is to be asked"
    assert await late.ingested([await done(redis_client, image(0), etag="2")]) == [image(0)]
    assert await other.ingested([new]) == []  # repeated
    assert await upcoming(redis_client) == []
    assert await state(redis_client, image(0)) == "ingested"
    assert not await redis_client.hexists(keys.file(image(0)), "overtaken")


@pytest.mark.parametrize("end", ["next claim", "suspected", "away", "give_back", "dead"])
@pytest.mark.parametrize("acknowledged", [False, True])
async def test_version_of_which_nothing_is_heard_has_its_successor_looked_at_again(
    redis_client: Redis, end: str, acknowledged: bool
) -> None:
    """It may have been written last, by a worker that died or lost Redis before it could tell."""
    await put(redis_client, image(0), etag="1")
    late, other = work(redis_client, "late"), work(redis_client, "other")
    (claim,) = await late.claim(1)
    await put(redis_client, image(0), etag="2")
    await other.claim(1)
    await put(redis_client, image(1))
    assert [item.path for item in await late.claim(1, more=True)] == [image(1)], "it is still written"
    new = await done(redis_client, image(0), etag="2")
    if acknowledged:
        assert await other.ingested([new]) == [image(0)]
    match end:
        case "suspected":
            assert await late.count_process_ends([claim]) == [0]
        case "away":
            assert await late.defer(claim, 0, None) == "lost"
        case "give_back":
            await late.give_back()
        case "dead":
            await redis_client.delete(keys.lease(BUCKET, "late"))
            await Reclaimer(redis_client, [BUCKET], 10).run_once()
    await late.claim(0)
    if not acknowledged:
        assert await other.ingested([new]) == []
    assert image(0) in await upcoming(redis_client)
    assert await state(redis_client, image(0)) == "queued"
    assert image(0) not in await held(redis_client, "late") + await held(redis_client, "other")
    await other.claim(9)
    assert await other.ingested([await done(redis_client, image(0), etag="2")]) == [image(0)]
    assert await state(redis_client, image(0)) == "ingested"


async def test_file_that_comes_anew_while_it_is_written_is_held_once(redis_client: Redis) -> None:
    await put(redis_client, image(0), etag="1")
    queue = work(redis_client)
    (old,) = await queue.claim(1)
    first = await done(redis_client, image(0), etag="1")
    await put(redis_client, image(0), etag="2")
    (new,) = await queue.claim(9, more=True)
    assert new.token != old.token
    assert await held(redis_client) == [image(0)]
    assert await queue.ingested([first]) == []
    assert [claim.token for claim in await queue.claim(9)] == [new.token]
    assert await queue.ingested([await done(redis_client, image(0), etag="2")]) == [image(0)]
    assert await held(redis_client) == await upcoming(redis_client) == []


async def test_renew_extends_a_lease_and_takes_a_lapsed_one_again(redis_client: Redis) -> None:
    await put(redis_client, image(0))
    queue = work(redis_client)
    assert not await queue.renew()
    await queue.claim(1)
    await redis_client.pexpire(keys.lease(BUCKET, "a"), 1000)
    assert await queue.renew()
    assert await redis_client.pttl(keys.lease(BUCKET, "a")) > 50_000
    await redis_client.delete(keys.lease(BUCKET, "a"))  # too late, but nobody has looked yet
    assert await queue.renew()
    assert await redis_client.pttl(keys.lease(BUCKET, "a")) > 50_000
    assert (await Reclaimer(redis_client, [BUCKET], 10).run_once()).from_dead == 0


async def test_give_back_keeps_the_order_and_goes_to_the_front(redis_client: Redis) -> None:
    await put(redis_client, *map(image, range(5)))
    queue = work(redis_client)
    await queue.claim(3)
    assert await queue.give_back() == 3
    assert await upcoming(redis_client) == [image(number) for number in range(5)]
    assert await state(redis_client, image(0)) == "queued"
    assert not await redis_client.exists(keys.lease(BUCKET, "a"), keys.leaseholders(BUCKET))


async def test_failures_are_retried_later_and_later_then_dead(redis_client: Redis) -> None:
    path = f"{BUCKET}/LSSTCam/20250415/{OBS_ID}/{OBS_ID}_R22_S11.fits"
    await put(redis_client, path, etag="e")
    queue, reclaimer = work(redis_client), Reclaimer(redis_client, [BUCKET], 10)
    for attempt, delay in enumerate((100, 200), 1):
        await queue.claim(1)
        assert (
            await queue.failed(
                await claim_of(redis_client, path), "metadata", f"no CARD “{attempt}”", max_attempts=3, delay=100
            )
            == "retry"
        )
        assert await state(redis_client, path) == "waiting"
        due = await redis_client.zscore(keys.waiting(BUCKET), path)
        assert due == pytest.approx(time.time() + delay, abs=5)
        assert await reclaimer.release_due(BUCKET) == 0
        await redis_client.zadd(keys.waiting(BUCKET), {path: 0})
        assert await reclaimer.release_due(BUCKET) == 1
        assert await state(redis_client, path) == "queued"
    (claimed,) = await queue.claim(1)
    assert claimed.attempts == 2
    assert (
        await queue.failed(await claim_of(redis_client, path), "metadata", "no CARD “3”", max_attempts=3, delay=100)
        == "dead"
    )

    letter = json.loads(text(await redis_client.hget(keys.dead(BUCKET), path)))
    assert 0 <= letter["last_time"] - letter["first_time"] < 60
    assert abs(letter.pop("last_time") - time.time()) < 5
    del letter["first_time"]
    assert letter == {
        "reason": "metadata", "exception": "no CARD “3”", "attempts": 3, "worker": "a", "etag": "e",
    }  # fmt: skip
    record = await redis_client.hgetall(keys.file(path))
    assert (record["state"], record["ing_fail_count"], record["md_fail_exc"]) == ("dead", "3", "no CARD “3”")
    assert "ing_fail_exc" not in record
    assert await redis_client.hgetall(keys.failed(BUCKET, "LSSTCam")) == {"20250415": "3"}
    assert await held(redis_client) == await upcoming(redis_client) == []


async def test_give_up_of_a_path_of_unknown_shape(redis_client: Redis) -> None:
    path = f"{BUCKET}/what.fits"
    await redis_client.lpush(keys.queue(BUCKET), path)
    queue = work(redis_client)
    await queue.claim(1)
    assert await queue.give_up(await claim_of(redis_client, path), "unknown", "no such shape")
    letter = json.loads(text(await redis_client.hget(keys.dead(BUCKET), path)))
    assert (letter["reason"], letter["etag"], letter["attempts"]) == ("unknown", None, 1)
    assert await redis_client.keys("FAIL:*") == []


async def test_guider_is_woken_to_the_front_by_its_exposure(redis_client: Redis) -> None:
    guider, science, rest = image(0, "R00_SG0"), image(1), image(2)
    await put(redis_client, guider)
    queue = work(redis_client)
    await queue.claim(1)
    assert await queue.defer(await claim_of(redis_client, guider), 60, OBS_ID) == "waiting"
    assert await state(redis_client, guider) == "waiting"
    since = await redis_client.hget(keys.file(guider), "first_wait")
    await put(redis_client, science, rest)
    await queue.claim(1)

    assert await queue.ingested([await done(redis_client, science, OBS_ID)]) == [science]

    assert await upcoming(redis_client) == [guider, rest]
    assert not await redis_client.exists(keys.waiting(BUCKET), keys.waiting_for(BUCKET, OBS_ID))
    (claimed,) = await queue.claim(1)
    assert claimed.first_wait == pytest.approx(float(text(since)))
    assert await queue.defer(await claim_of(redis_client, guider), 0, OBS_ID) == "waiting"
    assert await redis_client.hget(keys.file(guider), "first_wait") == since
    assert await queue.ingested([]) == []


async def test_guider_parked_after_its_exposure_became_known_does_not_wait(redis_client: Redis) -> None:
    guider, science = image(0, "R00_SG0"), image(1)
    await put(redis_client, guider, science)
    slow, fast = work(redis_client, "slow"), work(redis_client, "fast")
    await slow.claim(1)  # asks the Butler, which does not know the exposure yet
    await fast.claim(1)
    await fast.ingested([await done(redis_client, science, OBS_ID)])
    assert await slow.defer(await claim_of(redis_client, guider), 60, OBS_ID) == "queued"
    assert await upcoming(redis_client) == [guider]
    assert await state(redis_client, guider) == "queued"
    # Known before this claim, and yet the Butler does not know it: no reason to go round at once.
    await slow.claim(1)
    assert await slow.defer(await claim_of(redis_client, guider), 60, OBS_ID) == "waiting"


async def test_waiting_follows_the_servers_clock_alone(redis_client: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    await put(redis_client, image(0))
    monkeypatch.setattr(time, "time", lambda: 9e9)
    queue = work(redis_client)
    (claimed,) = await queue.claim(1)
    await queue.defer(await claim_of(redis_client, image(0)), 60, None)
    seconds, _ = await redis_client.time()
    assert claimed.claimed == pytest.approx(seconds, abs=5)
    assert await redis_client.zscore(keys.waiting(BUCKET), image(0)) == pytest.approx(seconds + 60, abs=5)


async def test_exposure_is_known_even_if_the_acknowledgement_came_late(redis_client: Redis) -> None:
    guider = image(0, "R00_SG0")
    await put(redis_client, guider)
    queue = work(redis_client)
    await queue.claim(1)
    await queue.defer(await claim_of(redis_client, guider), 60, OBS_ID)
    assert await work(redis_client, "late").ingested([await done(redis_client, image(1), OBS_ID)]) == []
    assert await upcoming(redis_client) == [guider]
    assert 0 < await redis_client.ttl(keys.exposure_known(BUCKET, OBS_ID)) <= 86400


async def test_waiting_file_that_is_due_leaves_all_that_it_waits_in(redis_client: Redis) -> None:
    guider, plain = image(0, "R00_SG0"), image(1)
    await put(redis_client, image(9), guider, plain)
    queue = work(redis_client)
    await queue.claim(3)
    assert await queue.defer(await claim_of(redis_client, guider), -1, OBS_ID) == "waiting"
    assert await queue.defer(await claim_of(redis_client, plain), -2, None) == "waiting"
    assert await queue.give_back() == 1
    assert await Reclaimer(redis_client, [BUCKET], 10).release_due(BUCKET) == 2
    assert await upcoming(redis_client) == [image(9), plain, guider]
    assert not await redis_client.exists(keys.waiting(BUCKET), keys.waiting_for(BUCKET, OBS_ID))
    assert await redis_client.hget(keys.file(guider), "waits_for") is None


async def test_every_step_renews_the_expiry_of_a_records(redis_client: Redis) -> None:
    queue, reclaimer, paths = work(redis_client), Reclaimer(redis_client, [BUCKET], 0), list(map(image, range(6)))

    async def check() -> None:
        for key in [key async for key in redis_client.scan_iter("FILE:*")]:
            assert await redis_client.ttl(key) > keys.FILE_EXPIRY - 60, key
        for key in [key async for key in redis_client.scan_iter("WAITINGFOR:*")]:
            assert await redis_client.ttl(key) > 0
        for path in paths:  # as if the record had expired meanwhile
            await redis_client.delete(keys.file(path))

    await redis_client.lpush(keys.queue(BUCKET), *paths)
    claims: dict[str, Claimed] = {}

    async def claim() -> None:
        claims.update({item.path: item for item in await queue.claim(6)})

    def ack(claim: Claimed, obs_id: str) -> Awaitable[list[str]]:
        return queue.ingested([Done(claim, None, None, "LSSTCam", "20250415", obs_id)])

    steps = [
        claim,
        lambda: ack(claims[paths[0]], OBS_ID),
        lambda: queue.defer(claims[paths[1]], 0, OBS_ID),
        lambda: queue.defer(claims[paths[2]], 60, "other"),
        lambda: queue.failed(claims[paths[3]], "missing", "x", max_attempts=2, delay=0),
        lambda: queue.give_up(claims[paths[4]], "missing", "x"),
        lambda: reclaimer.release_due(BUCKET),
        lambda: ack(replace(claims[paths[0]], path="gone"), "other"),
        queue.give_back,
        lambda: redis_client.lmove(keys.queue(BUCKET), keys.worker(BUCKET, "old"), "RIGHT", "LEFT"),
        reclaimer.run_once,
    ]
    for step in steps:
        await step()
        await check()
    assert sorted(await upcoming(redis_client)) == sorted([paths[1], paths[2], paths[3], paths[5]])


@pytest.mark.parametrize("name", ["", "a:b"])
def test_name_of_a_worker(redis_client: Redis, name: str) -> None:
    with pytest.raises(ValueError, match="colon"):
        work(redis_client, name)
