from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from autoingest.app import metrics
from autoingest.model.notices import Notice, Rejection
from autoingest.model.objects import ExposureObject, LfaObject, parse
from autoingest.queue import keys
from autoingest.queue.coalescing import MAX_ITEMS
from autoingest.queue.dead_letters import drop_rejected
from autoingest.queue.intake import MAX_STEPS, Intake
from autoingest.queue.statistics import MAX_ANNEX_INSTRUMENTS
from testing.redis import text

BUCKET = "embargo@rubin-summit"
FOLDER = f"{BUCKET}/LSSTCam/20251231/MC_O_20251231_000010"
PATH = f"{FOLDER}/MC_O_20251231_000010_R22_S11.fits"
QUEUE = keys.queue(BUCKET)
FILE = keys.file(PATH)


@pytest.fixture
async def intake(redis_client: redis.asyncio.Redis) -> AsyncIterator[Intake]:
    result = Intake(redis_client)
    yield result
    await result.close()


def notice(
    event_id: str | None = "1", etag: str | None = "e1", path: str = PATH, created: float = 1795166820.696242
) -> tuple[Notice, ExposureObject | LfaObject]:
    bucket, _, key = path.partition("/")
    size, time = (10, created) if etag else (None, None)
    return Notice(bucket, key, path, event_id, etag, size, time), parse(path)


TRIGGER = notice(None, None)


async def demand(intake: Intake, etag: str) -> str:
    """Have an operator ask for the object, as the store lists it."""
    one, obj = notice(None, etag)
    (outcome,) = await intake.accept([(replace(one, size=99, created=None, demanded=True), obj)])
    return outcome


async def put_on_record(client: redis.asyncio.Redis, state: str | None, etag: str | None = "e1") -> None:
    """A file's record as it is in `state`, with the event ``1`` seen."""
    await Intake(client).accept([notice()])
    await client.delete(QUEUE)
    await client.hdel(FILE, "state", "etag", "size", "created")
    fields = {"recv_time": "5", "ing_fail_count": "2", "ing_fail_exc": "no"}
    await client.hset(FILE, mapping=dict[Any, Any](fields))
    if state:
        await client.hset(FILE, "state", state)
    if etag:
        await client.hset(FILE, "etag", etag)
    if state == "queued":
        await client.lpush(QUEUE, PATH)
    elif state == "working":
        await client.hset(FILE, "worker", "w")
        await client.lpush(keys.worker(BUCKET, "w"), PATH)
    elif state == "waiting":
        await client.zadd(keys.waiting(BUCKET), {PATH: 5})
    elif state == "dead":
        await client.hset(keys.dead(BUCKET), PATH, "{}")


async def test_new_object(intake: Intake, redis_client: redis.asyncio.Redis) -> None:
    before = time.time()
    assert await intake.accept([notice()]) == ["queued"]
    assert await redis_client.lrange(QUEUE, 0, -1) == [PATH]
    record = await redis_client.hgetall(FILE)
    assert before - 1 < float(record.pop("recv_time")) < time.time() + 1
    assert [record.pop(name) for name in list(record) if text(name).startswith("event:")]
    assert record == {
        "state": "queued",
        "etag": "e1",
        "size": "10",
        "created": "1795166820.696242",
    }
    assert keys.FILE_EXPIRY - 60 < await redis_client.ttl(FILE) <= keys.FILE_EXPIRY


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        # the same event, the same eTag, another eTag, that with an id seen before, an event without eTag, a trigger
        ("queued", "d d q q d d"),
        ("working", "d d q q q q"),
        ("waiting", "d d q q d q"),
        ("ingested", "d d q q q q"),
        ("dead", "d q q q q q"),
        ("dropped", "d q q q q q"),
        (None, "d q q q q q"),
    ],
)
async def test_what_an_event_means(
    intake: Intake, redis_client: redis.asyncio.Redis, state: str | None, expected: str
) -> None:
    events = [
        notice("1", "e1"),
        notice("2", "e1"),
        notice("2", "e2"),
        notice("1", "e2"),
        notice("2", None),
        TRIGGER,
    ]
    for event, outcome in zip(events, expected.split(), strict=True):
        await redis_client.flushall()
        await put_on_record(redis_client, state)
        (result,) = await intake.accept([event])
        assert result[0] == outcome, event
        assert (await redis_client.lrange(QUEUE, 0, -1) == [PATH]) == (outcome == "q" or state == "queued"), event
        record = await redis_client.hgetall(FILE)
        if outcome == "q":
            assert record["state"] == "queued"
            assert float(record["recv_time"]) > 5
            assert record.get("etag") == event[0].etag
            assert not {"ing_fail_count", "ing_fail_exc", "size"} & set(record)
            assert record.get("butler_etag") == ("e1" if state == "ingested" and event[0].etag != "e1" else None)
            assert not await redis_client.exists(keys.dead(BUCKET), keys.waiting(BUCKET))
        else:
            assert (record.get("state"), record["etag"], record["recv_time"]) == (state, "e1", "5")
        # Whatever it meant, the same event again means nothing, and no entry comes twice.
        if event[0].event_id or outcome == "q":
            assert await intake.accept([event]) == ["duplicate"]
        assert await redis_client.llen(QUEUE) <= 1


