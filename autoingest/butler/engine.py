"""What an engine takes and gives: the interface between the ingest role and the code that writes the Butler."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol


@dataclass(frozen=True, slots=True)
class IngestFile:
    """One file to be ingested, with what the reader of its header has learnt."""

    path: str
    """``{bucket}/{key}``, bucket with its profile."""
    url: str
    """``s3://{path}``."""
    obs_id: str | None
    """Observation of the folder the file lies in, if its path tells; a header of another one is refused."""
    is_guider: bool
    header: Mapping[str, object]
    """Cards of the FITS header: what JSON has types for, integers of 64 bits."""
    size: int
    """Bytes of the object."""


@dataclass(frozen=True, slots=True)
class FileResult:
    """What became of one file."""

    path: str
    outcome: Literal["ingested", "waiting", "failed"]
    """``waiting``: a guider whose exposure the Butler does not know yet."""
    instrument: str | None = None
    exposure_id: int | None = None
    obs_id: str | None = None
    """Observation that the header tells; what a waiting guider waits for."""
    day_obs: int | None = None
    """Observing day, YYYYMMDD."""
    duplicate: bool = False
    """Whether the dataset was in the repository already."""
    replaced: bool = False
    """Whether the object is another than when its dataset came in; the recorded size has followed."""
    reason: str = ""
    """Reason of a failure, as `autoingest.errors.PermanentError.reason`."""
    exception: str = ""
    """Type and message of the error that made it fail."""


Key = tuple[str, int]
"""Instrument and exposure id."""


@dataclass(frozen=True, slots=True)
class OwedVisit:
    """An exposure that is in the repository while a visit that it belongs to is not."""

    instrument: str
    exposure_id: int
    exception: str
    """Type and message of the error that kept the visit from being written."""


@dataclass(frozen=True, slots=True)
class BatchResult:
    """What became of a batch."""

    files: list[FileResult] = field(default_factory=list)
    """One result for each file, in the order of the files."""
    visits: list[tuple[str, int]] = field(default_factory=list)
    """Instrument and id of the visits that this batch defined."""
    owed: list[OwedVisit] = field(default_factory=list)
    """Exposures of this batch whose visits could not be defined; `Engine.define_visits` is to be called for them
    until it can."""
    kept: list[tuple[str, str]] = field(default_factory=list)
    """Instrument and field of each difference between a stored exposure and a header that was kept, once."""


class Engine(Protocol):
    """Writes files into a Butler repository."""

    def ingest(self, files: Sequence[IngestFile]) -> BatchResult:
        """Write a batch of files, with the records of their exposures and their visits.

        Files that are in the repository already count as ingested.

        Raises
        ------
        autoingest.errors.TransientError
            If the database is away; nothing is known of any file, all may be tried again.
        """
        ...

    def define_visits(self, exposures: Sequence[Key]) -> BatchResult:
        """Define the visits of stored exposures, as far as they are missing.

        Returns
        -------
        result
            Without files. An exposure that it does not list as owed has its visits, or is due none.

        Raises
        ------
        autoingest.errors.TransientError
            If the database is away; all may be tried again.
        """
        ...
