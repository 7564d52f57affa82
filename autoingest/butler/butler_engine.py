"""What both engines share: the open repository, and telling outages from bad data."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

import structlog
from lsst.daf.butler import Butler, DimensionRecord

from .. import instruments
from ..app.config import DifferingMetadata, Grouping
from ..errors import MetadataError
from ..model.exposures import ExposureSummary, VisitState
from .datasets import Datasets
from .engine import BatchResult, FileResult, IngestFile, Key, OwedVisit
from .exposures import Exposures, KeptDifferences
from .outage import is_outage, outage
from .register import check_storage_classes, despite_others, prepare, registered
from .repository import open_repository
from .summary import summary
from .visits import Visits

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class BatchProgress:
    """The results of a batch so far."""

    results: dict[str, FileResult] = field(default_factory=dict)
    """By path."""
    visits: list[Key] = field(default_factory=list)
    """New visits."""
    owed: dict[Key, OwedVisit] = field(default_factory=dict)
    """Exposures whose visits could not be defined."""
    is_doubtful: bool = False
    """Whether what is cached of the repository may be out of date, because somebody may have removed an exposure."""

    def add(self, other: BatchProgress) -> None:
        """Add the results of another part of the batch."""
        self.results |= other.results
        self.visits += other.visits
        self.owed |= other.owed
        self.is_doubtful |= other.is_doubtful

    def define_visits(
        self, define: Callable[..., list[Key]], exposure: DimensionRecord, *, update: bool = False
    ) -> None:
        """Define an exposure's visits. If that fails they are owed, and the exposure stays."""
        try:
            self.visits += define(exposure, update=update)
        except BaseException as err:  # whatever a library raises, the exposure stays
            if is_outage(err):
                raise
            log.warning("visit owed", instrument=exposure.instrument, exposure=exposure.id, error=repr(err))
            self.owed[exposure.instrument, exposure.id] = OwedVisit(
                exposure.instrument, exposure.id, f"{type(err).__name__}: {err}"
            )


class OpenRepository:
    """A repository that is open for writing, with what is cached of it.

    Raises
    ------
    ConfigurationError
        If there is no such repository, or it lacks something that this program needs.
    TransientError
        If its database is away.
    """

    def __init__(self, repo: str, grouping: Grouping, policy: DifferingMetadata, kept: KeptDifferences) -> None:
        self.repo = repo
        self.butler: Butler = open_repository(repo, writeable=True)
        check_storage_classes(self.butler)
        self.grouping = grouping
        self.policy = policy
        self.exposures = Exposures(self.butler, policy, kept)
        self.visits = Visits(self.butler, grouping)
        self.datasets = Datasets(self.butler)
        self._ready: set[str] = set()
        self._refused: set[str] = set()

    def begin_batch(self) -> None:
        """Trim the cache of exposures, and forget which instruments were not registered."""
        self.exposures.trim()
        self._refused.clear()

    def admit(self, instrument: str) -> None:
        """Make sure, once, that the repository is ready for an instrument.

        Raises
        ------
        MetadataError
            If the repository doesn't know the instrument.
        """
        if instrument in self._ready:
            return
        if instrument not in self._refused and not self.prepare(instrument):
            self._refused.add(instrument)
        if instrument in self._refused:
            raise MetadataError(f"{instrument} is not registered in the repository; 'autoingest repo create' adds it")
        self._ready.add(instrument)

    def prepare(self, instrument: str) -> bool:
        """Register what the repository lacks for an instrument; return False if it doesn't know the instrument."""
        if instrument not in registered(self.butler):
            self.butler.registry.refresh()  # somebody may have registered it since we opened the repository
            if instrument not in registered(self.butler):
                return False
        despite_others(self.butler, lambda: prepare(self.butler, instruments.get(instrument)))
        despite_others(self.butler, lambda: self.visits.register(instrument))
        return True


class Writer(Protocol):
    """Writes batches into an open repository."""

    def write(self, files: Sequence[IngestFile], progress: BatchProgress) -> None:
        """Write files; leave the result of each, and new and owed visits, in `progress`.

        Errors that do not concern a single file may be raised, including outages of the database.
        """
        ...

    def define_visits(self, exposure: DimensionRecord, *, update: bool) -> list[Key]:
        """Define the missing visits of an exposure, or rewrite all of them; return the new ones."""
        ...


