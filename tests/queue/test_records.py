"""What is kept of a file: little once it is ingested, and never more because of what a sender writes."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from autoingest.app import metrics
from autoingest.model.notices import Notice, Rejection
from autoingest.model.objects import parse
from autoingest.model.text import MAX_EXCEPTION
from autoingest.queue import keys
from autoingest.queue.intake import MAX_CANARIES, MAX_EVENTS, Intake
from autoingest.queue.statistics import counted_as
from autoingest.queue.work import Done, WorkQueue
from testing.redis import BUCKET, audit, image, put, text

KEY = "LSSTCam/20251231/MC_O_20251231_000010/MC_O_20251231_000010_R22_S11.fits"
PATH = f"{BUCKET}/{KEY}"
FILE = keys.file(PATH)
ETAGS = ["0123456789abcdef0123456789abcdef", "fedcba9876543210fedcba9876543210", "00112233445566778899aabbccddeeff"]
OTHER = "rubin-canaries"
AT_REST = {"state", "recv_time", "ingest_time", "etag", "size"}


@pytest.fixture
async def intake(redis_client: Redis) -> AsyncIterator[Intake]:
    result = Intake(redis_client)
    yield result
    await result.close()


async def tell(intake: Intake, event_id: str | None, etag: str | None) -> str:
    notice = Notice(BUCKET, KEY, PATH, event_id, etag, 14_400, 1795166820.696242)
    (outcome,) = await intake.accept([(notice, parse(PATH))])
    return outcome


async def ingest(client: Redis, etag: str | None, *, failures: int = 0, expiry: float = keys.FILE_EXPIRY) -> None:
    queue = WorkQueue(client, BUCKET, "some-host-7f9c-12345-a1b2c3-0a", 60, expiry)
    (claim,) = await queue.claim(1)
    for _ in range(failures):
        await queue.failed(claim, "failed", "x" * 2000, max_attempts=9, delay=0)
        await client.zrem(keys.waiting(BUCKET), PATH)
        await client.lpush(keys.queue(BUCKET), PATH)
        (claim,) = await queue.claim(1)
    assert await queue.ingested([Done(claim, etag, 14_400, "LSSTCam", "20251231", None)]) == [PATH]


@pytest.mark.parametrize("failures", [0, 2])
async def test_an_ingested_file_takes_little(intake: Intake, redis_client: Redis, failures: int) -> None:
    """Even if its record was once long."""
    assert await tell(intake, "1795166820.696242.0123456789abcdef", ETAGS[0]) == "queued"
    await ingest(redis_client, ETAGS[0], failures=failures)
    record = await redis_client.hgetall(FILE)
    assert record.keys() == AT_REST
    assert (record["state"], record["etag"], record["size"]) == ("ingested", ETAGS[0], "14400")
    assert (await redis_client.memory_usage(FILE) or 400) < 400
    for event_id in ("1795166820.696242.0123456789abcdef", "another"):
        assert await tell(intake, event_id, ETAGS[0]) == "duplicate"
    assert await redis_client.hget(FILE, "ingest_time") == record["ingest_time"]


async def test_how_long_the_record_is_kept(intake: Intake, redis_client: Redis) -> None:
    await tell(intake, "1", ETAGS[0])
    assert await redis_client.ttl(FILE) > keys.FILE_EXPIRY - 60
    await ingest(redis_client, ETAGS[0], expiry=7200)
    assert 7100 < await redis_client.ttl(FILE) <= 7200


async def test_redeliveries_of_several_versions_are_known_after_the_ingest(intake: Intake, redis_client: Redis) -> None:
    for number, etag in enumerate(ETAGS):
        assert await tell(intake, str(number), etag) == "queued"
    await ingest(redis_client, ETAGS[1])
    for _ in range(2):
        for number, etag in enumerate(ETAGS):
            assert await tell(intake, str(number), etag) == "duplicate"
    assert await tell(intake, "new", ETAGS[0]) == "queued"


@pytest.mark.parametrize(("told", "served"), [(None, ETAGS[0]), (ETAGS[0], ETAGS[1]), (None, None), (ETAGS[0], None)])
async def test_a_redelivery_that_the_etag_does_not_tell(
    intake: Intake, redis_client: Redis, told: str | None, served: str | None
) -> None:
    assert await tell(intake, "1", told) == "queued"
    await ingest(redis_client, served)
    assert await tell(intake, "1", told) == "duplicate"
    assert await redis_client.llen(keys.queue(BUCKET)) == 0


def events_forgotten() -> float:
    return metrics.REGISTRY.get_sample_value("autoingest_events_forgotten_total", {"bucket": BUCKET}) or 0.0


async def test_events_of_a_file_are_bounded(intake: Intake, redis_client: Redis) -> None:
    """The oldest are forgotten; a redelivery of one of them only has the file looked at again."""
    before = events_forgotten()
    for number in range(3 * MAX_EVENTS):
        await tell(intake, str(number), f"etag-{number}")
    fields = await redis_client.hkeys(FILE)
    assert sum(text(name).startswith("event:") for name in fields) == MAX_EVENTS
    assert events_forgotten() - before == 2 * MAX_EVENTS
    assert await redis_client.llen(keys.queue(BUCKET)) == 1
    for number in range(2 * MAX_EVENTS, 3 * MAX_EVENTS):
        assert await tell(intake, str(number), f"etag-{number}") == "duplicate"
    assert await tell(intake, "0", "etag-0") == "queued"
    assert await redis_client.llen(keys.queue(BUCKET)) == 1


async def test_canaries_are_bounded(intake: Intake, redis_client: Redis) -> None:
    await intake.reject([Rejection(OTHER, f"canary-{n}", "canary", None) for n in range(MAX_CANARIES + 50)])
    await intake.reject([Rejection(OTHER, "the last", "canary", None)])
    assert await redis_client.hlen(keys.canary(OTHER)) == MAX_CANARIES
    assert await redis_client.hexists(keys.canary(OTHER), "the last")
    for key in (keys.canary(OTHER), keys.canary_times(OTHER)):
        assert 0 < await redis_client.ttl(key) <= keys.CANARY_EXPIRY


async def test_dead_letters_are_bounded_and_lose_no_object(intake: Intake, redis_client: Redis) -> None:
    """Beyond the limit they lack the exception's text, and what is not in the store is forgotten."""
    queue = WorkQueue(redis_client, BUCKET, "w", 60, max_dead=2)
    await put(redis_client, *(image(number) for number in range(6)))
    outcomes = [
        await queue.failed(claim, reason, "x" * 100_000, max_attempts=1, delay=0)
        for claim, reason in zip(
            await queue.claim(6), ["missing", "failed", "missing", "failed", "no-exposure", "metadata"], strict=True
        )
    ]
    assert outcomes == ["dead", "dead", "forgotten", "dead", "dead", "dead"]
    letters = {path: json.loads(text) for path, text in (await redis_client.hgetall(keys.dead(BUCKET))).items()}
    assert [len(letters[image(number)]["exception"]) > 0 for number in (0, 1, 3, 4, 5)] == [
        True,
        True,
        False,
        False,
        False,
    ]
    assert all(len(letter["exception"]) < MAX_EXCEPTION + 100 for letter in letters.values())
    assert len(text(await redis_client.hget(keys.file(image(1)), "ing_fail_exc"))) < MAX_EXCEPTION + 100
    assert not await redis_client.hexists(keys.file(image(3)), "ing_fail_exc")
    assert not await redis_client.exists(keys.file(image(2)))
    report = await audit(redis_client)
    assert report.consistent
    assert report.total("dead") == 5
    again = Notice(BUCKET, image(2).partition("/")[2], image(2), "1", "e", 1, None)
    assert await intake.accept([(again, parse(image(2)))]) == ["queued"]


