"""The engine that needs only packages from PyPI."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import structlog
from lsst.daf.butler import DimensionRecord
from lsst.daf.butler.registry import ConflictingDefinitionError
from sqlalchemy.exc import IntegrityError

from ..errors import PermanentError
from . import bookmark
from .batch import Item, TranslatedHeaders, failure, identify_files, translate_headers, unsuccessful
from .butler_engine import BatchProgress, ButlerEngine, OpenRepository
from .datasets import FileToIngest
from .engine import FileResult, IngestFile, Key
from .exposures import Exposure
from .outage import is_outage
from .register import RACES

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Transaction:
    """The state of a transaction."""

    headers: TranslatedHeaders
    progress: BatchProgress = field(default_factory=BatchProgress)
    """Results, valid once it is committed."""
    exposures: dict[Key, Exposure] = field(default_factory=dict)
    """Exposures of its files."""
    changed: dict[Key, bool] = field(default_factory=dict)
    """Exposures that it inserts or updates, and whether their visits are to be rewritten."""


class _ExposureFailedError(Exception):
    """The records of an exposure can't be written from the header of a file."""

    def __init__(self, item: Item, reason: BaseException) -> None:
        super().__init__(str(reason))
        self.item = item
        self.reason = reason


class NativeWriter:
    """Writes files, exposures and visits of all known cameras.

    A batch is one transaction. If that fails, it is divided until the files that make it fail are alone; each part that
    succeeds is committed at once, so that a batch that takes too long has less to do the next time.
    """

    def __init__(self, repository: OpenRepository) -> None:
        self._repository = repository
        self._exposures = repository.exposures
        self._visits = repository.visits
        self._datasets = repository.datasets

    def write(self, files: Sequence[IngestFile], progress: BatchProgress) -> None:
        """Write files in one transaction, or in as many as it takes to have the bad ones alone."""
        items = identify_files(files, self._repository.admit, progress.results)
        lenient = self._repository.policy == "keep"
        headers = translate_headers(items, self._exposures, progress.results, lenient=lenient)
        pending: list[Sequence[Item]] = [[item for item in items if item.file.path not in progress.results]]
        while pending:
            if part := pending.pop():
                pending += reversed(self._try(part, headers, progress))

    def define_visits(self, exposure: DimensionRecord, *, update: bool) -> list[Key]:
        """Define the missing visits of an exposure, or rewrite all of them; return the new ones."""
        with self._repository.butler.registry.transaction(savepoint=True):
            return self._visits.define(exposure, update=update)

    def _try(self, items: Sequence[Item], headers: TranslatedHeaders, progress: BatchProgress) -> list[Sequence[Item]]:
        """Write files in one transaction; return those that are still to be written, in parts, if that fails."""
        for _ in range(RACES):
            try:
                transaction = self._transact(items, headers)
            except BaseException as err:  # including SystemExit and KeyboardInterrupt raised by a library
                error = err
                if is_outage(err):
                    raise
                reason = err.reason if isinstance(err, _ExposureFailedError) else err
                if not isinstance(reason, ConflictingDefinitionError | IntegrityError):
                    break
            else:
                self._define_visits(transaction, are_snaps=True)
                self._exposures.remember(
                    exposure for key, exposure in transaction.exposures.items() if key not in transaction.progress.owed
                )
                progress.add(transaction.progress)
                return []
        if isinstance(error, _ExposureFailedError):
            about = (error.item.exposure, error.item.fingerprint)
            places = [place for place, item in enumerate(items) if (item.exposure, item.fingerprint) == about]
            culprits = [items[place] for place in places]
            # The files before it have just been found good, and are not held up by others that may be bad.
            rest = [item for item in items[places[0] :] if (item.exposure, item.fingerprint) != about]
            parts: list[Sequence[Item]] = [items[: places[0]], rest]
            error = error.reason
        elif len(items) == 1:
            culprits, parts = list(items), []
        else:
            middle = len(items) // 2
            culprits, parts = [], [items[:middle], items[middle:]]
        progress.results |= {item.file.path: failure(item, error) for item in culprits}
        progress.is_doubtful |= bool(culprits)
        log.warning("batch divided", files=len(items), culprits=len(culprits), error=repr(error))
        return parts

    def _transact(self, items: Sequence[Item], headers: TranslatedHeaders) -> _Transaction:
        """Write files with their exposures and visits in one transaction.

        Visits that depend on other exposures are left for after the commit: see `Visits.is_snap`.
        """
        transaction = _Transaction(headers)
        with self._repository.butler.transaction():
            found = self._write_exposures(items, transaction)
            self._define_visits(transaction, are_snaps=False)
            self._write_datasets(found, transaction)
        return transaction

    def _write_exposures(self, items: Sequence[Item], transaction: _Transaction) -> list[tuple[Item, Exposure]]:
        """Write the exposures that are missing or differ; return the files whose exposure is there."""
        found = []
        for item in items:
            bookmark.mark(item.file.path)
            try:
                exposure = self._exposure(item, transaction)
            except PermanentError as err:
                transaction.progress.results[item.file.path] = failure(item, err)
                continue
            if exposure is None:
                transaction.progress.results[item.file.path] = unsuccessful(item, "waiting")
            else:
                found.append((item, exposure))
        bookmark.mark("")
        return found

    def _exposure(self, item: Item, transaction: _Transaction) -> Exposure | None:
        """Return a file's exposure, written if need be; None for a guider whose exposure is not there."""
        instrument, key = item.identity.instrument, item.exposure
        if key is None:
            for exposure in transaction.exposures.values():
                if (exposure.record.instrument, exposure.record.obs_id) == (instrument, item.identity.obs_id):
                    return exposure
            return self._exposures.find(instrument, item.identity.obs_id)
        header = transaction.headers.get((key, item.fingerprint))
        known = transaction.exposures.get(key) or self._exposures.get(key)
        if known is None:
            assert header is not None
            try:
                known = self._exposures.ensure(header)
            except BaseException as err:
                raise _ExposureFailedError(item, err) from err
            transaction.changed[key] = False
        transaction.exposures[key] = known
        if item.fingerprint not in known.agreed:
            assert header is not None
            if updated := self._exposures.check(known, header):
                transaction.exposures[key] = known = updated
                transaction.changed[key] = True
            known.agreed.add(item.fingerprint)
        return known

    def _define_visits(self, transaction: _Transaction, *, are_snaps: bool) -> None:
        """Define the visits of new and changed exposures that are snaps of a group, or of those that are none."""
        for key, update in transaction.changed.items():
            record = transaction.exposures[key].record
            if self._visits.is_snap(record) == are_snaps:
                transaction.progress.define_visits(self.define_visits, record, update=update)

    def _write_datasets(self, found: Sequence[tuple[Item, Exposure]], transaction: _Transaction) -> None:
        """Record the files in registry and datastore."""
        results = transaction.progress.results
        to_ingest: list[tuple[Item, Exposure, FileToIngest]] = []
        for item, exposure in found:
            bookmark.mark(item.file.path)
            try:
                file = self._datasets.file_to_ingest(item.file, exposure, item.identity.detector)
            except PermanentError as err:
                results[item.file.path] = failure(item, err)
            else:
                to_ingest.append((item, exposure, file))
        bookmark.mark("")
        to_ingest.sort(key=lambda each: each[0].order)
        duplicates = self._datasets.ingest([file for _, _, file in to_ingest])
        for item, exposure, _ in to_ingest:
            results[item.file.path] = FileResult(
                item.file.path,
                "ingested",
                instrument=exposure.record.instrument,
                exposure_id=exposure.record.id,
                obs_id=exposure.record.obs_id,
                day_obs=exposure.record.day_obs,
                detector=self._datasets.detector(item.identity.instrument, item.identity.detector).full_name,
                duplicate=item.file.path in duplicates,
                replaced=duplicates.get(item.file.path, False),
            )


class NativeEngine(ButlerEngine):
    """Ingests by `NativeWriter`."""

    def make_writer(self, repository: OpenRepository) -> NativeWriter:
        """Return the writer for an open repository."""
        return NativeWriter(repository)
