"""What all engines do alike: open the repository, make it ready for cameras, tell outages from bad data."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import structlog
from lsst.daf.butler import Butler, DimensionRecord

from .. import instruments
from ..app.config import DifferingMetadata, Grouping
from ..errors import MetadataError
from .datasets import Datasets
from .engine import BatchResult, FileResult, IngestFile, Key, OwedVisit
from .exposures import Exposure, Exposures, Kept
from .outage import is_outage, outage
from .repo import check_storage_classes, despite_others, open_repository, prepare, registered
from .visits import Visits

log = structlog.get_logger(__name__)


class ButlerEngine(ABC):
    """An engine with a Butler of its own.

    An instance is for one thread.

    Parameters
    ----------
    repo
        Butler repository: directory, URL or label.
    visits
        How exposures on the sky are grouped into visits.
    differing
        What happens where a header differs from the stored record.
    """

    def __init__(self, repo: str, visits: Grouping = "one-to-one", differing: DifferingMetadata = "keep") -> None:
        self._repo = repo
        self._grouping = visits
        self._policy = differing
        self._butler: Butler | None = None
        self._prepared: set[str] = set()
        self._refused: set[str] = set()
        self._doubtful = False
        self._kept = Kept()

    def connect(self) -> Butler:
        """Open the repository unless it is open.

        Raises
        ------
        ConfigurationError
            If there is no such repository, or this engine can't run here.
        TransientError
            If its database is away.
        """
        if self._butler is not None:
            return self._butler
        butler = open_repository(self._repo, writeable=True)
        check_storage_classes(butler)
        self._butler = butler
        self._prepared = set()
        self._doubtful = False
        self._exposures = Exposures(butler, self._policy, self._kept)
        self._visits = Visits(butler, self._grouping)
        self._datasets = Datasets(butler)
        return butler

    def close(self) -> None:
        """Close the repository; the next batch opens it again."""
        butler, self._butler = self._butler, None
        if butler is not None:
            butler.close()

    def ingest(self, files: Sequence[IngestFile]) -> BatchResult:
        """Write a batch of files; see `autoingest.butler.engine.Engine.ingest`."""
        results: dict[str, FileResult] = {}
        done = BatchResult()
        try:
            self.connect()
            self._exposures.trim()
            self._refused.clear()
            self._batch(files, results, done)
        except Exception as err:
            self.close()
            if is_outage(err):
                raise outage(err, "the Butler repository can't be written now") from err
            raise
        if self._doubtful:
            # What we remember of the repository may be out of date: somebody may have removed an exposure.
            self.close()
        return BatchResult([results[file.path] for file in files], done.visits, done.owed, self._kept.take())

    def define_visits(self, exposures: Sequence[Key]) -> BatchResult:
        """Define visits of stored exposures; see `autoingest.butler.engine.Engine.define_visits`."""
        done = BatchResult()
        try:
            self.connect()
            for instrument, exposure_id in exposures:
                if self._register(instrument) and (exposure := self._exposures.stored(instrument, exposure_id)):
                    self._define(exposure, done)
        except Exception as err:
            self.close()
            if is_outage(err):
                raise outage(err, "the Butler repository can't be written now") from err
            raise
        return done

    def _define(self, exposure: Exposure, done: BatchResult, *, update: bool = False) -> None:
        """Define an exposure's visits; they are owed if that fails, and the exposure stays."""
        record = exposure.record
        try:
            done.visits.extend(self._define_visits_of(record, update=update))
        except BaseException as err:  # whatever a library raises, the exposure stays
            if is_outage(err):
                raise
            log.warning("visit owed", instrument=record.instrument, exposure=record.id, error=repr(err))
            done.owed.append(OwedVisit(record.instrument, record.id, f"{type(err).__name__}: {err}"))

    def _define_visits_of(self, exposure: DimensionRecord, *, update: bool) -> list[Key]:
        """Define the visits of an exposure that are missing, or all of them anew; return those that are new."""
        with self.connect().registry.transaction(savepoint=True):
            return self._visits.define(exposure, update=update)

    @abstractmethod
    def _batch(self, files: Sequence[IngestFile], results: dict[str, FileResult], done: BatchResult) -> None:
        """Write files; leave the result of each in `results`, by path, and new and owed visits in `done`.

        Errors that are no single file's may be raised, also those that say that the database is away.
        """

    def _admit(self, instrument: str) -> None:
        """Make sure, once, that the repository is ready for an instrument.

        Raises
        ------
        MetadataError
            If the repository doesn't know the instrument.
        """
        if instrument in self._prepared:
            return
        if instrument not in self._refused and not self._register(instrument):
            self._refused.add(instrument)
        if instrument in self._refused:
            raise MetadataError(f"{instrument} is not registered in the repository; 'autoingest repo create' adds it")
        self._prepared.add(instrument)

    def _register(self, instrument: str) -> bool:
        butler = self.connect()
        if instrument not in registered(butler):
            butler.registry.refresh()  # somebody may have registered it since we opened the repository
            if instrument not in registered(butler):
                return False
        despite_others(butler, lambda: prepare(butler, instruments.get(instrument)))
        despite_others(butler, lambda: self._visits.register(instrument))
        return True
