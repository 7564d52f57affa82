"""Where each detector of an exposure is on its way into the Butler, by what Redis knows."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import redis.asyncio

from ..errors import MetadataError
from ..instruments.camera import Camera, Detector
from ..instruments.camera import load as load_camera
from ..queue import keys
from ..queue.health import without_wrong_type

State = Literal["expected", "queued", "present", "ingested", "waiting", "failed", "absent"]

OBJECTIVE = 5.0
"""Seconds from its put within which an image should be in the Butler."""


@dataclass(frozen=True, slots=True)
class DetectorState:
    """The state of one detector's image."""

    detector: str
    """Full name, ``R22_S11``."""
    state: State
    late: bool
    """Whether it is on the way for longer than `OBJECTIVE`."""
    path: str
    """Its file, ``{bucket}/{key}``."""
    reason: str
    """Why it failed; empty if it has not."""
    created: float | None
    """Epoch seconds of its put; None if that is not known, or no longer."""
    received: float | None
    """Epoch seconds of its notification."""
    ingested: float | None
    """Epoch seconds at which it was in the Butler."""


async def detector_states(
    client: redis.asyncio.Redis, bucket: str, exposure: Mapping[str, Any], now: float | None = None
) -> list[DetectorState]:
    """Return the state of every detector of an exposure.

    An object that is in the store but was never announced counts as expected: Redis does not know it.

    Parameters
    ----------
    client
        Redis client that decodes responses.
    bucket
        Bucket with its profile.
    exposure
        As `autoingest.queue.progress.read_exposure` returns it.
    now
        Epoch seconds; by default the present.
    """
    try:
        camera = load_camera(exposure["instrument"])
    except MetadataError:
        return []
    folder = exposure["folder"].removeprefix("s3://")
    paths = {one.name: f"{folder}{exposure['obs_id']}_{_file(camera, one)}" for one in camera.detectors}
    group = exposure.get("group")
    async with client.pipeline(transaction=False) as pipe:
        pipe.hgetall(keys.progress(bucket, exposure["obs_id"]))
        pipe.hkeys(keys.arrivals(camera.name, group) if group else "")
        for path in paths.values():
            pipe.hmget(keys.file(path), "state", "created", "recv_time", "ingest_time")
        progress, arrived, *records = await pipe.execute(raise_on_error=False)
    progress = without_wrong_type(progress, {})
    present = {name.split(":")[1] for name in without_wrong_type(arrived, ()) if name.endswith(exposure["obs_id"])}
    ingested = set(progress.get("ingested", "").split())
    expected = {name for key in progress if key.startswith("expected:") for name in progress[key].split()}
    found = []
    for detector, record in zip(camera.detectors, records, strict=True):
        name = detector.name
        state, *texts = without_wrong_type(record, (None,) * 4)
        created, received, done = map(_seconds, texts)
        reason = progress.get(f"failed:{name}", "")
        now_at = _state(state, name in ingested, reason, (_file_name(camera, detector)) in present)
        if now_at == "expected" and (
            (expected and name not in expected) or exposure.get("state") == "complete" or exposure.get("last_seen")
        ):
            now_at = "absent"
        since = created or received
        is_late = now_at in ("queued", "present") and since is not None and (now or time.time()) - since > OBJECTIVE
        found.append(DetectorState(name, now_at, is_late, paths[name], reason, created, received, done))
    return found


def _state(record: str | None, is_in: bool, reason: str, is_present: bool) -> State:
    if record == "dead" or (reason and not is_in):
        return "failed"
    if is_in or record == "ingested":
        return "ingested"
    if record == "waiting":
        return "waiting"
    if record in ("queued", "working"):
        return "present" if is_present else "queued"
    return "expected"


def _file_name(camera: Camera, detector: Detector) -> str:
    """Return what keys call a detector."""
    return "R00_S00" if len(camera.detectors) == 1 else detector.name


def _file(camera: Camera, detector: Detector) -> str:
    return f"{_file_name(camera, detector)}{'_guider' if detector.purpose == 'GUIDER' else ''}.fits"


def _seconds(text: str | None) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        return None
