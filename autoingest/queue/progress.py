"""Progress of exposures on their way into the Butler, in Redis: what is expected, what has come, what has been told.

The worker's acknowledgement records what is in the Butler, in the step that moves the files. The steps here add what
it can't know: which detectors are expected, what other programs have ingested, and that a deadline has passed. Each
step also appends the events that it makes true to a stream, so no event is lost, told twice, or told too early.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, cast

import orjson
import redis.asyncio

from ..app.config import EventsConfig
from ..errors import UnknownObjectError
from ..model.events import with_times
from ..model.objects import ExposureObject, observing_day, parse
from . import keys
from .scripts import head, load

CLAIM_AT_ONCE = 100
"""Exposures that are looked at in one turn."""

LONGEST_DELAY = 600.0
"""Longest time in seconds between two looks at an incomplete exposure."""

GIVE_UP = 86400.0
"""Seconds after the first notice when an incomplete exposure is no longer looked at."""

Purpose = Literal["science", "wavefront", "guider"]

CLAIM_PROGRESS = load("claim_progress")
EXPECT = load("expect")
OBSERVE = load("observe")
MISS_DEADLINE = load("miss_deadline")
SETTLE_VISITS = load("settle_visits")


@dataclass(frozen=True, slots=True)
class EventSettings:
    """What the steps need to append events."""

    bucket: str
    keep: int = 30_000
    """Events of exposures that the stream keeps."""
    keep_files: int = 0
    """Events of files that their stream keeps; 0: there are none."""


def event_settings(config: EventsConfig, bucket: str) -> EventSettings:
    """Return the settings of a bucket's events from the configuration."""
    return EventSettings(bucket, config.keep, config.keep_files if config.files else 0)


@dataclass(frozen=True, slots=True)
class ExposureFolder:
    """An exposure, by its folder in the store."""

    instrument: str
    day_obs: str
    obs_id: str
    folder: str
    """``{bucket}/{instrument's folder}/{day_obs}/{obs_id}/``."""

    @classmethod
    def of(cls, folder: str) -> ExposureFolder | None:
        """Return the exposure of a folder, None if it is none."""
        try:
            obj = parse(f"{folder}x")
        except UnknownObjectError:
            return None
        return cls(obj.instrument, obj.day_obs, obj.obs_id, folder) if isinstance(obj, ExposureObject) else None


@dataclass(frozen=True, slots=True)
class Due:
    """An exposure that is to be looked at."""

    exposure: ExposureFolder
    age: float
    """Seconds since its first notice."""
    ingested: int
    """Number of its detectors in the Butler."""
    expected_from: str
    """``file``, ``camera`` or nothing: where the list of its detectors comes from."""
    missing: tuple[str, ...]
    """Expected detectors that are not in the Butler, as far as Redis knows."""
    told_incomplete: bool
    """Whether it was told to be incomplete."""


