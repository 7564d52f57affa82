"""A store that fails, and objects that come late, go, or change while exposures come in."""

from __future__ import annotations

import random

import pytest

from autoingest.sim import SentFile
from benchmarks.s3server import Fault

from ..support.chaos import Chaos
from ..support.shots import BUCKET, Shot, put, put_sidecar
from ..support.site import wait_for

ALL = "enqueue,ingest,idle"


@pytest.mark.short
def test_store_fails(chaos: Chaos) -> None:
    """Of its answers a third are 500, 503, late or cut, until the camera is done."""
    chance = random.Random(chaos.outcome.seed)

    def fault(method: str, bucket: str, key: str) -> Fault | None:
        if chance.random() < 0.7:
            return None
        name, chosen = chance.choice(
            [
                ("500", Fault(status=500)),
                ("503", Fault(status=503)),
                ("late answer", Fault(delay=1.0)),
                ("cut body", Fault(cut=500)),
            ]
        )
        chaos.fault(name)
        return chosen

    chaos.store.fault = fault
    chaos.camera.sidecars = bool(chaos.outcome.seed % 2)
    chaos.start(ALL)
    chaos.camera.start()
    chaos.camera.join()
    for _ in chaos.moments(2):
        pass
    chaos.store.fault = lambda method, bucket, key: None
    chaos.finish()


def test_store_away(chaos: Chaos) -> None:
    """Every answer is an error for a while; no attempt is used up by it."""
    worker = chaos.start(ALL)[0]

    def fault(method: str, bucket: str, key: str) -> Fault | None:
        chaos.fault("503")
        return Fault(status=503)

    chaos.store.fault = fault
    chaos.camera.start()
    wait_for(lambda: "batch held" in chaos.log(worker), "the batch is held")
    chaos.camera.join()
    chaos.store.fault = lambda method, bucket, key: None
    chaos.finish()


def test_sidecars_later_than_images(chaos: Chaos) -> None:
    chaos.start(ALL)
    chaos.camera.sidecars = False
    chaos.camera.start()
    for shot in chaos.shots:
        if chaos.chance.random() < 0.5:
            wait_for(lambda shot=shot: shot.key in chaos.store.buckets[BUCKET], "the image is there")
            put_sidecar(chaos.store, shot)
            chaos.fault("sidecar late")
    chaos.finish()


def test_objects_deleted_before_they_are_read(chaos: Chaos) -> None:
    deleted = chaos.chance.sample(chaos.shots, 10)
    chaos.start("enqueue,idle")
    chaos.camera.cadence = 0
    chaos.camera.start()
    chaos.camera.join()
    for shot in deleted:
        del chaos.store.buckets[BUCKET][shot.key], chaos.store.buckets[BUCKET][shot.exposure.sidecar_key(shot.sensor)]
        chaos.fault("object deleted")
    chaos.start("ingest")
    chaos.finish(dead={shot.path: "missing" for shot in deleted})


def test_objects_replaced_before_and_after_their_ingest(chaos: Chaos) -> None:
    """The recorded sizes are those of the last versions."""
    early, late = chaos.chance.sample(chaos.shots, 10), chaos.chance.sample(chaos.shots, 10)
    chaos.camera.cadence = 0
    chaos.start("enqueue,idle")
    chaos.camera.start()
    chaos.camera.join()
    chaos.post(*replaced(chaos, early, 1))
    worker = chaos.start("ingest")[0]
    wait_for(lambda: chaos.ingested() == len(chaos.shots), "the first versions are in")
    chaos.post(*replaced(chaos, late, 2))
    chaos.finish(more=len(late))
    assert chaos.log(worker).count("object has changed size since its ingest") == len(late)


def replaced(chaos: Chaos, shots: list[Shot], blocks: int) -> list[SentFile]:
    files = [put(chaos.store, shot, more=bytes(2880 * blocks)) for shot in shots]
    chaos.camera.sent += files
    chaos.fault("object replaced", len(files))
    return files
