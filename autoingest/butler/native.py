"""The engine that writes the Butler with the packages from PyPI alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import structlog
from lsst.daf.butler.registry import ConflictingDefinitionError
from sqlalchemy.exc import IntegrityError

from ..errors import PermanentError
from .base import ButlerEngine
from .batch import Item, Wanted, failure, identified, translated, unsuccessful
from .datasets import Placed
from .engine import BatchResult, FileResult, IngestFile, Key
from .exposures import Exposure
from .outage import is_outage
from .repo import RACES

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Outcome:
    """What a transaction has done, once it is committed."""

    results: list[FileResult] = field(default_factory=list)
    done: BatchResult = field(default_factory=BatchResult)
    """Visits, new and owed."""
    snaps: dict[Key, bool] = field(default_factory=dict)
    """Exposures whose visits are to be defined after the commit, and whether they are to be written anew."""
    exposures: dict[Key, Exposure] = field(default_factory=dict)


class _ExposureFailedError(Exception):
    """The records of an exposure can't be written as the header of a file tells them."""

    def __init__(self, item: Item, reason: BaseException) -> None:
        super().__init__(str(reason))
        self.item = item
        self.reason = reason


class NativeEngine(ButlerEngine):
    """Writes files, exposures and visits of all known cameras.

    A batch is one transaction. If that fails, it is divided until the files that make it fail are alone; each part that
    succeeds is committed at once, so that a batch that takes too long has less to do the next time.
    """

    def _batch(self, files: Sequence[IngestFile], results: dict[str, FileResult], done: BatchResult) -> None:
        items = identified(files, self._admit, results)
        wanted = translated(items, self._exposures, results, lenient=self._policy == "keep")
        self._write([item for item in items if item.file.path not in results], wanted, results, done)

    def _write(self, items: Sequence[Item], wanted: Wanted, results: dict[str, FileResult], done: BatchResult) -> None:
        """Write files in one transaction, or in as many as it takes to have the bad ones alone."""
        pending = [items]
        while pending:
            if part := pending.pop():
                pending += reversed(self._try(part, wanted, results, done))

    def _try(
        self, items: Sequence[Item], wanted: Wanted, results: dict[str, FileResult], done: BatchResult
    ) -> list[Sequence[Item]]:
        """Write files in one transaction; return those that are still to be written, in parts, if that fails."""
        for _ in range(RACES):
            try:
                outcome = self._transact(items, wanted)
            except BaseException as err:  # also what a library raises to end the program
                error = err
                if is_outage(err):
                    raise
                reason = err.reason if isinstance(err, _ExposureFailedError) else err
                if not isinstance(reason, ConflictingDefinitionError | IntegrityError):
                    break
            else:
                results |= {result.path: result for result in outcome.results}
                for key, update in outcome.snaps.items():
                    self._define(outcome.exposures[key], outcome.done, update=update)
                owed = {(visit.instrument, visit.exposure_id) for visit in outcome.done.owed}
                self._exposures.remember(item for key, item in outcome.exposures.items() if key not in owed)
                done.visits.extend(outcome.done.visits)
                done.owed.extend(outcome.done.owed)
                return []
        if isinstance(error, _ExposureFailedError):
            about = (error.item.exposure, error.item.digest)
            places = [place for place, item in enumerate(items) if (item.exposure, item.digest) == about]
            culprits = [items[place] for place in places]
            # What came before has just been found good: it is not held up by what else may be wrong further on.
            parts = [items[: places[0]], [item for item in items[places[0] :] if (item.exposure, item.digest) != about]]
            error = error.reason
        elif len(items) == 1:
            culprits, parts = list(items), []
        else:
            middle = len(items) // 2
            culprits, parts = [], [items[:middle], items[middle:]]
        results |= {item.file.path: failure(item, error) for item in culprits}
        self._doubtful |= bool(culprits)
        log.warning("batch divided", files=len(items), culprits=len(culprits), error=repr(error))
        return parts

    def _transact(self, items: Sequence[Item], wanted: Wanted) -> _Outcome:
        """Write files, their exposures and visits in one transaction."""
        outcome = _Outcome()
        placed: list[tuple[Item, Exposure, Placed]] = []
        with self.connect().transaction():
            for item in items:
                try:
                    exposure = self._exposure(item, wanted, outcome)
                    if exposure is None:
                        outcome.results.append(unsuccessful(item, "waiting"))
                        continue
                    place = self._datasets.place(item.file, exposure, item.identity.detector)
                except PermanentError as err:
                    outcome.results.append(failure(item, err))
                else:
                    placed.append((item, exposure, place))
            placed.sort(key=lambda found: found[0].order)
            duplicates = self._datasets.ingest([place for _, _, place in placed])
        for item, exposure, _ in placed:
            outcome.results.append(
                FileResult(
                    item.file.path,
                    "ingested",
                    instrument=exposure.record.instrument,
                    exposure_id=exposure.record.id,
                    obs_id=exposure.record.obs_id,
                    day_obs=exposure.record.day_obs,
                    duplicate=item.file.path in duplicates,
                    replaced=duplicates.get(item.file.path, False),
                )
            )
        return outcome

    def _exposure(self, item: Item, wanted: Wanted, outcome: _Outcome) -> Exposure | None:
        """Return a file's exposure, written if need be; None for a guider whose exposure is not there."""
        instrument, key = item.identity.instrument, item.exposure
        if key is None:
            for exposure in outcome.exposures.values():
                if (exposure.record.instrument, exposure.record.obs_id) == (instrument, item.identity.obs_id):
                    return exposure
            return self._exposures.find(instrument, item.identity.obs_id)
        record = wanted.get((key, item.digest))
        known = outcome.exposures.get(key) or self._exposures.get(key)
        if known is None:
            assert record is not None
            try:
                known = self._exposures.ensure(record)
            except BaseException as err:
                raise _ExposureFailedError(item, err) from err
            self._visit(key, known, outcome)
        outcome.exposures[key] = known
        if item.digest not in known.agreed:
            assert record is not None
            if updated := self._exposures.check(known, record):
                outcome.exposures[key] = known = updated
                self._visit(key, known, outcome, update=True)
            known.agreed.add(item.digest)
        return known

    def _visit(self, key: Key, exposure: Exposure, outcome: _Outcome, *, update: bool = False) -> None:
        """Define an exposure's visit with it, or let it be done after the commit."""
        if self._visits.is_snap(exposure.record):
            outcome.snaps[key] = update or outcome.snaps.get(key, False)
        else:
            self._define(exposure, outcome.done, update=update)
