"""What is told of exposures, and when: exactly once, whoever takes which step in which order."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from autoingest.model.events import Event
from autoingest.model.exposures import ExposureSummary, Span, VisitState
from autoingest.model.notices import Notice
from autoingest.model.objects import parse
from autoingest.queue import keys
from autoingest.queue.intake import Intake
from autoingest.queue.pending_visits import PendingVisits
from autoingest.queue.progress import (
    EventSettings,
    ExposureFolder,
    Progress,
    Purpose,
    newest_exposures,
    obs_ids_of_day,
    read_exposure,
)
from autoingest.queue.scripts import MAX_PROGRESS
from autoingest.queue.work import Claimed, Done, WorkQueue
from testing.redis import BUCKET, audit, put

OBS_ID = "MC_O_20250415_000001"
FOLDER = f"{BUCKET}/LSSTCam/20250415/{OBS_ID}/"
ID = "LSSTCam:2025041500001"
KEY = keys.progress(BUCKET, OBS_ID)
SETTINGS = EventSettings(BUCKET, 1000, 1000)
DETECTORS: dict[str, Purpose] = {
    "R22_S10": "science", "R22_S11": "science", "R00_SW0": "wavefront", "R00_SG0": "guider",
}  # fmt: skip


def path(detector: str) -> str:
    return f"{FOLDER}{OBS_ID}_{detector}{'_guider' if '_SG' in detector else ''}.fits"


def exposure() -> ExposureFolder:
    found = ExposureFolder.of(FOLDER)
    assert found is not None
    return found


def summary(visit: VisitState = "defined") -> ExposureSummary:
    return ExposureSummary(
        "LSSTCam", OBS_ID, 2025041500001, 20250415, 1, "2025-04-15T00:00:00.000", 0, "science", None, None, "M'é\"1",
        "i_39", True, Span("2025-04-15T01:00:00.000", "2025-04-15T01:00:30.000"), (2025041500001,), "embargo",
        ("LSSTCam/raw/all", "LSSTCam/raw/guider"), visit,
    )  # fmt: skip


def worker(client: Redis, name: str = "a") -> WorkQueue:
    return WorkQueue(client, BUCKET, name, 60, events=SETTINGS)


def progress(client: Redis, interval: float = 1.0, young: float = 60.0) -> Progress:
    return Progress(client, SETTINGS, interval, young)


def done(claim: Claimed, etag: str = "e1", *, replaces: bool = False) -> Done:
    obj = parse(claim.path)
    name = claim.path.partition(f"{OBS_ID}_")[2].removesuffix(".fits").removesuffix("_guider")
    return Done(claim, etag, 17, *obj.counted_as, None if "_SG" in name else OBS_ID, "LSSTCam", name, replaces=replaces)


async def owed_visit_is_defined(client: Redis) -> None:
    await PendingVisits(client, BUCKET, 1, SETTINGS).settle([("LSSTCam", 2025041500001)], [summary()])


async def ingest(client: Redis, *detectors: str, visit: VisitState = "defined", etag: str = "e1") -> None:
    """Announce, claim and acknowledge detectors."""
    await put(client, *map(path, detectors), created=1000.5)
    queue = worker(client)
    claims = await queue.claim(1000)
    await queue.ingested([done(claim, etag) for claim in claims], {}, {OBS_ID: summary(visit)})


async def told(client: Redis, stream: str = keys.EVENTS) -> list[Event]:
    entries: Any = await client.xrange(stream)
    return [Event.of_entry(position, fields) for position, fields in entries]


def short(events: Sequence[Event]) -> list[str]:
    return [event.id.removeprefix(f"{ID}:") for event in events]


async def test_an_exposure_is_told_step_by_step(redis_client: Redis) -> None:
    await ingest(redis_client, "R22_S11")
    assert short(await told(redis_client)) == ["known:1", "visit:1"]
    assert await progress(redis_client).expect(exposure(), "file", DETECTORS)
    assert len(await told(redis_client)) == 2
    await ingest(redis_client, "R00_SW0", "R22_S10")
    assert short(await told(redis_client)) == ["known:1", "visit:1", "wavefront:1"]
    await ingest(redis_client, "R00_SG0")

    *_, last = events = await told(redis_client)

    assert [event.type for event in events] == [
        "exposure.known", "visit.defined", "exposure.wavefront", "exposure.complete",
    ]  # fmt: skip
    assert (last.id, last.subject, last.instrument) == (f"{ID}:complete:1", f"LSSTCam/{OBS_ID}", "LSSTCam")
    data = dict(last.data)
    assert data.pop("times")["first_put"] == "1970-01-01T00:16:40.500Z"
    assert data == {
        **json.loads(summary().json),
        "expected": {"science": 2, "wavefront": 1, "guider": 1},
        "ingested": {"science": 2, "wavefront": 1, "guider": 1},
        "missing": [], "failed": [], "folder": f"s3://{FOLDER}", "revision": 1,
    }  # fmt: skip
    assert events[0].data["expected"] is None
    assert "missing" not in events[0].data
    assert events[2].data["missing"] == ["R00_SG0"]
    assert (await read_exposure(redis_client, BUCKET, OBS_ID)) == {**last.data, "state": "complete", "visit": "defined"}
    assert await obs_ids_of_day(redis_client, BUCKET, "20250415") == [OBS_ID]
    assert await read_exposure(redis_client, BUCKET, "MC_O_20250415_000002") is None
    assert 0 < await redis_client.ttl(KEY) <= keys.PROGRESS_EXPIRY
    assert (await audit(redis_client)).consistent


@pytest.mark.parametrize("last", ["file", "visit", "list"])
async def test_the_last_condition_tells_that_it_is_complete(redis_client: Redis, last: str) -> None:
    await ingest(redis_client, *list(DETECTORS)[1:], visit="owed")
    steps: dict[str, Callable[[], Awaitable[object]]] = {
        "file": partial(ingest, redis_client, "R22_S10", visit="owed"),
        "visit": partial(owed_visit_is_defined, redis_client),
        "list": partial(progress(redis_client).expect, exposure(), "file", DETECTORS),
    }
    for name in [name for name in steps if name != last]:
        await steps[name]()
        assert "complete:1" not in short(await told(redis_client))
    await steps[last]()
    assert short(await told(redis_client)).count("complete:1") == 1
    assert (await told(redis_client))[-1].id == f"{ID}:complete:1"


async def test_a_visit_that_is_owed_is_waited_for_and_an_exposure_without_one_is_not(redis_client: Redis) -> None:
    await progress(redis_client).expect(exposure(), "file", {"R22_S11": "science"})
    await ingest(redis_client, "R22_S11", visit="owed")
    assert short(await told(redis_client)) == ["known:1"]
    await ingest(redis_client, "R22_S11", visit="none")
    assert short(await told(redis_client)) == ["known:1", "complete:1"]


@pytest.mark.parametrize("seed", range(10))
async def test_many_workers_tell_everything_once(redis_client: Redis, seed: int) -> None:
    rng = random.Random(seed)
    detectors: dict[str, Purpose] = {"R00_SW0": "wavefront", "R00_SW1": "wavefront"}
    for raft in range(10, 20):
        detectors |= {f"R{raft:02d}_S0{sensor}": "science" for sensor in range(3)}
    await put(redis_client, *rng.sample([path(name) for name in detectors], len(detectors)))

    async def work(name: str) -> None:
        queue = worker(redis_client, name)
        while claims := await queue.claim(rng.randint(1, 7)):
            await asyncio.sleep(rng.random() / 100)
            files = [done(claim) for claim in claims]
            visit: VisitState = rng.choice(["owed", "defined"])
            await queue.ingested(files, {}, {OBS_ID: summary(visit)})
            if rng.random() < 0.5:  # the answer was lost
                await queue.ingested(files, {}, {OBS_ID: summary(visit)})

    async def expect() -> None:
        await asyncio.sleep(rng.random() / 30)
        await progress(redis_client).expect(exposure(), "file", detectors)

    await asyncio.gather(*(work(f"w{number}") for number in range(5)), expect(), expect())
    await PendingVisits(redis_client, BUCKET, 1, SETTINGS).settle([], [summary()])
    assert sorted(short(await told(redis_client))) == ["complete:1", "known:1", "visit:1", "wavefront:1"]
    files = await told(redis_client, keys.FILE_EVENTS)
    assert sorted(event.data["detector"] for event in files) == sorted(detectors)
    assert len({event.id for event in files}) == len(detectors)


async def test_a_replaced_or_late_file_makes_a_revision_and_a_repeated_one_does_not(redis_client: Redis) -> None:
    await progress(redis_client).expect(exposure(), "file", {"R22_S11": "science"})
    await ingest(redis_client, "R22_S11")
    await ingest(redis_client, "R22_S11")  # a redelivery
    assert short(await told(redis_client))[-1] == "complete:1"
    await put(redis_client, path("R22_S11"), butler_etag="e1", etag="e2")
    queue = worker(redis_client)
    (claim,) = await queue.claim(1)
    await queue.ingested([done(claim, "e2", replaces=True)], {}, {OBS_ID: summary()})
    assert short(await told(redis_client))[-1] == "complete:2"
    await ingest(redis_client, "R22_S10")
    last = (await told(redis_client))[-1]
    assert (last.id, last.data["ingested"]["science"]) == (f"{ID}:complete:3", 2)


async def test_the_camera_stands_in_for_a_list_until_there_is_one(redis_client: Redis) -> None:
    steps, camera = progress(redis_client), {**DETECTORS}
    await ingest(redis_client, "R22_S11")
    assert not await steps.expect(exposure(), "camera", camera, if_all_in=True)
    assert await steps.expect(exposure(), "camera", camera)
    assert not await steps.expect(exposure(), "camera", camera)
    assert await steps.expect(exposure(), "file", {"R22_S11": "science"})
    assert not await steps.expect(exposure(), "file", camera)
    assert not await steps.expect(exposure(), "camera", camera)
    assert short(await told(redis_client)) == ["known:1", "visit:1", "complete:1"]


async def test_all_detectors_of_the_camera_need_no_list(redis_client: Redis) -> None:
    await ingest(redis_client, *DETECTORS)
    assert await progress(redis_client).expect(exposure(), "camera", DETECTORS, if_all_in=True)
    assert short(await told(redis_client))[-1] == "complete:1"


async def test_what_others_ingest_counts(redis_client: Redis) -> None:
    steps = progress(redis_client)
    await steps.expect(exposure(), "file", DETECTORS)
    await steps.observe(exposure(), 2025041500001, summary().json, "defined", ["R22_S10", "R22_S11", "R00_SW0"])
    assert short(await told(redis_client)) == ["known:1", "visit:1", "wavefront:1"]
    await ingest(redis_client, "R22_S11", "R00_SG0")
    assert short(await told(redis_client))[3:] == ["complete:1"]
    await steps.observe(exposure(), 2025041500001, summary().json, "defined", list(DETECTORS))
    assert len(await told(redis_client)) == 4


async def test_an_incomplete_exposure_is_told_once_and_may_become_complete(redis_client: Redis) -> None:
    steps = progress(redis_client)
    await steps.expect(exposure(), "file", DETECTORS)
    await ingest(redis_client, *list(DETECTORS)[:3])
    assert await steps.miss_deadline(exposure(), {"R00_SG0": "waiting"})
    assert not await steps.miss_deadline(exposure(), {})
    event = (await told(redis_client))[-1]
    assert (event.type, event.data["missing"]) == ("exposure.incomplete", ["R00_SG0"])
    assert event.data["last_seen"] == {"R00_SG0": "waiting"}
    await ingest(redis_client, "R00_SG0")
    assert short(await told(redis_client))[-2:] == ["incomplete:1", "complete:1"]
    assert not await steps.miss_deadline(exposure(), {})


async def test_an_exposure_of_which_nothing_was_ingested_is_incomplete(redis_client: Redis) -> None:
    notice = Notice(BUCKET, path("R22_S11").removeprefix(f"{BUCKET}/"), path("R22_S11"), "1", "e1", 1, 1.0)
    await Intake(redis_client).accept([(notice, parse(notice.path))])
    assert await progress(redis_client).miss_deadline(exposure(), {})
    (event,) = await told(redis_client)
    assert event.id == f"LSSTCam:{OBS_ID}:incomplete:1"
    assert event.data["day_obs"] == 20250415
    assert event.data["missing"] is None


async def test_a_dead_letter_is_told_and_listed_until_the_file_is_ingested(redis_client: Redis) -> None:
    await put(redis_client, path("R22_S11"), etag="e1")
    queue = worker(redis_client)
    (claim,) = await queue.claim(1)
    await queue.failed(claim, "metadata", "MetadataError: " + "é" * 300, max_attempts=1, delay=1, detector="R22_S11")
    (event,) = await told(redis_client, keys.FILE_EVENTS)
    assert event.type == "file.failed"
    assert len(event.data.pop("description")) == 256
    assert event.data == {
        "camera": "LSSTCam", "obsid": OBS_ID, "raft": "R22", "sensor": "S11", "statusCode": 2, "detector": "R22_S11",
        "url": f"s3://{path('R22_S11')}",
    }  # fmt: skip
    known = await read_exposure(redis_client, BUCKET, OBS_ID)
    assert known is not None
    assert known["failed"] == [{"detector": "R22_S11", "reason": "metadata"}]
    await ingest(redis_client, "R22_S11")
    known = await read_exposure(redis_client, BUCKET, OBS_ID)
    assert known is not None
    assert known["failed"] == []


async def test_exposures_are_looked_at_until_they_are_complete(redis_client: Redis) -> None:
    notices = [
        (Notice(BUCKET, name.removeprefix(f"{BUCKET}/"), name, "1", "e1", 1, 1.0), parse(name))
        for name in map(path, DETECTORS)
    ]
    await Intake(redis_client).accept(notices)
    await redis_client.delete(keys.queue(BUCKET))
    steps = progress(redis_client, interval=0.001)
    (due,) = await steps.claim()
    assert (due.exposure, due.ingested, due.expected_from, due.missing) == (exposure(), 0, "", ())
    await steps.expect(exposure(), "file", DETECTORS)
    await ingest(redis_client, "R22_S11")
    await redis_client.zadd(keys.progress_due(BUCKET), {FOLDER: 1})
    assert len(await progress(redis_client, interval=100).claim()) == 1
    assert await progress(redis_client, interval=100).claim() == []  # not due
    await redis_client.zadd(keys.progress_due(BUCKET), {FOLDER: 1})
    (due,) = await steps.claim()
    assert (due.ingested, due.missing, due.told_incomplete) == (1, ("R00_SG0", "R00_SW0", "R22_S10"), False)
    await ingest(redis_client, *DETECTORS)
    await redis_client.zadd(keys.progress_due(BUCKET), {FOLDER: 1})
    assert await steps.claim() == []
    assert await steps.number() == 0


async def test_what_redis_keeps_is_bounded(redis_client: Redis) -> None:
    await redis_client.zadd(keys.progress_due(BUCKET), {f"x{number}": number for number in range(MAX_PROGRESS)})
    await ingest(redis_client, "R22_S11")
    assert await progress(redis_client).number() == MAX_PROGRESS
    queue = WorkQueue(redis_client, BUCKET, "b", 60, events=EventSettings(BUCKET, 100, 0))
    for number in range(300):
        await put(redis_client, path("R22_S11"))
        (claim,) = await queue.claim(1)
        await queue.ingested([done(claim, f"e{number}", replaces=True)], {}, {OBS_ID: summary()})
    assert await redis_client.xlen(keys.FILE_EVENTS) == 1
    await progress(redis_client).expect(exposure(), "file", {"R22_S11": "science"})
    for number in range(300):
        await put(redis_client, path("R22_S11"))
        (claim,) = await queue.claim(1)
        await queue.ingested([done(claim, f"e{number}", replaces=True)], {}, {OBS_ID: summary()})
    assert await redis_client.xlen(keys.EVENTS) <= 200  # trimmed by whole nodes of the stream


async def test_the_newest_exposures_are_those_of_two_days(redis_client: Redis) -> None:
    await ingest(redis_client, "R22_S11")

    async def newest(day: int, number: int = 5) -> list[str]:
        now = datetime(2025, 4, day, 11, 59, tzinfo=UTC)
        return [one["obs_id"] for one in await newest_exposures(redis_client, ["lfa", BUCKET], number, now)]

    assert [await newest(day) for day in (15, 16, 17, 18)] == [[], [OBS_ID], [OBS_ID], []]


async def test_a_user_without_the_right_to_tell_changes_nothing(redis_client: Redis) -> None:
    await put(redis_client, path("R22_S11"))
    queue = worker(redis_client)
    (claim,) = await queue.claim(1)
    rules = ["on", "nopass", "+@all", "allchannels"]
    allowed = [f"~{name}" for name in ("FILE:*", "WORKER:*", "QUEUE:*", "WAITING*", "OWED:*", "INGEST:*", "EXPOSURE:*")]
    await redis_client.execute_command("ACL", "SETUSER", "weak", *rules, *allowed)
    weak = Redis.from_url(
        "redis://weak:x@127.0.0.1:" + str(redis_client.connection_pool.connection_kwargs["port"]), decode_responses=True
    )
    try:
        with pytest.raises(ResponseError, match="may not run"):
            await worker(weak).ingested([done(claim)], {}, {OBS_ID: summary()})
    finally:
        await weak.aclose()
    assert await redis_client.hget(keys.file(path("R22_S11")), "state") == "working"
    assert await told(redis_client) == []


async def test_keys_of_another_type_are_set_aside(redis_client: Redis) -> None:
    for key in (KEY, keys.progress_due(BUCKET), keys.progress_of_day(BUCKET, "20250415"), keys.EVENTS):
        await redis_client.set(key, "x")
    await ingest(redis_client, "R22_S11")
    assert short(await told(redis_client)) == ["known:1", "visit:1"]