async def test_version_that_was_not_known_is_learnt(intake: Intake) -> None:
    assert await intake.accept([TRIGGER, notice("1", "e1"), notice("2", "e2")]) == ["queued", "duplicate", "queued"]


async def test_any_character_survives(intake: Intake, redis_client: redis.asyncio.Redis) -> None:
    path = f'{FOLDER}/\0 \n"é😀\\ \u2028.fits'
    assert await intake.accept([notice(path=path)]) == ["queued"]
    assert await redis_client.lrange(QUEUE, 0, -1) == [path]
    assert await redis_client.hget(keys.file(path), "state") == "queued"


@pytest.mark.parametrize("state", ["queued", "working", "waiting", "ingested", "dead", "dropped"])
async def test_redelivered_events_of_any_versions_stay_duplicates(
    intake: Intake, redis_client: redis.asyncio.Redis, state: str
) -> None:
    """Whether their sender gives events an id (Ceph) or a time (AWS, MinIO), and whatever comes in between."""
    events = [notice(None if n % 2 else f"id{n}", f"e{n // 2}", created=1e9 - n) for n in range(6)]
    outcomes = await intake.accept(events)
    assert outcomes == ["queued", "duplicate"] * 3, "an event of the version on the queue tells nothing new"
    await redis_client.delete(QUEUE)
    await redis_client.hset(FILE, mapping={"state": state, "etag": "e2"})
    if state == "queued":
        await redis_client.lpush(QUEUE, PATH)
    for seed in range(20):
        random.Random(seed).shuffle(events)
        assert await intake.accept(events) == ["duplicate"] * 6
    assert await redis_client.hget(FILE, "state") == state


async def test_path_that_an_old_service_queued(intake: Intake, redis_client: redis.asyncio.Redis) -> None:
    await redis_client.lpush(QUEUE, PATH)
    await redis_client.hset(FILE, "recv_time", "5")
    assert await intake.accept([TRIGGER]) == ["duplicate"]
    assert await intake.accept([notice()]) == ["duplicate"]
    await redis_client.rpop(QUEUE)
    assert await intake.accept([notice("2", "e1")]) == ["queued"]


@pytest.mark.parametrize(
    ("state", "fields", "outcome"),
    [
        ("queued", {"ingest_time": "6"}, "duplicate"),
        ("queued", {"ingest_time": "4"}, "queued"),
        ("queued", {"ingest_time": "rubbish"}, "queued"),
        ("queued", {"ing_fail_exc": "no", "ing_fail_count": "3"}, "queued"),
        ("queued", {"md_fail_exc": "no"}, "queued"),
        ("queued", {}, "queued"),
        ("working", {"worker": "w", "ingest_time": "6"}, "duplicate"),
        ("working", {"worker": "w", "md_fail_exc": "no"}, "queued"),
        ("working", {"worker": "w"}, "queued"),
        ("working", {}, "queued"),
        ("waiting", {"ingest_time": "6"}, "duplicate"),
        ("waiting", {}, "queued"),
        ("ingested", {"ingest_time": "6"}, "duplicate"),
    ],
)
async def test_what_old_services_took_is_where_the_lists_say(
    intake: Intake, redis_client: redis.asyncio.Redis, state: str, fields: dict[str, str], outcome: str
) -> None:
    """They change no state: another event of the same version is a duplicate only if the file is on its way, or in."""
    assert await intake.accept([notice("1", "e1")]) == ["queued"]
    await redis_client.delete(QUEUE)
    await redis_client.hset(FILE, mapping=dict[Any, Any](fields) | {"state": state, "recv_time": "5"})
    assert await intake.accept([notice("1", "e1")]) == ["duplicate"], "a redelivery"
    assert await intake.accept([notice("2", "e1")]) == [outcome]
    assert await redis_client.lrange(QUEUE, 0, -1) == [PATH] * (outcome == "queued")


