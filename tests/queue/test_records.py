"""What is kept of a file: little once it is ingested, and never more because of what a sender writes."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from autoingest.notify.records import Notice
from autoingest.objects import parse
from autoingest.queue import keys
from autoingest.queue.intake import Intake
from autoingest.queue.work import Done, WorkQueue
from tests.support.redis import BUCKET

KEY = "LSSTCam/20251231/MC_O_20251231_000010/MC_O_20251231_000010_R22_S11.fits"
PATH = f"{BUCKET}/{KEY}"
FILE = keys.file(PATH)
ETAGS = ["0123456789abcdef0123456789abcdef", "fedcba9876543210fedcba9876543210", "00112233445566778899aabbccddeeff"]
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
    assert await redis_client.memory_usage(FILE) < 400
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
