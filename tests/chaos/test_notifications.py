"""Notifications that come several times, in any order, late, or never."""

from __future__ import annotations

from dataclasses import replace

from autoingest.queue import keys
from testing.chaos import Chaos
from testing.shots import BUCKET, DAY_OBS, put
from testing.waiting import wait_for

ALL = "enqueue,ingest,idle"

DELAY = 600.0
"""Seconds from an event to its notification, where it is late."""

DAY = 86400
"""Seconds; what Redis keeps no longer than this is forgotten before late notifications come."""


def test_duplicated_and_reordered(chaos: Chaos) -> None:
    """Each comes three times, in no order, guiders before their exposures among them."""
    chaos.start(ALL, "enqueue", "ingest")
    chaos.camera.cadence = 0
    chaos.camera.shuffled = True
    chaos.camera.duplicates = 2
    chaos.fault("notification repeated", 2 * len(chaos.shots))
    chaos.camera.start()
    chaos.finish()


def test_delayed_by_minutes(chaos: Chaos) -> None:
    """They come after those of all later exposures; guiders have waited for theirs, and some objects are replaced."""
    chaos.start(ALL, "ingest")
    first = chaos.shots[0].exposure
    science = [shot for shot in chaos.shots if shot.sensor.purpose != "GUIDER"]
    delayed = [shot for shot in science if shot.exposure == first]
    others = [shot for shot in science if shot.exposure != first]
    delayed += chaos.chance.sample(others, len(others) // 5)
    early = [shot for shot in chaos.shots if shot not in delayed and shot.exposure != first]
    chaos.camera.lost = {shot.path for shot in delayed}
    chaos.fault("notification delayed", len(delayed))
    chaos.camera.start()
    chaos.camera.join()
    late = [
        replace(file, put_time=file.put_time - DELAY) for file in chaos.camera.sent if file.path in chaos.camera.lost
    ]
    overtaking = [put(chaos.store, shot, more=bytes(2880)) for shot in delayed[-5:]]
    chaos.camera.sent += overtaking
    chaos.fault("object replaced", len(overtaking))
    chaos.post(*overtaking)
    wait_for(lambda: chaos.ingested() == len(early) + len(overtaking), "all but what is late is in")
    forget(chaos)
    chaos.chance.shuffle(late)
    chaos.post(*late)
    # A late event of a version that is gone has the file looked at once more.
    chaos.finish(more=len(overtaking))


def forget(chaos: Chaos) -> None:
    """Let everything that Redis keeps for a limited time run out, but for leases and the files' own records."""
    with chaos.client as client:
        kept = (keys.lease(BUCKET, ""), keys.file(""))
        limited = [key for key in client.scan_iter() if 0 <= client.ttl(key) <= DAY and not key.startswith(kept)]
        assert any(key.startswith(keys.exposure_known(BUCKET, "")) for key in limited)
        client.delete(*limited)


def test_a_tenth_lost(chaos: Chaos) -> None:
    chaos.start(ALL)
    lost = chaos.chance.sample(chaos.shots, len(chaos.shots) // 10)
    chaos.camera.lost = {shot.path for shot in lost}
    chaos.fault("notification lost", len(lost))
    chaos.camera.start()
    chaos.settle()
    assert chaos.received() == len(chaos.shots) - len(lost)
    report = chaos.autoingest("reconcile", "--day", str(DAY_OBS), "--grace", "0s", "--heal")
    assert report["healed"] == len(lost)
    chaos.finish()
