"""Beside the services that are replaced: three mixtures of old and new ones, as they come about during a move."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from autoingest.queue import keys
from testing.chaos import Chaos
from testing.old_services import OldServices
from testing.shots import BUCKET, DAY_OBS
from testing.waiting import wait_for


@pytest.fixture
def old(chaos: Chaos) -> Iterator[OldServices]:
    services = OldServices(chaos.redis.url, BUCKET, chaos.site.repo, {shot.path: shot for shot in chaos.shots})
    yield services
    services.close()


def heal(chaos: Chaos) -> None:
    """Bring in what an old ingest has given up, such as guiders that came before their exposures."""
    chaos.settle()
    chaos.autoingest("reconcile", "--day", str(DAY_OBS), "--grace", "0s", "--heal", codes=(0, 1))


def assert_present(chaos: Chaos, old: OldServices) -> None:
    """Check that the old presence service knows each image, whoever ingested it."""
    for shot in chaos.shots:
        header = shot.exposure.header(shot.sensor)
        if group := header.get("GROUPID"):
            raft_sensor = f"{header['RAFTBAY']}_{header['CCDSLOT']}"
            url = old.presence("LSSTCam", str(group), int(str(header["CURINDEX"])) - 1, raft_sensor)
            assert url == f"s3://{shot.path}"


@pytest.mark.short
def test_old_enqueue_and_new_ingest(chaos: Chaos, old: OldServices) -> None:
    """Paths come without a state, and some come again when they are queued, in work or ingested."""
    chaos.start("ingest,idle", "ingest")
    chaos.camera.urls = [old.start_enqueue()]
    chaos.camera.duplicates = 1
    chaos.fault("notification repeated", len(chaos.shots))
    chaos.camera.start()
    chaos.settle()
    assert chaos.received() == 2 * len(chaos.shots)
    assert_present(chaos, old)
    chaos.finish(doubled=True)


@pytest.mark.short
def test_new_enqueue_and_old_ingest(chaos: Chaos, old: OldServices) -> None:
    """Files are taken without a word: those ingested are known as such, and what was given up can be healed."""
    (enqueue,) = chaos.start("enqueue,idle")
    for name in ("old-1", "old-2"):
        old.start_ingest(name)
    chaos.camera.duplicates = 1
    chaos.fault("notification repeated", len(chaos.shots))
    chaos.camera.start()
    chaos.settle()
    assert chaos.received() == len(chaos.shots), "redeliveries are known"
    bad = f"{BUCKET}/LSSTCam/{DAY_OBS}/MC_O_{DAY_OBS}_000001/bad.fits"
    with chaos.client as client:
        old.enqueue(bad)
        wait_for(lambda: client.hget(keys.file(bad), "md_fail_exc"), "a file without header is given up")
    heal(chaos)
    assert_present(chaos, old)
    chaos.finish(others={"given up": 1})
    assert "Traceback" not in chaos.log(enqueue)


@pytest.mark.short
def test_both_ingests_and_the_old_idle(chaos: Chaos, old: OldServices) -> None:
    """The old idle judges all workers, and gives a batch of an old one that hangs to a new one."""
    chaos.start("enqueue,ingest", "ingest")
    old.hung.set()
    old.start_ingest("old-1")
    old.start_idle()
    chaos.camera.start()
    wait_for(old.holding.is_set, "an old worker holds a batch")
    chaos.fault("old worker hung")
    with chaos.client as client:
        wait_for(lambda: not client.exists(keys.worker(BUCKET, "old-1")), "the old idle has moved its batch")
    old.hung.clear()
    heal(chaos)
    assert_present(chaos, old)
    chaos.finish(doubled=True)
