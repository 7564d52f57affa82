"""Trigger: queue what is in the store but not in the Butler."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import redis.asyncio

from ..butler.messages import ButlerExposure
from ..butler.reader import ButlerReader
from ..errors import ConfigurationError
from ..model.objects import RAFT_SENSOR, ExposureObject, parse_obs_id
from ..queue.file_status import file_statuses, replaced
from ..queue.intake import Intake
from ..store.listing import Listing, day_prefixes, exposure_prefixes, is_lfa
from .object_filter import ObjectFilter, StoredFile, obs_ids_by_instrument


@dataclass(frozen=True, slots=True)
class Target:
    """Objects that were asked for."""

    text: str
    """What was asked for, in words."""
    day: str | None = None
    """All of an observing day, ``YYYYMMDD``."""
    prefix: str | None = None
    """All whose keys begin so."""
    code: str | None = None
    """Camera code of an exposure."""
    obs_id: str | None = None
    raft_sensor: str | None = None

    @classmethod
    def of(cls, text: str) -> Target:
        """Read ``OBS_ID`` or ``OBS_ID_RAFT_SENSOR``.

        Raises
        ------
        ConfigurationError
            If it is neither.
        """
        parts = text.split("_")
        obs_id, raft_sensor = "_".join(parts[:4]), "_".join(parts[4:])
        parsed = parse_obs_id(obs_id)
        if parsed is None or (raft_sensor and not RAFT_SENSOR.fullmatch(raft_sensor)):
            raise ConfigurationError(
                f"{text!r} is neither an exposure like MC_O_20251231_000010 nor an image like"
                " MC_O_20251231_000010_R22_S11"
            )
        return cls(text, day=parsed.day_obs, code=parsed.camera, obs_id=obs_id, raft_sensor=raft_sensor or None)

    async def prefixes(self, listing: Listing) -> list[str]:
        """Return what the objects' keys begin with in a bucket."""
        if self.prefix is not None:
            return [self.prefix]
        assert self.day is not None
        if self.obs_id is None:
            return await day_prefixes(listing, self.day)
        if is_lfa(listing.bucket):
            return []
        image = f"{self.obs_id}_{self.raft_sensor}" if self.raft_sensor else ""
        return exposure_prefixes(self.code, f"{self.day}/{self.obs_id}/{image}")


@dataclass(slots=True)
class TriggerReport:
    """What a trigger found and did; numbers of objects."""

    ignored: int = 0
    """Left out by the filter."""
    unknown: int = 0
    """With a key of no known shape."""
    in_butler: int = 0
    on_the_way: int = 0
    """Queued, with a worker or waiting already."""
    selected: list[str] = field(default_factory=list)
    """Paths of all others."""
    queued: int = 0
    duplicate: int = 0
    """Selected, but on the queue when they came there."""
    not_in_store: list[str] = field(default_factory=list)
    """What was asked for and does not exist in any bucket."""


class Sink(Protocol):
    """Takes the objects that are to be ingested."""

    async def send(self, files: Sequence[StoredFile]) -> tuple[int, int]:
        """Return how many were queued, and how many were on the queue already."""


class IntakeSink:
    """Puts objects onto the queue.

    Parameters
    ----------
    intake
        Queues them.
    """

    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        self.queued: defaultdict[str, list[str]] = defaultdict(list)
        """Paths that were queued, by bucket."""

    async def send(self, files: Sequence[StoredFile]) -> tuple[int, int]:
        """Queue objects."""
        outcomes = await self._intake.accept([(file.notice(), file.obj) for file in files])
        for file, outcome in zip(files, outcomes, strict=True):
            if outcome == "queued":
                self.queued[file.obj.bucket].append(file.stored.path)
        queued = outcomes.count("queued")
        return queued, len(outcomes) - queued


class Trigger:
    """Finds objects and sends them on.

    Parameters
    ----------
    object_filter
        Makes the filter for a target's detector.
    sink
        Where they go; None only looks.
    reader
        Knows what the Butler has; None sends that, too.
    client
        Knows what is on the way; None sends that, too.
    progress
        Called with the report whenever it has changed.
    """

    def __init__(
        self,
        object_filter: Callable[[str | None], ObjectFilter],
        sink: Sink | None,
        reader: ButlerReader | None,
        client: redis.asyncio.Redis | None,
        progress: Callable[[TriggerReport], None] = lambda report: None,
    ) -> None:
        self._object_filter = object_filter
        self._sink = sink
        self._reader = reader
        self._redis = client
        self._progress = progress
        self._found: set[Target] = set()

    async def run(self, listing: Listing, targets: Sequence[Target], report: TriggerReport) -> None:
        """Go through one bucket.

        Parameters
        ----------
        listing
            The bucket.
        targets
            What is meant.
        report
            Receives what was found and done.

        Raises
        ------
        TransientError, ConfigurationError
            If the store or the Butler do not answer; what was sent before stays sent.
        """
        for target in targets:
            before = report.ignored + report.unknown
            found = False
            async for files in self._pages(listing, target, report):
                found = found or bool(files) or report.ignored + report.unknown > before
                await self._send(listing.bucket, files, report)
                self._progress(report)
            if found:
                self._found.add(target)
        report.not_in_store = [target.text for target in targets if target not in self._found]

    async def _pages(self, listing: Listing, target: Target, report: TriggerReport) -> AsyncIterator[list[StoredFile]]:
        object_filter = self._object_filter(target.raft_sensor)
        for prefix in await target.prefixes(listing):
            async for page in listing.objects(prefix):
                filtered = object_filter(page)
                report.ignored += filtered.ignored
                report.unknown += filtered.unknown
                yield filtered.files

    async def _send(self, bucket: str, files: list[StoredFile], report: TriggerReport) -> None:
        missing = await self._not_in_butler(files)
        report.in_butler += len(files) - len(missing)
        selected = await self._not_on_the_way(bucket, missing, report)
        report.selected += [file.stored.path for file in selected]
        if self._sink and selected:
            queued, duplicate = await self._sink.send(selected)
            report.queued += queued
            report.duplicate += duplicate

    async def _not_in_butler(self, files: list[StoredFile]) -> list[StoredFile]:
        if self._reader is None:
            return files
        etags = {file.stored.path: file.stored.etag for file in files}
        other = await replaced(self._redis, etags) if self._redis else {}
        held: dict[tuple[str, str], ButlerExposure] = {}
        for instrument, obs_ids in obs_ids_by_instrument(files).items():
            found = await self._reader.exposures(instrument, sorted(obs_ids))
            held |= {(instrument, obs_id): exposure for obs_id, exposure in found.items()}
        return [
            file
            for file in files
            if not (
                file.stored.path not in other
                and isinstance(file.obj, ExposureObject)
                and (exposure := held.get((file.obj.instrument, file.obj.obs_id)))
                and exposure.has(file.obj, file.stored.size)
            )
        ]

    async def _not_on_the_way(self, bucket: str, files: list[StoredFile], report: TriggerReport) -> list[StoredFile]:
        if self._redis is None:
            return files
        remaining = []
        found = await file_statuses(self._redis, bucket, [file.stored.path for file in files])
        for file, status in zip(files, found, strict=True):
            etag = file.stored.etag
            if status.on_the_way:
                report.on_the_way += 1
            elif (
                not isinstance(file.obj, ExposureObject) and status.place == "ingested" and status.etag in (None, etag)
            ):
                # What the Butler holds of the annex can't be asked for by exposure; Redis remembers it for a while.
                report.in_butler += 1
            else:
                remaining.append(file)
        return remaining
