"""A store that fails, and objects that come late, go, or change while exposures come in."""

from __future__ import annotations

import json
import random
import time
from typing import Any

import pytest

from autoingest.dev.simulator import SentFile
from testing.chaos import Chaos
from testing.s3server import Fault, Stored
from testing.shots import BUCKET, Shot, put, put_sidecar
from testing.waiting import wait_for

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
    wait_for(lambda: "store away" in chaos.log(worker), "the outage is noticed")
    chaos.camera.join()
    chaos.store.fault = lambda method, bucket, key: None
    chaos.finish()


def test_sidecars_later_than_images(chaos: Chaos) -> None:
    chaos.start(ALL)
    chaos.camera.sidecars = False
    chaos.camera.start()
    for shot in chaos.shots:
        if chaos.chance.random() < 0.5:
            wait_for(lambda shot=shot: shot.key in chaos.store.buckets[BUCKET], "the image is there")  # type: ignore[misc]
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


@pytest.mark.short
@pytest.mark.parametrize(
    "fault", [Fault(status=403), Fault(status=500), Fault(delay=60)], ids=["refused", "error", "hanging"]
)
def test_some_images_are_not_served(chaos: Chaos, fault: Fault) -> None:
    """More of them than workers: they become dead letters, and every other image is ingested."""
    bad = chaos.chance.sample(chaos.shots, 5)
    break_(chaos, fault, *(shot.key.removesuffix(".fits") for shot in bad))
    chaos.site.ingest = {**chaos.site.ingest, "unreadableWait": 3}
    chaos.start(ALL)
    chaos.camera.start()
    chaos.camera.join()
    wait_for(lambda: chaos.ingested() == len(chaos.shots) - len(bad), "all that can be read is in")
    chaos.finish(dead={shot.path: "unreadable" for shot in bad})


def test_store_refuses_one_exposure(chaos: Chaos) -> None:
    """While others come in before and after it."""
    refused = chaos.chance.choice([shot.exposure for shot in chaos.shots])
    bad = [shot for shot in chaos.shots if shot.exposure == refused]
    break_(chaos, Fault(status=403, code="AccessDenied"), bad[0].key.rpartition("/")[0])
    chaos.start(ALL)
    chaos.camera.start()
    chaos.finish(dead={shot.path: "unreadable" for shot in bad})


def test_store_errs_for_one_exposure_and_recovers(chaos: Chaos) -> None:
    """Its images are tried as long as it takes."""
    failing = chaos.chance.choice([shot.exposure for shot in chaos.shots])
    bad = [shot for shot in chaos.shots if shot.exposure == failing]
    break_(chaos, Fault(status=500), bad[0].key.rpartition("/")[0])
    chaos.start(ALL)
    chaos.camera.start()
    chaos.camera.join()
    wait_for(lambda: chaos.ingested() == len(chaos.shots) - len(bad), "the other exposures are in")
    wait_for(lambda: chaos.site.logs().count("file failed") > 4 * len(bad), "they were tried more often than others")
    chaos.store.fault = lambda method, bucket, key: None
    chaos.finish()


@pytest.mark.short
def test_unusable_sidecars(chaos: Chaos) -> None:
    """Each image is read instead."""
    kinds = [
        b"", b"no JSON", b"[]", b'{"A": 1}', b"\xff" * 100, b" " * 3_000_000, Fault(status=403), Fault(status=500),
        Fault(delay=60), Fault(cut=100), _changed(nested=True), _changed(nested=False),
    ]  # fmt: skip
    faults: dict[str, Fault] = {}
    for number, shot in enumerate(chaos.chance.sample(chaos.shots, len(chaos.shots) // 2)):
        kind = kinds[number % len(kinds)]
        key = shot.exposure.sidecar_key(shot.sensor)
        if isinstance(kind, Fault):
            faults[key] = kind
        else:
            body = kind if isinstance(kind, bytes) else kind(shot)
            chaos.store.buckets.setdefault(BUCKET, {})[key] = Stored(body, "sidecar", time.time())
        chaos.fault("sidecar that can't be used")
    chaos.camera.sidecars = False
    chaos.store.fault = lambda method, bucket, key: faults.get(key)
    chaos.start(ALL)
    chaos.camera.start()
    chaos.finish()


def _changed(*, nested: bool) -> Any:
    def sidecar(shot: Shot) -> bytes:
        cards = json.loads(shot.exposure.sidecar(shot.sensor))
        return json.dumps({"header": cards} if nested else {name.lower(): cards[name] for name in cards}).encode()

    return sidecar


def break_(chaos: Chaos, fault: Fault, *begins: str) -> None:
    """Break all objects whose keys begin so."""

    def broken(method: str, bucket: str, key: str) -> Fault | None:
        if not any(key.startswith(begin) for begin in begins):
            return None
        chaos.fault("request for what is not served")
        return fault

    chaos.store.fault = broken
