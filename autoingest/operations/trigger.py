"""Trigger: what lies in the store and is not in the Butler goes onto the queue."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import redis.asyncio

from ..butler.messages import ButlerExposure
from ..butler.reader import ButlerReader
from ..errors import ConfigurationError
from ..model.objects import ExposureObject
from ..queue.file_status import file_statuses, replaced
from ..queue.intake import Intake
from ..store.listing import Listing, day_prefixes, exposure_prefixes, is_lfa
from .selection import Candidate, Sieve, by_exposure

_TARGET = re.compile(r"(?P<obs_id>(?P<code>[A-Z]{2})_[A-Z]_(?P<day>\d{8})_\d{6})(_(?P<raft_sensor>R\d{2}_S[\dGW]\d))?")


@dataclass(frozen=True, slots=True)
class Target:
    """Objects that are meant."""

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
        match = _TARGET.fullmatch(text)
        if match is None:
            raise ConfigurationError(
                f"{text!r} is no exposure like MC_O_20251231_000010 and no image like MC_O_20251231_000010_R22_S11"
            )
        return cls(text, day=match["day"], code=match["code"], obs_id=match["obs_id"], raft_sensor=match["raft_sensor"])

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


class Sink(Protocol):
    """Takes the objects that are to be ingested."""

    async def send(self, candidates: Sequence[Candidate]) -> tuple[int, int]:
        """Return how many were queued, and how many were on the queue already."""


class IntakeSink:
    """Puts objects onto the queue."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake

    async def send(self, candidates: Sequence[Candidate]) -> tuple[int, int]:
        """Queue objects."""
        outcomes = await self._intake.accept([(candidate.notice(), candidate.obj) for candidate in candidates])
        queued = outcomes.count("queued")
        return queued, len(outcomes) - queued


class Trigger:
    """Finds objects and sends them on.

    Parameters
    ----------
    sieve
        Makes candidates of the objects listed, for a target's detector.
    sink
        Where they go; None only looks.
    reader
        Knows what the Butler holds; None takes what it holds, too.
    client
        Knows what is on the way; None takes that, too.
    progress
        Called with the report when it has changed.
    """

    def __init__(
        self,
        sieve: Callable[[str | None], Sieve],
        sink: Sink | None,
        reader: ButlerReader | None,
        client: redis.asyncio.Redis | None,
        progress: Callable[[TriggerReport], None] = lambda report: None,
    ) -> None:
        self._sieve = sieve
        self._sink = sink
        self._reader = reader
        self._redis = client
        self._progress = progress

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
            async for candidates in self._pages(listing, target, report):
                await self._send(listing.bucket, candidates, report)
                self._progress(report)

    async def _pages(self, listing: Listing, target: Target, report: TriggerReport) -> AsyncIterator[list[Candidate]]:
        sieve = self._sieve(target.raft_sensor)
        for prefix in await target.prefixes(listing):
            async for page in listing.objects(prefix):
                sifted = sieve(page)
                report.ignored += sifted.ignored
                report.unknown += sifted.unknown
                yield sifted.candidates

    async def _send(self, bucket: str, candidates: list[Candidate], report: TriggerReport) -> None:
        missing = await self._without_held(candidates)
        report.in_butler += len(candidates) - len(missing)
        selected = await self._without_moving(bucket, missing, report)
        report.selected += [candidate.stored.path for candidate in selected]
        if self._sink and selected:
            queued, duplicate = await self._sink.send(selected)
            report.queued += queued
            report.duplicate += duplicate

    async def _without_held(self, candidates: list[Candidate]) -> list[Candidate]:
        if self._reader is None:
            return candidates
        etags = {candidate.stored.path: candidate.stored.etag for candidate in candidates}
        other = await replaced(self._redis, etags) if self._redis else {}
        held: dict[tuple[str, str], ButlerExposure] = {}
        for instrument, obs_ids in by_exposure(candidates).items():
            found = await self._reader.exposures(instrument, sorted(obs_ids))
            held |= {(instrument, obs_id): exposure for obs_id, exposure in found.items()}
        return [
            candidate
            for candidate in candidates
            if not (
                candidate.stored.path not in other
                and isinstance(candidate.obj, ExposureObject)
                and (exposure := held.get((candidate.obj.instrument, candidate.obj.obs_id)))
                and exposure.has(candidate.obj, candidate.stored.size)
            )
        ]

    async def _without_moving(self, bucket: str, candidates: list[Candidate], report: TriggerReport) -> list[Candidate]:
        if self._redis is None:
            return candidates
        remaining = []
        found = await file_statuses(self._redis, bucket, [candidate.stored.path for candidate in candidates])
        for candidate, status in zip(candidates, found, strict=True):
            etag = candidate.stored.etag
            if status.on_the_way:
                report.on_the_way += 1
            elif (
                not isinstance(candidate.obj, ExposureObject)
                and status.place == "ingested"
                and status.etag in (None, etag)
            ):
                # What the Butler holds of the annex can't be asked for by exposure; Redis remembers it for a while.
                report.in_butler += 1
            else:
                remaining.append(candidate)
        return remaining