@pytest.mark.parametrize("state", ["working", "waiting", "ingested", "dead", "dropped", None])
async def test_what_an_old_service_queued_again_is_not_queued_twice(
    intake: Intake, redis_client: redis.asyncio.Redis, state: str | None
) -> None:
    await put_on_record(redis_client, state)
    await redis_client.lpush(QUEUE, PATH)
    for event in (notice("2", "e1"), notice("3", "e2"), TRIGGER):
        await intake.accept([event])
        assert await redis_client.lrange(QUEUE, 0, -1) == [PATH]


async def test_statistics(intake: Intake, redis_client: redis.asyncio.Redis) -> None:
    paths = [f"{BUCKET}/LSSTCam/20251231/MC_O_20251231_{n:06}/MC_O_20251231_{n:06}_R22_S11.fits" for n in (9, 100, 20)]
    lfa = "rubinobs-lfa-cp/GC101/2025/12/31/GC101_O_20251231_000211.fits"
    await intake.accept([notice(path=path) for path in (*paths, *paths, lfa)])
    assert await redis_client.hgetall(keys.received(BUCKET)) == {"20251231": "3"}
    assert await redis_client.hgetall(keys.received_by_instrument(BUCKET, "LSSTCam")) == {"20251231": "3"}
    assert await redis_client.get(keys.max_seq(BUCKET, "LSSTCam", "20251231")) == "100"
    assert await redis_client.hgetall(keys.received("rubinobs-lfa-cp")) == {"20251231": "1"}
    assert await redis_client.hgetall(keys.received_by_instrument("rubinobs-lfa-cp", "GC101")) == {"20251231": "1"}
    assert len(await redis_client.keys("MAXSEQ:*")) == 1


async def test_statistics_have_the_names_of_the_old_services(intake: Intake, redis_client: redis.asyncio.Redis) -> None:
    paths = [f"{BUCKET}/{name}/20251231/{code}_O_20251231_000009/x.fits"
             for name, code in (("ComCam", "CC"), ("LSSTComCam", "CC"), ("TS8", "TS"), ("LATISS", "AT"))]  # fmt: skip
    await intake.accept([notice(path=path) for path in paths])
    for name in ("ComCam", "LSSTComCam", "TS8", "LATISS"):
        assert await redis_client.hgetall(keys.received_by_instrument(BUCKET, name)) == {"20251231": "1"}
        assert await redis_client.get(keys.max_seq(BUCKET, name, "20251231")) == "9"


@pytest.mark.parametrize("day", ["99999999", "20251332", "20250229", "00000000", "20131231", "20991231"])
async def test_days_that_are_none_are_not_counted(intake: Intake, redis_client: redis.asyncio.Redis, day: str) -> None:
    path = f"{BUCKET}/LSSTCam/{day}/MC_O_{day}_000009/x.fits"
    lfa = f"rubinobs-lfa-cp/GC101/{day[:4]}/{day[4:6]}/{day[6:]}/x.fits"
    assert await intake.accept([notice(path=path), notice(path=lfa)]) == ["queued", "queued"]
    assert sorted(await redis_client.keys("*")) == sorted(
        [keys.file(path), keys.file(lfa), QUEUE, keys.queue("rubinobs-lfa-cp")]
    )


async def test_instruments_of_the_annex_are_bounded(intake: Intake, redis_client: redis.asyncio.Redis) -> None:
    annex = "rubinobs-lfa-cp"

    async def accept(*names: str) -> None:
        paths = [f"{annex}/{name}/2025/12/31/x.fits" for name in names]
        assert await intake.accept([notice(path=path) for path in paths]) == ["queued"] * len(paths)

    await accept("GenericCamera/GC101", "a b", "é", "x" * 65)
    await accept(*(f"Csc/{number}" for number in range(2 * MAX_ANNEX_INSTRUMENTS)))
    await accept("GenericCamera/GC102", "Csc/7:x")
    assert len(await redis_client.keys("RECINSTR:*")) == MAX_ANNEX_INSTRUMENTS
    assert await redis_client.exists(keys.received_by_instrument(annex, "GenericCamera/GC101"))
    number = 4 + 2 * MAX_ANNEX_INSTRUMENTS + 2
    assert await redis_client.hgetall(keys.received(annex)) == {"20251231": str(number)}