class ButlerEngine(ABC):
    """An engine that opens its own Butler; not thread-safe.

    Parameters
    ----------
    repo
        Butler repository: directory, URL or label.
    visits
        How exposures on the sky are grouped into visits.
    differing
        What to do if a header differs from the stored record.
    """

    def __init__(self, repo: str, visits: Grouping = "one-to-one", differing: DifferingMetadata = "keep") -> None:
        self._settings = (repo, visits, differing)
        self._kept = KeptDifferences()
        self._repository: OpenRepository | None = None
        self._writer: Writer | None = None

    def connect(self) -> OpenRepository:
        """Open the repository unless it is open.

        Raises
        ------
        ConfigurationError
            If there is no such repository, or this engine can't run here.
        TransientError
            If its database is away.
        """
        if self._repository is None:
            self._repository = OpenRepository(*self._settings, self._kept)
            try:
                self._writer = self.make_writer(self._repository)
            except BaseException:
                self.close()
                raise
        return self._repository

    @abstractmethod
    def make_writer(self, repository: OpenRepository) -> Writer:
        """Return the writer for the repository that has just been opened."""

    def close(self) -> None:
        """Close the repository; the next batch opens it again."""
        repository, self._repository, self._writer = self._repository, None, None
        if repository is not None:
            repository.butler.close()

    def ingest(self, files: Sequence[IngestFile]) -> BatchResult:
        """Write a batch of files; see `autoingest.butler.engine.Engine.ingest`."""
        progress = BatchProgress()
        with self._closed_by_errors():
            self.connect().begin_batch()
            assert self._writer is not None
            self._writer.write(files, progress)
            results = [progress.results[file.path] for file in files]
            exposures = self._summaries(files, results, progress)
        if progress.is_doubtful:
            self.close()
        return BatchResult(results, progress.visits, list(progress.owed.values()), self._kept.take(), exposures)

    def define_visits(self, exposures: Sequence[Key]) -> BatchResult:
        """Define visits of stored exposures; see `autoingest.butler.engine.Engine.define_visits`."""
        progress = BatchProgress()
        with self._closed_by_errors():
            repository = self.connect()
            assert self._writer is not None
            summaries = []
            for key in exposures:
                if repository.prepare(key[0]) and (found := repository.exposures.stored(*key)):
                    progress.define_visits(self._writer.define_visits, found.record)
                    summaries.append(self._summary(repository, found.record, progress))
        return BatchResult(visits=progress.visits, owed=list(progress.owed.values()), exposures=summaries)

    def _summaries(
        self, files: Sequence[IngestFile], results: Sequence[FileResult], progress: BatchProgress
    ) -> list[ExposureSummary]:
        """Return the exposures of the ingested files."""
        repository = self.connect()
        has_images: dict[Key, bool] = {}
        for file, result in zip(files, results, strict=True):
            if result.outcome == "ingested" and result.instrument and result.exposure_id is not None:
                key = (result.instrument, result.exposure_id)
                has_images[key] = has_images.get(key, False) or not file.is_guider
        summaries = []
        for key, looked_at in has_images.items():
            if exposure := repository.exposures.get(key) or repository.exposures.stored(*key):
                summaries.append(self._summary(repository, exposure.record, progress, looked_at=looked_at))
        return summaries

    def _summary(
        self, repository: OpenRepository, record: DimensionRecord, progress: BatchProgress, *, looked_at: bool = True
    ) -> ExposureSummary:
        visit: VisitState = "none"
        if repository.visits.due(record):
            visit = "owed" if (record.instrument, record.id) in progress.owed else "defined" if looked_at else ""
        return summary(record, repository.visits, repository.repo, visit)

    @contextmanager
    def _closed_by_errors(self) -> Iterator[None]:
        """Close the repository after an error; raise an outage of the database as `TransientError`."""
        try:
            yield
        except Exception as err:
            self.close()
            if is_outage(err):
                raise outage(err, "the Butler repository can't be written now") from err
            raise
