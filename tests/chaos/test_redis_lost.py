"""Redis is lost with all that it held: store and Butler are enough to bring everything in (docs/operations.md)."""

from __future__ import annotations

import math
import shutil
from typing import Any

import pytest
from lsst.daf.butler import Butler

from autoingest.butler.records import rows
from autoingest.instruments import exposure_record
from autoingest.queue import keys
from testing.chaos import Chaos, assert_equal
from testing.repository import contents
from testing.shots import BUCKET, DAY_OBS
from testing.waiting import wait_for


@pytest.mark.short
def test_redis_lost(chaos: Chaos) -> None:
    """Files are queued, in work and waiting, and a visit is owed, when it happens."""
    exposures = list(dict.fromkeys(shot.exposure for shot in chaos.shots))
    first, second = exposures[:2]
    science = [shot for shot in chaos.shots if shot.sensor.purpose != "GUIDER"]
    shot = next(shot for shot in science if shot.exposure == first)
    wanted = rows(exposure_record(shot.exposure.header(shot.sensor), f"s3://{shot.path}"))
    write(chaos, wanted, {"sky_angle": math.inf})

    member, ingest = chaos.start("enqueue,idle", "ingest")
    chaos.camera.lost = {shot.path for shot in science if shot.exposure == second}
    chaos.camera.cadence = 2.0
    chaos.camera.start()
    with chaos.client as client:
        wait_for(lambda: client.hlen(keys.owed(BUCKET)), "a visit is owed")
        wait_for(lambda: client.zcard(keys.waiting(BUCKET)) >= 2, "guiders wait")
        with chaos.stopped(chaos.process(ingest), "ingest stopped"):
            wait_for(lambda: client.llen(keys.queue(BUCKET)), "files are queued")
            lose(chaos)
    chaos.camera.join()
    with Butler.from_config(chaos.site.repo, writeable=True) as butler:
        butler.registry.syncDimensionData("exposure", wanted["exposure"], update=True)

    chaos.settle()
    report = chaos.autoingest("reconcile", "--day", str(DAY_OBS), "--grace", "0s", "--heal", codes=(0, 1))
    assert report["healed"] > len(chaos.camera.lost)
    wait_for(lambda: chaos.is_settled() and not chaos.client.hlen(keys.owed(BUCKET)), "all healed", 90)
    report = chaos.autoingest("reconcile", "--day", str(DAY_OBS), "--grace", "0s", "--all", codes=(0, 1))
    assert {one["verdict"] for one in report["exposures"]} <= {"complete", "incomplete"}, "not all detectors are sent"
    assert chaos.autoingest("audit")["consistent"]
    assert chaos.autoingest("queue site") == {BUCKET: chaos.site.repo}

    found = contents(chaos.site.repo)
    assert {url.removeprefix("s3://") for url in found.raws | found.guiders} == {shot.path for shot in chaos.shots}
    assert found.visits.keys() == found.exposures
    assert_equal(chaos.site.repo, chaos.reference())
    assert "Traceback" not in chaos.log(member) + chaos.log(ingest)
    chaos.outcome.sent = len(chaos.camera.sent)
    chaos.outcome.passed = True


def write(chaos: Chaos, wanted: dict[str, Any], wrong: dict[str, object]) -> None:
    """Write an exposure with a wrong value, as another service might, so that its visit can't be defined."""
    with Butler.from_config(chaos.site.repo, writeable=True) as butler:
        for element, row in wanted.items():
            changed = wrong if "sky_angle" in row else {}
            butler.registry.insertDimensionData(element, row | changed)


def lose(chaos: Chaos) -> None:
    """Kill Redis, and start it anew with nothing."""
    chaos.redis.kill()
    shutil.rmtree(chaos.folder / "valkey")
    chaos.redis.start()
    chaos.fault("Redis lost")