async def test_statistics_keep_no_image_out(intake: Intake, redis_client: redis.asyncio.Redis) -> None:
    await redis_client.set(keys.received(BUCKET), "x")
    await redis_client.hset(keys.received_by_instrument(BUCKET, "LSSTCam"), "20251231", "x")
    await redis_client.set(keys.max_seq(BUCKET, "LSSTCam", "20251231"), "x")
    assert await intake.accept([notice()]) == ["queued"]
    assert await redis_client.lrange(QUEUE, 0, -1) == [PATH]
    assert await redis_client.get(keys.max_seq(BUCKET, "LSSTCam", "20251231")) == "10"


async def test_concurrent_calls_with_racing_duplicates(intake: Intake, redis_client: redis.asyncio.Redis) -> None:
    paths = [f"{FOLDER}/MC_O_20251231_000010_{n}.fits" for n in range(1000)]
    events = [notice(str(n), path=path) for n, path in enumerate(paths)] * 2
    random.Random(1).shuffle(events)
    other = Intake(redis_client)
    outcomes = await asyncio.gather(*((intake, other)[n % 2].accept([event]) for n, event in enumerate(events)))
    assert Counter(outcome for (outcome,) in outcomes) == {"queued": 1000, "duplicate": 1000}
    assert sorted(await redis_client.lrange(QUEUE, 0, -1)) == sorted(paths)
    assert await redis_client.hgetall(keys.received(BUCKET)) == {"20251231": "1000"}
    assert not intake.is_busy
    await other.close()


async def test_more_than_one_call_holds(intake: Intake, redis_client: redis.asyncio.Redis) -> None:
    paths = [f"{FOLDER}/MC_O_20251231_000010_{n}.fits" for n in range(2 * MAX_ITEMS + 7)]
    assert await intake.accept([notice(path=path) for path in paths]) == ["queued"] * len(paths)
    assert (await redis_client.lrange(QUEUE, 0, -1))[::-1] == paths


async def test_half_a_step_is_completed_by_its_repetition(valkey_url: str, redis_client: redis.asyncio.Redis) -> None:
    """A call that Redis breaks off after the first of two records, as it does where a right is lacking."""
    other = "b/LSSTCam/20251231/MC_O_20251231_000010/MC_O_20251231_000010_R22_S11.fits"
    await redis_client.execute_command("ACL", "SETUSER", "half", "on", "nopass", "+@all", "~*:embargo*", "~FILE:*")
    client = redis.asyncio.Redis.from_url(valkey_url, username="half", password="x", decode_responses=True)
    intake = Intake(client)
    waiting = asyncio.create_task(intake.accept([notice(), notice(path=other)]))
    async with asyncio.timeout(60):
        while not await redis_client.llen(QUEUE):
            await asyncio.sleep(0)
    assert not waiting.done()
    await redis_client.execute_command("ACL", "SETUSER", "half", "~*")
    assert await asyncio.wait_for(waiting, 60) == ["duplicate", "queued"]
    await intake.close()
    await client.aclose()
    await redis_client.execute_command("ACL", "DELUSER", "half")
    assert await redis_client.lrange(QUEUE, 0, -1) == [PATH]
    assert await redis_client.lrange(keys.queue("b"), 0, -1) == [other]
    assert await redis_client.hget(keys.received(BUCKET), "20251231") == "1"


@pytest.mark.parametrize("number", [1, MAX_ITEMS + 1])
@pytest.mark.parametrize("by_deadline", [True, False])
async def test_who_waits_no_longer_is_forgotten(number: int, by_deadline: bool) -> None:
    away = redis.asyncio.Redis(port=1, retry=Retry(NoBackoff(), 0))
    intake = Intake(away)
    deadline = asyncio.get_running_loop().time() + 0.1 if by_deadline else None
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(intake.accept([notice()] * number, deadline), None if by_deadline else 0.1)
    async with asyncio.timeout(60):
        while intake.is_busy:
            await asyncio.sleep(0)
    await intake.close()
    await away.aclose()


async def test_rejected_records_are_counted(intake: Intake, redis_client: redis.asyncio.Redis) -> None:
    before = time.time()
    rejection = Rejection(BUCKET, 'a "b".fits', "key has 0 components", None)
    await asyncio.gather(*(intake.reject([rejection] * 2) for _ in range(10)))
    await intake.reject([Rejection(BUCKET, 'a "b".fits', "filename", "ObjectCreated:Put")])
    await intake.reject([Rejection("-", "other/x.fits", "bucket is not configured", None)])
    entry = json.loads(text(await redis_client.hget(keys.rejected(BUCKET), 'a "b".fits')))
    assert before - 1 < entry.pop("first_time") < entry.pop("last_time") < time.time() + 1
    assert entry == {"key": 'a "b".fits', "reason": "filename", "event": "ObjectCreated:Put", "count": 21}
    assert await redis_client.hkeys(keys.rejected("-")) == ["other/x.fits"]