class Progress:
    """The exposures of one bucket.

    Parameters
    ----------
    client
        Redis client that decodes responses.
    settings
        Settings of the events.
    interval
        Seconds between two looks at a young exposure.
    young
        Seconds for which an exposure is young.
    """

    def __init__(self, client: redis.asyncio.Redis, settings: EventSettings, interval: float, young: float) -> None:
        self._redis = client
        self._bucket = settings.bucket
        self._events = asdict(settings)
        self._interval = interval
        self._young = young
        self._claim = client.register_script(CLAIM_PROGRESS)
        self._expect = client.register_script(EXPECT)
        self._observe = client.register_script(OBSERVE)
        self._miss_deadline = client.register_script(MISS_DEADLINE)

    async def number(self) -> int:
        """Return the number of exposures in progress."""
        return int(await self._redis.zcard(keys.progress_due(self._bucket)))

    async def claim(self) -> list[Due]:
        """Return the exposures that are due; no other process gets them before the next look."""
        found = await self._claim(
            [keys.progress_due(self._bucket)],
            [
                *head(), keys.progress(self._bucket, ""), self._interval, self._young, LONGEST_DELAY, GIVE_UP,
                CLAIM_AT_ONCE,
            ],
        )  # fmt: skip
        return [
            Due(exposure, float(age), number, source, tuple(missing), bool(told))
            for folder, age, number, source, missing, told in found
            if (exposure := ExposureFolder.of(folder)) is not None
        ]

    async def expect(
        self,
        exposure: ExposureFolder,
        source: Literal["file", "camera"],
        detectors: Mapping[str, Purpose],
        *,
        if_all_in: bool = False,
    ) -> bool:
        """Record which detectors are expected; return whether this is new.

        Parameters
        ----------
        exposure
            The exposure.
        source
            ``file``: its list in the store, which is final; ``camera``: all of the camera, until there is a list.
        detectors
            Names and purposes.
        if_all_in
            Whether to do so only if all of them are in the Butler.
        """
        order = {"source": source, "detectors": detectors, "if_all_in": if_all_in}
        return bool(await self._step(self._expect, exposure, order))

    async def observe(
        self, exposure: ExposureFolder, exposure_id: int, record: str, visit: str, detectors: Iterable[str]
    ) -> None:
        """Record what the Butler has of an exposure.

        Parameters
        ----------
        exposure, exposure_id
            The exposure.
        record
            Its record, as `autoingest.butler.summary.ExposureSummary.json` gives it.
        visit
            ``none``, ``owed`` or ``defined``.
        detectors
            Names of the detectors of which there are datasets.
        """
        order = {"id": str(exposure_id), "record": record, "visit": visit, "detectors": list(detectors)}
        await self._step(self._observe, exposure, order)

    async def miss_deadline(self, exposure: ExposureFolder, last_seen: Mapping[str, str]) -> bool:
        """Tell that an exposure is incomplete, once; return whether it was told now.

        Parameters
        ----------
        exposure
            The exposure.
        last_seen
            Where each missing detector was last seen.
        """
        return bool(await self._step(self._miss_deadline, exposure, {"last_seen": last_seen}))

    async def _step(self, script: Any, exposure: ExposureFolder, order: Mapping[str, object]) -> object:
        text = orjson.dumps({"events": self._events, "exposure": asdict(exposure), **order}).decode()
        return await script([], [*head(), text])


async def read_exposure(client: redis.asyncio.Redis, bucket: str, obs_id: str) -> dict[str, Any] | None:
    """Return what is known of an exposure: the data of its events, as they would be now, with ``state`` and ``visit``.

    Parameters
    ----------
    client
        Redis client that decodes responses.
    bucket
        Bucket with its profile.
    obs_id
        The exposure.

    Returns
    -------
    data
        None if nothing is known of it, or no longer.
    """
    script = client.register_script(load("read_progress"))
    text = cast(str | None, await script([keys.progress(bucket, obs_id)], [*head(), obs_id]))
    return None if text is None else with_times(json.loads(text))


async def newest_exposures(
    client: redis.asyncio.Redis, buckets: Iterable[str], number: int, now: datetime | None = None
) -> list[dict[str, Any]]:
    """Return the newest exposures of this observing day and the one before, in order of their first put.

    Parameters
    ----------
    client
        Redis client that decodes responses.
    buckets
        Buckets with their profiles.
    number
        Maximum number of exposures of each camera in a bucket.
    now
        The time by which the day is told; by default the present.

    Returns
    -------
    exposures
        As `read_exposure` returns them, with ``bucket``.
    """
    now = now or datetime.now(UTC)
    days = [str(observing_day(now - timedelta(days=ago))) for ago in (1, 0)]
    found = []
    for bucket in buckets:
        cameras: defaultdict[str, list[str]] = defaultdict(list)
        for day in days:
            for obs_id in await obs_ids_of_day(client, bucket, day):
                cameras[obs_id.partition("_")[0]].append(obs_id)
        for obs_id in (obs_id for names in cameras.values() for obs_id in names[-number:]):
            if exposure := await read_exposure(client, bucket, obs_id):
                found.append({**exposure, "bucket": bucket})
    return sorted(found, key=lambda one: (one["times"]["first_put"] or "", one["obs_id"]))


async def obs_ids_of_day(client: redis.asyncio.Redis, bucket: str, day_obs: str) -> list[str]:
    """Return the obs_ids of a day's exposures of which anything is known, in order."""
    return sorted(cast(set[str], await client.smembers(keys.progress_of_day(bucket, day_obs))))
