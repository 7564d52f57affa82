"""The interface between the ingest role and the code that writes to the Butler."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from ..model.exposures import ExposureSummary


@dataclass(frozen=True, slots=True)
class IngestFile:
    """A file to be ingested, with its header."""

    path: str
    """``{bucket}/{key}``, bucket with its profile."""
    url: str
    """``s3://{path}``."""
    obs_id: str | None
    """obs_id of the file's folder, if its path has one; a header of another exposure is refused."""
    is_guider: bool
    header: Mapping[str, object]
    """Cards of the FITS header; values have JSON types, integers 64 bits."""
    size: int
    """Size of the object in bytes."""


@dataclass(frozen=True, slots=True)
class FileResult:
    """The result of one file."""

    path: str
    outcome: Literal["ingested", "waiting", "failed"]
    """``waiting``: a guider whose exposure the Butler does not know yet."""
    instrument: str | None = None
    exposure_id: int | None = None
    obs_id: str | None = None
    """obs_id of the header; a waiting guider waits for this exposure."""
    day_obs: int | None = None
    """Observing day, YYYYMMDD."""
    detector: str | None = None
    """Full name of the detector in the Butler."""
    duplicate: bool = False
    """Whether the dataset was in the repository already."""
    replaced: bool = False
    """Whether the object was replaced since its dataset was ingested; the recorded size has been updated."""
    reason: str = ""
    """Reason of a failure, as `autoingest.errors.PermanentError.reason`."""
    exception: str = ""
    """Type and message of the error."""


Key = tuple[str, int]
"""Instrument and exposure id."""


@dataclass(frozen=True, slots=True)
class OwedVisit:
    """An exposure in the repository, one of whose visits could not be defined."""

    instrument: str
    exposure_id: int
    exception: str
    """Type and message of the error."""


@dataclass(frozen=True, slots=True)
class BatchResult:
    """The result of a batch."""

    files: list[FileResult] = field(default_factory=list)
    """One result for each file, in the order of the files."""
    visits: list[tuple[str, int]] = field(default_factory=list)
    """Instrument and id of the visits that this batch defined."""
    owed: list[OwedVisit] = field(default_factory=list)
    """Exposures of this batch whose visits could not be defined; `Engine.define_visits` must be called for them
    until it succeeds."""
    kept: list[tuple[str, str]] = field(default_factory=list)
    """Instrument and field of each new difference between a stored exposure and a header that was left as it is."""
    exposures: list[ExposureSummary] = field(default_factory=list)
    """The exposures of ingested files, or those whose visits were asked for."""


class Engine(Protocol):
    """Writes files into a Butler repository."""

    def ingest(self, files: Sequence[IngestFile]) -> BatchResult:
        """Write a batch of files, with the records of their exposures and their visits.

        Files that are in the repository already count as ingested.

        Raises
        ------
        autoingest.errors.TransientError
            If the database is away; the state of the files is unknown, and all may be retried.
        """
        ...

    def define_visits(self, exposures: Sequence[Key]) -> BatchResult:
        """Define the missing visits of stored exposures.

        Returns
        -------
        result
            Without files. An exposure that is not listed as owed has all its visits, or is not to be a visit.

        Raises
        ------
        autoingest.errors.TransientError
            If the database is away; all may be retried.
        """
        ...
