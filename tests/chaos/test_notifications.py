"""Notifications that come several times, in any order, late, or never."""

from __future__ import annotations

from ..support.chaos import Chaos
from ..support.shots import DAY_OBS

ALL = "enqueue,ingest,idle"


def test_duplicated_and_reordered(chaos: Chaos) -> None:
    """Each comes three times, in no order, guiders before their exposures among them."""
    chaos.start(ALL, "enqueue", "ingest")
    chaos.camera.cadence = 0
    chaos.camera.shuffled = True
    chaos.camera.duplicates = 2
    chaos.fault("notification repeated", 2 * len(chaos.shots))
    chaos.camera.start()
    chaos.finish()


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