def rejected_forgotten() -> float:
    return metrics.REGISTRY.get_sample_value("autoingest_rejected_forgotten_total", {"bucket": BUCKET}) or 0.0


async def test_rejected_records_are_bounded(redis_client: redis.asyncio.Redis) -> None:
    """Those last seen longest ago are dropped; other buckets keep theirs."""
    intake = Intake(redis_client, max_rejected=3)
    before = rejected_forgotten()
    await intake.reject([Rejection("-", "x", "why", None)])
    for name in "abcadef":
        await intake.reject([Rejection(BUCKET, name, "why", None)])
    assert set(await redis_client.hkeys(keys.rejected(BUCKET))) == {"d", "e", "f"}
    await intake.reject([Rejection(BUCKET, name, "why", None) for name in "de"])
    await intake.reject([Rejection(BUCKET, "g", "why", None)])
    assert set(await redis_client.hkeys(keys.rejected(BUCKET))) == {"d", "e", "g"}
    assert await redis_client.hkeys(keys.rejected("-")) == ["x"]
    assert await drop_rejected(redis_client, BUCKET, ["d", "e", "unknown"]) == 2
    assert await redis_client.zrange(keys.rejected_times(BUCKET), 0, -1) == ["g"]
    assert rejected_forgotten() - before == 4
    await intake.close()


@pytest.mark.parametrize("state", ["queued", "working", "waiting", "ingested", "dead", "dropped", None])
async def test_what_an_operator_demands_is_queued_once(
    intake: Intake, redis_client: redis.asyncio.Redis, state: str | None
) -> None:
    """Even if the same version was seen before, as the Butler may have lost it."""
    await put_on_record(redis_client, state)
    assert await demand(intake, "e1") == ("duplicate" if state == "queued" else "queued")
    assert await redis_client.lrange(QUEUE, 0, -1) == [PATH]
    assert await redis_client.hget(FILE, "state") == "queued"
    assert await demand(intake, "e1") == "duplicate"
    assert await redis_client.lrange(QUEUE, 0, -1) == [PATH]


async def test_a_demanded_version_replaces_the_queued_one(intake: Intake, redis_client: redis.asyncio.Redis) -> None:
    await put_on_record(redis_client, "queued")
    assert await demand(intake, "e2") == "queued"
    assert await redis_client.lrange(QUEUE, 0, -1) == [PATH]
    assert await redis_client.hmget(FILE, "etag", "size") == ["e2", None], "the store is to be asked"


async def test_what_is_queued_by_its_record_alone_can_be_demanded(
    intake: Intake, redis_client: redis.asyncio.Redis
) -> None:
    await put_on_record(redis_client, "queued")
    await redis_client.delete(QUEUE)
    assert await demand(intake, "e1") == "queued"
    assert await redis_client.lrange(QUEUE, 0, -1) == [PATH]


async def test_long_queues_are_searched_a_few_times_a_call(redis_client: redis.asyncio.Redis, intake: Intake) -> None:
    """New versions of known files, for which a long queue has to be searched, do not keep others from Redis."""
    paths = [
        f"{FOLDER}/MC_O_20251231_000010_R{raft}_S{ccd}{slot}.fits"
        for raft in (21, 22, 23)
        for ccd in range(3)
        for slot in range(3)
    ]
    await intake.accept([notice(str(number), "e1", path) for number, path in enumerate(paths)])
    await redis_client.delete(QUEUE)
    for path in paths:
        await redis_client.hset(keys.file(path), "state", "ingested")
    depth = MAX_STEPS // 4
    for first in range(0, depth, 10_000):
        await redis_client.rpush(QUEUE, *(f"another/{first + number}" for number in range(10_000)))
    await redis_client.config_resetstat()
    outcomes = await intake.accept([notice(f"new-{number}", "e2", path) for number, path in enumerate(paths)])
    assert outcomes == ["queued"] * len(paths)
    assert await redis_client.llen(QUEUE) == depth + len(paths)
    stats = await redis_client.info("commandstats")
    assert sum(stats.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in ("evalsha", "eval")) >= len(paths) / 5
