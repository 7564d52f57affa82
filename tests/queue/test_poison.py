"""One bad key, path or text harms only itself."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable

import pytest
from redis.asyncio import Redis
from redis.exceptions import NoPermissionError

from autoingest.model.notices import Notice, Rejection
from autoingest.model.objects import ExposureObject, LfaObject, parse
from autoingest.model.text import printable
from autoingest.queue import keys
from autoingest.queue.dead_letters import Selection, dead_letters, drop, rejected_records, requeue
from autoingest.queue.file_status import file_statuses
from autoingest.queue.intake import Intake
from autoingest.queue.pending_visits import PendingVisits
from autoingest.queue.presence import Arrival, GroupKeys
from autoingest.queue.reclaim import Reclaimed, Reclaimer
from autoingest.queue.status import queue_status
from autoingest.queue.work import Done, WorkQueue
from testing.redis import BUCKET, claim_of, done, image, put, state, text, texts, upcoming

OBS_ID = "MC_O_20250415_000001"
PATHS = [image(number) for number in range(5)]
SPOILT = PATHS[2]


async def spoil(client: Redis, key: str) -> None:
    """Put something of another type under a key."""
    await client.delete(key)
    if key.startswith(("EXPOSURE", "MAXSEQ", "LEASE:", "QUEUE", "GROUP")):
        await client.hset(key, "x", "y")
    else:
        await client.set(key, "x")


def notice(path: str) -> tuple[Notice, ExposureObject | LfaObject]:
    return Notice(BUCKET, path.removeprefix(f"{BUCKET}/"), path, f"id of {path}", "e", 1, 1e9), parse(path)


async def places(client: Redis) -> list[str]:
    """Every path that is somewhere, as often as it is."""
    found: list[str] = []
    async for key in client.scan_iter("*"):
        match key.partition(":")[0], await client.type(key):
            case "QUEUE" | "WORKER", "list":
                found += texts(await client.lrange(key, 0, -1))
            case "WAITING", "zset":
                found += texts(await client.zrange(key, 0, -1))
            case "DEAD", "hash":
                found += texts(await client.hkeys(key))
            case "FILE", "hash" if await client.hget(key, "state") == "ingested":
                found.append(key.removeprefix("FILE:"))
    return sorted(found)


BAD_KEYS = [
    keys.file(SPOILT), keys.queue(BUCKET), keys.dead(BUCKET), keys.waiting(BUCKET), keys.received(BUCKET),
    keys.received_by_instrument(BUCKET, "LSSTCam"), keys.max_seq(BUCKET, "LSSTCam", "20250415"),
    keys.ingested(BUCKET, "LSSTCam"), keys.failed(BUCKET, "LSSTCam"), keys.worker(BUCKET, "a"), keys.lease(BUCKET, "a"),
    keys.leaseholders(BUCKET), keys.exposure_known(BUCKET, OBS_ID), keys.waiting_for(BUCKET, OBS_ID), keys.owed(BUCKET),
]  # fmt: skip


@pytest.mark.parametrize("key", BAD_KEYS)
async def test_key_of_the_wrong_type_is_set_aside_wherever_it_is_met(redis_client: Redis, key: str) -> None:
    """It is spoilt before each step in turn, whenever that loses nothing of ours."""
    intake, queue, reclaimer = (
        Intake(redis_client),
        WorkQueue(redis_client, BUCKET, "a", 60),
        Reclaimer(redis_client, [BUCKET], 0),
    )
    visits = {("LSSTCam", 2025041500001): "x"}

    async def accept() -> None:
        assert await intake.accept([notice(path) for path in PATHS]) == ["queued"] * 5

    async def claim() -> None:
        assert [item.path for item in await queue.claim(5)] == PATHS
        assert await queue.renew()

    async def move() -> None:
        claims = {item.path: item for item in await queue.claim(5)}
        assert list(claims) == PATHS
        assert await queue.defer(claims[PATHS[1]], 1e9, OBS_ID) == "waiting"
        assert await queue.defer(claims[SPOILT], 0, None) == "waiting"
        assert await queue.failed(claims[PATHS[3]], "missing", "x", max_attempts=2, delay=0) == "retry"
        assert await queue.give_up(claims[PATHS[4]], "missing", "x")
        finished = Done(claims[PATHS[0]], "e", 1, "LSSTCam", "20250415", OBS_ID)
        assert await queue.ingested([finished], visits) == [PATHS[0]]

    async def release() -> None:
        await reclaimer.release_due(BUCKET)

    async def back() -> None:
        await queue.claim(1)
        await redis_client.delete(keys.lease(BUCKET, "a"))
        await reclaimer.run_once()

    async def again() -> None:
        await requeue(redis_client, BUCKET, [PATHS[4]])
        await PendingVisits(redis_client, BUCKET, 1).claim()

    ours = {  # what is lost with a key, by the step before which it still holds nothing of ours
        keys.queue(BUCKET): [accept, move], keys.worker(BUCKET, "a"): [accept, claim, release, again],
        keys.waiting(BUCKET): [accept, claim, move, again], keys.dead(BUCKET): [accept, claim, move],
        keys.leaseholders(BUCKET): [accept, claim, move, release, again],
    }  # fmt: skip
    steps: list[Callable[[], Awaitable[None]]] = [accept, claim, move, release, back, again]
    for spoiled in ours.get(key, steps):
        await redis_client.flushall()
        for step in steps:
            if step is spoiled:
                await spoil(redis_client, key)
            await step()
            await queue_status(redis_client, BUCKET)
            await file_statuses(redis_client, BUCKET, PATHS)
        expected = sorted(PATHS)
        if key == keys.file(SPOILT) and spoiled in (back, again):
            assert SPOILT in await places(redis_client)
        assert await places(redis_client) == expected, spoiled.__name__
    await intake.close()


async def test_giving_back_loses_nothing_beside_a_bad_record(redis_client: Redis) -> None:
    reclaimer = Reclaimer(redis_client, [BUCKET], 0)
    for name, number in (("dead", "from_dead"), ("old", "from_old")):
        await redis_client.flushall()
        await put(redis_client, *PATHS)
        if name == "dead":
            await WorkQueue(redis_client, BUCKET, name, 60).claim(5)
            await redis_client.delete(keys.lease(BUCKET, name))
        else:
            for _ in PATHS:
                await redis_client.lmove(keys.queue(BUCKET), keys.worker(BUCKET, name), "RIGHT", "LEFT")
        await spoil(redis_client, keys.file(SPOILT))
        found = await reclaimer.run_once()
        assert found == Reclaimed(**{"from_dead": 0, "from_old": 0, "released": 0, number: 5})
        assert await upcoming(redis_client) == PATHS
        assert {await state(redis_client, path) for path in PATHS} == {"queued"}
        assert await redis_client.get(keys.set_aside(keys.file(SPOILT))) == "x", "what it was can still be looked at"


async def test_leaseholders_of_the_wrong_type_keep_nothing_from_its_way(redis_client: Redis) -> None:
    other = "rubin-summit"
    reclaimer = Reclaimer(redis_client, [BUCKET, other], 0)
    await put(redis_client, *PATHS)
    await put(redis_client, "waits", bucket=other)
    queue = WorkQueue(redis_client, other, "b", 60)
    (claim,) = await queue.claim(1)
    await queue.defer(claim, 0, None)
    await WorkQueue(redis_client, BUCKET, "dead", 60).claim(5)
    await redis_client.delete(keys.lease(BUCKET, "dead"), keys.leaseholders(BUCKET))
    await spoil(redis_client, keys.leaseholders(BUCKET))
    assert await reclaimer.run_once() == Reclaimed(from_dead=0, from_old=5, released=1)
    assert await upcoming(redis_client) == PATHS


async def test_commands_that_a_redis_user_may_not_run(valkey_url: str, redis_client: Redis) -> None:
    """Nothing is done by half, again and again, and the error names the command and the key."""
    await redis_client.acl_setuser("app", enabled=True, reset=True, passwords=["+pw"], keys=["*"], categories=["+@all"])
    async with Redis.from_url(valkey_url, username="app", password="pw", decode_responses=True) as app:
        for command in ("zrem", "hdel", "hset", "expire", "lpush", "lpos"):
            await redis_client.execute_command("ACL", "SETUSER", "app", f"-{command}")
            intake = Intake(app, hold=False)
            with pytest.raises(NoPermissionError, match=rf"{command.upper()} on (QUEUE|FILE|WAITING|DEAD):"):
                await intake.accept([notice(PATHS[0])])
            await intake.close()
            await redis_client.execute_command("ACL", "SETUSER", "app", f"+{command}")
        assert await redis_client.keys("*") == []
        await put(redis_client, *PATHS)
        before = await redis_client.hgetall(keys.file(PATHS[0]))
        for command in ("zadd", "hset", "lmove", "lrem", "del", "smembers"):
            await redis_client.execute_command("ACL", "SETUSER", "app", f"-{command}")
            with pytest.raises(NoPermissionError, match=f"this Redis user may not run {command.upper()} on "):
                await WorkQueue(app, BUCKET, "w", 60).claim(5)
            await redis_client.execute_command("ACL", "SETUSER", "app", f"+{command}")
        assert await redis_client.hgetall(keys.file(PATHS[0])) == before
        assert await upcoming(redis_client) == PATHS
        assert len(await WorkQueue(app, BUCKET, "w", 60).claim(5)) == 5
    await redis_client.acl_deluser("app")


async def test_lookups_beside_a_presence_key_of_the_wrong_type(redis_client: Redis) -> None:
    await spoil(redis_client, keys.group("LSSTCam", "g", 0, "R22_S11"))
    await redis_client.set(keys.group("LSSTCam", "g", 0, "R22_S12"), "s3://x")
    for groups in (GroupKeys(redis_client, 60), GroupKeys(redis_client, 60, delete_on_sight=True)):
        lookups = [groups.lookup("LSSTCam", "g", 0, detector) for detector in ("R22_S11", "R22_S12")]
        assert await asyncio.gather(*lookups) == [None, "s3://x"]
    await groups.record([Arrival("LSSTCam", "g", 0, "R22_S11", "s3://y")])
    assert await groups.lookup("LSSTCam", "g", 0, "R22_S11") == "s3://y"


BAD_PATHS = [
    "", " ", "\udcff", f"{BUCKET}/LSSTCam/20250415/{OBS_ID}/x\udcff\udce9.fits", f"{BUCKET}/" + "x" * 200_000,
    "\0\n\x1b[2J", f"{BUCKET}/LSSTCam/20250415/{OBS_ID}/{'y' * 2000}.fits", "😀", "/", "//", "x" * 2000, "nan", "1e999",
]  # fmt: skip


@pytest.mark.parametrize("path", BAD_PATHS, ids=lambda path: ascii(path[:20]))
async def test_path_that_is_none_goes_all_ways(redis_client: Redis, path: str) -> None:
    queue, reclaimer = WorkQueue(redis_client, BUCKET, "a", 60), Reclaimer(redis_client, [BUCKET], 0)
    order = [PATHS[0], path, PATHS[1]]
    await redis_client.lpush(keys.queue(BUCKET), *order)
    assert await queue.wait(1)
    assert [item.path for item in await queue.claim(5)] == order
    assert await queue.give_back() == 3
    await redis_client.lmove(keys.queue(BUCKET), keys.worker(BUCKET, "old"), "RIGHT", "LEFT")
    await redis_client.lmove(keys.queue(BUCKET), keys.worker(BUCKET, "old"), "RIGHT", "LEFT")
    assert await reclaimer.run_once() == Reclaimed(0, 2, 0)
    assert await upcoming(redis_client) == order
    await queue.claim(5)
    assert await queue.defer(await claim_of(redis_client, path), 0, OBS_ID) == "waiting"
    assert await reclaimer.release_due(BUCKET) == 1
    await queue.claim(5)
    assert (
        await queue.failed(await claim_of(redis_client, path), "unknown", f"{path}?", max_attempts=2, delay=0)
        == "retry"
    )
    assert await reclaimer.release_due(BUCKET) == 1
    assert (await queue_status(redis_client, BUCKET)).depth == 1
    await queue.claim(5)
    assert await queue.give_up(await claim_of(redis_client, path), "unknown", f"{path}?")
    assert [one.place for one in await file_statuses(redis_client, BUCKET, [path])] == ["dead"]

    async def letters(selection: Selection) -> list[str]:
        return [item.path async for item in dead_letters(redis_client, [BUCKET], selection)]

    assert await letters(Selection()) == [path]
    assert await letters(Selection(paths=frozenset({printable(path)}))) == [path]
    assert await letters(Selection(paths=frozenset({path}))) == [path]
    assert await requeue(redis_client, BUCKET, [path]) == [path]
    assert await upcoming(redis_client) == [path]
    await queue.claim(5)
    await queue.give_up(await claim_of(redis_client, path), "unknown", "x")
    assert await drop(redis_client, BUCKET, [path]) == [path]
    assert await state(redis_client, path) == "dropped"
    await queue.claim(5)
    assert await queue.ingested([await done(redis_client, one) for one in PATHS[:2]]) == PATHS[:2]


@pytest.mark.parametrize(
    "value",
    [
        "",
        "x",
        "[]",
        "{}",
        "null",
        "\udcff",
        '{"count": "x"}',
        "1e999",
        '{"last_time": 1e999}',
        "[" * 2000,
        '{"a": 99999999999999999999999}',
    ],
)
async def test_texts_that_are_no_json(redis_client: Redis, value: str) -> None:
    await redis_client.hset(keys.dead(BUCKET), PATHS[0], value)
    await redis_client.hset(keys.rejected(BUCKET), "key", value)
    await redis_client.hset(
        keys.owed(BUCKET), mapping={"LSSTCam/2025041500001": value, "LSSTCam/x": value, value: "{}"}
    )
    (letter,) = [item async for item in dead_letters(redis_client, [BUCKET], Selection())]
    assert letter.path == PATHS[0]
    assert await requeue(redis_client, BUCKET, [PATHS[0]]) == PATHS[:1]
    intake = Intake(redis_client)
    await intake.reject([Rejection(BUCKET, "key", "why", None)])
    await intake.close()
    (record,) = [item async for item in rejected_records(redis_client, [BUCKET], Selection())]
    assert (record.reason, record.count) == ("why", 1)
    assert ("LSSTCam", 2025041500001) in await PendingVisits(redis_client, BUCKET, 100).claim()
    entry = json.loads(text(await redis_client.hget(keys.owed(BUCKET), "LSSTCam/2025041500001")))
    assert entry["due"] == pytest.approx(time.time() + 100, abs=10)


async def test_letter_that_is_no_json_is_shown_as_it_is(redis_client: Redis) -> None:
    await redis_client.hset(keys.dead(BUCKET), PATHS[0], "what\udcff\n")
    (letter,) = [item async for item in dead_letters(redis_client, [BUCKET], Selection(reason="malformed"))]
    assert letter.exception == r"what\xff\n"


@pytest.mark.parametrize("value", ["", "x", "nan", "inf", "-inf", "-1", "1e999", "0x10", "9" * 30, "\udcff"])
async def test_numbers_that_are_none(redis_client: Redis, value: str) -> None:
    names = ("size", "created", "recv_time", "ing_fail_count", "first_wait", "first_fail")
    await put(redis_client, PATHS[0], **dict.fromkeys(names, value))
    await redis_client.set(keys.exposure_known(BUCKET, OBS_ID), value)
    await redis_client.set(keys.max_seq(BUCKET, "LSSTCam", "20250415"), value)
    queue = WorkQueue(redis_client, BUCKET, "a", 60)
    (claim,) = await queue.claim(1)
    assert claim.attempts >= 0
    assert await queue.defer(claim, 0, OBS_ID) in ("waiting", "queued")
    await Reclaimer(redis_client, [BUCKET], 10).release_due(BUCKET)
    (claim,) = await queue.claim(1)
    assert await queue.give_up(claim, "missing", "x")
    (letter,) = [item async for item in dead_letters(redis_client, [BUCKET], Selection())]
    assert letter.first_time is not None
    assert letter.attempts >= 1
