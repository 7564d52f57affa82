"""Objects that are replaced while they are in hand, keys of the wrong type, and guiders whose exposures never come."""

from __future__ import annotations

import asyncio
import hashlib
import time
from datetime import UTC, datetime

import pytest
import redis.asyncio

from autoingest.dev.simulator import Exposure, SentFile, sensors
from autoingest.queue import keys
from testing.chaos import Chaos, assert_equal
from testing.guiders import let_wait
from testing.repository import contents
from testing.shots import BUCKET, DAY_OBS, Shot, put
from testing.waiting import wait_for

ALL = "enqueue,ingest,idle"


@pytest.mark.short
def test_replaced_while_in_hand(chaos: Chaos) -> None:
    """By versions of the same size and of others, told in any order, with a store that takes its time."""
    chaos.start(ALL, "ingest")
    chaos.camera.cadence = 0.5
    chaos.store.delay = 0.2
    science = [shot for shot in chaos.shots if shot.sensor.purpose != "GUIDER"]
    chaos.camera.start()
    told: list[SentFile] = []
    for count in range(40):
        chaos.let_pass(chaos.chance.uniform(0.0, 0.1))
        written = {file.path for file in list(chaos.camera.sent)}
        shot = chaos.chance.choice([shot for shot in science if shot.path in written] or science[:1])
        if shot.path not in written:
            continue
        told.append(replace(chaos, shot, count))
        chaos.camera.sent.append(told[-1])
        chaos.fault("object replaced")
        if chaos.chance.random() < 0.7:
            late = told.pop(chaos.chance.randrange(len(told)))
            chaos.post(late, late)
    chaos.chance.shuffle(told)
    chaos.post(*told, *told)
    chaos.store.delay = 0.0
    chaos.finish(doubled=True)
    with chaos.client as client:
        for shot in chaos.shots:
            record = client.hgetall(keys.file(shot.path))
            stored = chaos.store.buckets[BUCKET][shot.key]
            assert (record["state"], record["etag"]) == ("ingested", stored.etag), shot.path
    report = chaos.autoingest("audit", "--store")
    assert (report["findings"], report["warnings"]) == ([], [])
    # An event of a version that is gone may have it looked at once more, as only one event is kept of most files.
    chaos.post(*chaos.camera.sent)
    chaos.settle()
    before = chaos.received()
    for _ in range(3):
        chaos.chance.shuffle(chaos.camera.sent)
        chaos.post(*chaos.camera.sent)
    assert chaos.received() == before, "what has settled stays, whatever is told again"
    report = chaos.autoingest("audit", "--store")
    assert (report["findings"], report["warnings"]) == ([], [])


def replace(chaos: Chaos, shot: Shot, count: int) -> SentFile:
    """Write another version of an image, of the same size or of another."""
    more = bytes(2880 * (count % 3)) if count % 2 else b""
    sent = put(chaos.store, shot, more=more)
    stored = chaos.store.buckets[BUCKET][shot.key]
    body = stored.body[:-4] + count.to_bytes(4, "big")
    etag = hashlib.md5(body, usedforsecurity=False).hexdigest()
    chaos.store.buckets[BUCKET][shot.key] = type(stored)(body, etag, stored.modified)
    return SentFile(sent.path, sent.size, etag, time.time())


@pytest.mark.short
def test_keys_of_the_wrong_type(chaos: Chaos) -> None:
    """They harm nothing, whoever meets them, while exposures come."""
    chaos.start(ALL, "ingest")
    exposures = sorted({shot.exposure.obs_id for shot in chaos.shots})
    spoilt = [keys.file(shot.path) for shot in chaos.chance.sample(list(chaos.shots), len(chaos.shots) // 5)]
    spoilt += [keys.waiting_for(BUCKET, obs_id) for obs_id in exposures]
    hashes = [keys.exposure_known(BUCKET, obs_id) for obs_id in exposures]
    hashes += [keys.max_seq(BUCKET, "LSSTCam", str(DAY_OBS)), keys.dead(BUCKET), keys.owed(BUCKET)]
    spoilt.append(keys.received_by_instrument(BUCKET, "LSSTCam"))
    with chaos.client as client:
        for key in spoilt:
            client.set(key, "x")
        for key in hashes[:-2]:
            client.hset(key, "x", "y")
        for key in hashes[-2:]:
            client.set(key, "x")
        chaos.fault("key of the wrong type", len(spoilt) + len(hashes))
        chaos.camera.start()
        for _ in chaos.moments(3):
            for key in (keys.worker(BUCKET, "spoilt"), keys.lease(BUCKET, "spoilt"), keys.failed(BUCKET, "LSSTCam")):
                client.delete(key)
                client.hset(key, "x", "y") if "FAIL" not in key else client.set(key, "x")
                chaos.fault("key of the wrong type")
        chaos.camera.join()
        wait_for(chaos.is_settled, "all at rest")
        for key in (keys.worker(BUCKET, "spoilt"), keys.lease(BUCKET, "spoilt"), keys.dead(BUCKET)):
            if client.type(key) in ("string", "hash"):
                client.delete(key)
    report = chaos.finish()
    assert [warning for warning in report.warnings if "set aside" in warning]


@pytest.mark.short
def test_ten_thousand_lone_guiders(chaos: Chaos) -> None:
    """They wait for exposures that never come, and those that come do not wait for them."""
    number = 10_000 if chaos.repeat > 1 else 2_000
    kinds = [sensor for sensor in sensors() if sensor.purpose == "GUIDER"]
    lone = []
    for count in range(number):
        exposure = Exposure(DAY_OBS, 5_000 + count // len(kinds), datetime(2030, 1, 2, 9, tzinfo=UTC))
        shot = Shot(exposure, kinds[count % len(kinds)])
        lone.append(put(chaos.store, shot))
    chaos.start(ALL, "ingest")
    asyncio.run(_wait(chaos, lone))
    chaos.fault("guider without exposure", number)
    chaos.camera.start()
    chaos.camera.join()
    wait_for(lambda: chaos.ingested() == len(chaos.shots), f"all good ones in: {chaos.site.logs()[-2000:]}")
    for member in chaos.members:
        assert chaos.site.stop(chaos.site.processes[member.index]) == 0
    report = asyncio.run(chaos.audit())
    assert report.consistent, report.findings
    counts = report.counts[BUCKET]
    assert (counts["ingested"], counts["queued"] + counts["waiting"]) == (len(chaos.shots), number)
    assert counts["queued"] + counts["working"] < 500, "they are looked at a few at a time"
    found = contents(chaos.site.repo)
    assert {url.removeprefix("s3://") for url in found.raws | found.guiders} == {shot.path for shot in chaos.shots}
    assert_equal(chaos.site.repo, chaos.reference([shot.path for shot in chaos.shots]))
    chaos.outcome.sent = len(chaos.camera.sent)
    chaos.outcome.passed = True


async def _wait(chaos: Chaos, guiders: list[SentFile]) -> None:
    async with redis.asyncio.Redis.from_url(chaos.redis.url, decode_responses=True) as client:
        await let_wait(client, BUCKET, guiders)
