"""Requests to a Butler process, and its answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..app.config import DifferingMetadata, Grouping, LoggingConfig
from ..model.checks import Check
from ..model.exposures import ExposureSummary
from ..model.objects import ExposureObject
from .engine import IngestFile, Key

READER_TIMEOUT = 120.0
"""Time limit in seconds for one question to a reader."""


@dataclass(frozen=True, slots=True)
class Setup:
    """First message to a process, answered by `Started` or an `autoingest.errors.AutoingestError`."""

    repo: str
    visits: Grouping
    differing: DifferingMetadata
    logging: LoggingConfig
    owner: int
    """Process id of the owner."""
    instruments: tuple[str, ...] = ()
    """Files and folders that describe additional instruments."""
    lock_timeout: float = 20.0
    """Seconds that a statement may wait for another session's lock."""


@dataclass(frozen=True, slots=True)
class Started:
    """The process is ready."""

    pid: int


@dataclass(frozen=True, slots=True)
class Batch:
    """Asks an engine to ingest files; answered by `autoingest.butler.engine.BatchResult`."""

    files: list[IngestFile]
    timeout: float
    """Seconds after which the owner ends the process."""
    cautious: bool = False
    """Whether these files may have ended a process before; then memory is limited."""


@dataclass(frozen=True, slots=True)
class DefineVisits:
    """Asks an engine for the visits of exposures; answered by `autoingest.butler.engine.BatchResult`."""

    exposures: list[Key]
    timeout: float
    """As for `Batch`."""


@dataclass(frozen=True, slots=True)
class ListObsIds:
    """Asks a reader for the obs_ids of a day; answered by `ObsIds`."""

    instrument: str
    day_obs: int
    timeout: float = READER_TIMEOUT
    """As for `Batch`."""


@dataclass(frozen=True, slots=True)
class ObsIds:
    """Answers `ListObsIds`."""

    obs_ids: list[str]


@dataclass(frozen=True, slots=True)
class FindExposures:
    """Asks a reader what the Butler has of exposures; answered by `FoundExposures`."""

    instrument: str
    obs_ids: list[str]
    timeout: float = READER_TIMEOUT
    """As for `Batch`."""


@dataclass(frozen=True, slots=True)
class FindGroup:
    """Asks a reader what the Butler has of a group's exposures; answered by `FoundExposures`."""

    instrument: str
    group: str
    timeout: float = READER_TIMEOUT
    """As for `Batch`."""


@dataclass(frozen=True, slots=True)
class Examine:
    """Asks a reader whether the repository is fit for ingest; answered by `Examined`."""

    timeout: float = READER_TIMEOUT
    """As for `Batch`."""


@dataclass(frozen=True, slots=True)
class Examined:
    """Answers `Examine`."""

    checks: list[Check]


@dataclass(frozen=True, slots=True)
class ButlerExposure:
    """What the Butler has of an exposure."""

    instrument: str
    exposure_id: int
    obs_id: str
    files: dict[str, int]
    """Bytes by path, ``{bucket}/{key}``, of its datasets' files; negative where they are not recorded."""
    detectors: frozenset[tuple[str, bool]]
    """Full name of each detector that has a dataset, and whether that is of the guider's kind."""
    visit: Literal["defined", "owed", "none"]
    """``none``: the exposure is not to be a visit."""
    summary: ExposureSummary
    """Its record."""

    @property
    def snap(self) -> int:
        """Number of the exposure in its group, from 0."""
        return self.summary.snap

    def has(self, obj: ExposureObject, size: int) -> bool:
        """Return whether the present version of an object is in the Butler; a replacement of another size is not.

        True also if its dataset came from another object, as the Butler accepts no second one.
        """
        recorded = self.files.get(obj.path)
        if recorded is None:
            return obj.raft_sensor is not None and (obj.raft_sensor, obj.is_guider) in self.detectors
        return recorded < 0 or recorded == size


@dataclass(frozen=True, slots=True)
class FoundExposures:
    """Answers `FindExposures`, with those that the Butler knows."""

    exposures: list[ButlerExposure]