async def test_failures_are_counted_for_known_instruments_and_days_only(redis_client: Redis) -> None:
    annex = "rubinobs-lfa-cp"
    paths = [f"{annex}/{name}/2025/12/31/x.fits" for name in ("GC101", "Junk")] + [f"{annex}/GC101/2025/13/31/x.fits"]
    await redis_client.hset(keys.received_by_instrument(annex, "GC101"), "20251231", 1)
    await put(redis_client, *paths, bucket=annex)
    queue = WorkQueue(redis_client, annex, "w", 60)
    for claim in await queue.claim(9):
        assert await queue.failed(claim, "failed", "x", max_attempts=1, delay=0) == "dead"
    assert await redis_client.keys("FAIL:*") == [keys.failed(annex, "GC101")]
    assert await redis_client.hgetall(keys.failed(annex, "GC101")) == {"20251231": "1"}


async def test_failures_and_ingests_have_the_names_of_the_old_services(redis_client: Redis) -> None:
    path = f"{BUCKET}/ComCam/20251231/CC_O_20251231_000009/x.fits"
    await put(redis_client, path)
    queue = WorkQueue(redis_client, BUCKET, "w", 60)
    (claim,) = await queue.claim(1)
    await queue.failed(claim, "failed", "x", max_attempts=1, delay=0)
    assert await redis_client.hgetall(keys.failed(BUCKET, "ComCam")) == {"20251231": "1"}
    assert counted_as(parse(path)) == ("ComCam", "20251231")
    assert counted_as(parse(path.replace("ComCam", "LSSTComCam"))) == ("LSSTComCam", "20251231")
    assert counted_as(parse(path.replace("ComCam", "TS8").replace("CC_", "TS_"))) == ("TS8", "20251231")
