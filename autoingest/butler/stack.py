"""The engine that writes the Butler with the Science Pipelines' own tasks.

The tasks read no object: they find the header that the reader of headers has read as if it were the image's sidecar
file. Which files are in the repository already is asked before they run, because they fail a whole exposure for one
of them. What they then fail is divided until the files that make them fail are alone. Unlike the native engine's, a
batch is many transactions: whatever a crash leaves undone is found missing when the batch is tried again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace

import structlog
from lsst.daf.butler import Butler, DimensionRecord

from ..errors import ConflictError, PermanentError
from .base import ButlerEngine
from .batch import Item, failure, identified, unsuccessful
from .datasets import Placed
from .engine import BatchResult, FileResult, IngestFile, Key
from .exposures import Exposure
from .outage import is_outage
from .resources import KnownImage
from .tasks import Tasks, Told

SNAP_VISITS = 2
"""Visits of an exposure that is one of several snaps: its own and the group's."""

log = structlog.get_logger(__name__)


_Task = Callable[[list[KnownImage], Told], object]


class StackEngine(ButlerEngine):
    """Writes files, exposures and visits by `lsst.obs.base` and `lsst.obs.lsst`.

    It takes the cameras that `autoingest.instruments` knows.
    """

    def connect(self) -> Butler:
        """Open the repository unless it is open; see `ButlerEngine.connect`."""
        if self._butler is None:
            self._tasks = Tasks()
            butler = super().connect()
            self._tasks.bind(butler, self._exposures.reconciled, self._grouping, update=self._policy == "update")
        return super().connect()

    def _batch(self, files: Sequence[IngestFile], results: dict[str, FileResult], done: BatchResult) -> None:
        items = identified(files, self._admit, results)
        self._stored: dict[Key, Exposure] = {}
        changed: set[Key] = set()
        for alike in _alike(items):
            changed |= self._write(alike, self._tasks.ingest_raws, results)
        keys = {item.exposure for item in items if item.exposure and results[item.file.path].outcome == "ingested"}
        for key in sorted(keys):
            if key in changed or self._exposures.get(key) is None:
                exposure = self._exposures.stored(*key)
                assert exposure is not None
                self._define(exposure, done, update=key in changed and self._policy == "update")
                self._stored[key] = exposure
        owed = {(visit.instrument, visit.exposure_id) for visit in done.owed}
        self._exposures.remember(self._stored[key] for key in keys & self._stored.keys() - owed)
        self._write([item for item in items if item.exposure is None], self._tasks.ingest_guiders, results)

    def _write(self, items: Sequence[Item], task: _Task, results: dict[str, FileResult]) -> set[Key]:
        """Have a task write files, again and again until the bad ones are alone; return the exposures it wrote."""
        new = self._sift(items, results)
        if not new:
            return set()
        told, error = self._run(task, new)
        left = []
        for url, item in new.items():
            path = item.file.path
            if url in told.ingested:
                results[path] = self._ingested(item)
            elif url in told.waiting:
                results[path] = unsuccessful(item, "waiting")
            elif unreadable := told.unreadable.get(url):
                results[path] = unsuccessful(item, "failed", "metadata", f"{type(unreadable).__name__}: {unreadable}")
            else:
                error = told.failed.get(url, error)
                left.append(item)
        if len(new) == 1:
            # Another writer may just have been faster with it.
            for item in self._sift(left, results).values():
                results[item.file.path] = failure(item, error)
            return told.exposures
        if not left:
            return told.exposures
        log.warning("batch divided", files=len(new), left=len(left), error=repr(error))
        exposures = defaultdict(list)
        for item in left:
            exposures[item.identity.instrument, item.identity.obs_id].append(item)
        if len(exposures) == 1:
            return told.exposures | self._divide(left, error, task, results)
        for part in exposures.values():
            told.exposures |= self._write(part, task, results)
        return told.exposures

    def _divide(self, items: list[Item], error: BaseException, task: _Task, results: dict[str, FileResult]) -> set[Key]:
        """Have files of one exposure that failed together written in parts, unless they will all fail again.

        That they will is worth knowing: each try costs the translation of all headers.
        """
        rest, written = items, set[Key]()
        if self._exposure(items[0]) is None:
            # The exposure's record could not be written from its first file. Two more are asked.
            probes = {len(items) // 2, len(items) - 1}
            rest = [item for index, item in enumerate(items) if index not in probes]
            for index in probes:
                written |= self._write([items[index]], task, results)
        if self._exposure(items[0]) is None or isinstance(error, ConflictError):
            results |= {item.file.path: failure(item, error) for item in rest}
            return written
        middle = (len(rest) + 1) // 2
        return written | self._write(rest[:middle], task, results) | self._write(rest[middle:], task, results)

    def _run(self, task: _Task, items: dict[str, Item]) -> tuple[Told, BaseException]:
        """Run a task; return what it told, and the error of the files that it told nothing of."""
        told, paths = Told(), []
        for item in items.values():
            path = KnownImage.of(item.file.url, item.file.size)
            path.header = item.file.header
            paths.append(path)
        error: BaseException = PermanentError("the task said nothing about this file")
        try:
            task(paths, told)
        except BaseException as err:
            # At its end a task raises an error if anything failed, whatever it has told before.
            error = err
        for each in (*told.failed.values(), *told.unreadable.values(), error):
            if is_outage(each):
                raise each
        return told, error

    def _sift(self, items: Sequence[Item], results: dict[str, FileResult]) -> dict[str, Item]:
        """Return the files that the repository lacks, by URL; leave the results of the others."""
        if not items:
            return {}
        new: dict[str, Item] = {}
        placed: dict[object, tuple[Item, Placed]] = {}
        for item in items:
            try:
                self._datasets.detector(item.identity.instrument, item.identity.detector)
            except PermanentError as err:
                results[item.file.path] = failure(item, err)
                continue
            new[str(KnownImage.of(item.file.url, item.file.size))] = item
            if exposure := self._exposure(item):
                place = self._datasets.place(item.file, exposure, item.identity.detector)
                placed.setdefault(place.ref.id, (item, place))
        with self.connect().transaction():
            _, duplicates = self._datasets.sift([place for _, place in placed.values()])
        for item, place in placed.values():
            if item.file.path in duplicates:
                del new[str(place.resource)]
                replaced = duplicates[item.file.path]
                results[item.file.path] = replace(self._ingested(item), duplicate=True, replaced=replaced)
        return new

    def _exposure(self, item: Item) -> Exposure | None:
        """Look up a file's exposure, once in a batch if it is there."""
        if (key := item.exposure) is None:
            return self._exposures.find(item.identity.instrument, item.identity.obs_id)
        if key not in self._stored and (exposure := self._exposures.get(key) or self._exposures.stored(*key)):
            self._stored[key] = exposure
        return self._stored.get(key)

    def _ingested(self, item: Item) -> FileResult:
        exposure = self._exposure(item)
        assert exposure is not None
        record = exposure.record
        return FileResult(
            item.file.path,
            "ingested",
            instrument=record.instrument,
            exposure_id=record.id,
            obs_id=record.obs_id,
            day_obs=record.day_obs,
        )

    def _define_visits_of(self, exposure: DimensionRecord, *, update: bool) -> list[Key]:
        # The task writes regions anew that are there, and they may have been refined since.
        if not self._visits.due(exposure):
            return []
        before = self._definitions(exposure)
        known = [row for row in before if row.exposure == exposure.id]
        expected = SNAP_VISITS if self._visits.is_snap(exposure) else 1
        if len(known) >= expected and not update:
            return []
        self._tasks.define_visits(exposure, update=update)
        new = {row.visit for row in self._definitions(exposure)} - {row.visit for row in before}
        return sorted((exposure.instrument, visit) for visit in new)

    def _definitions(self, exposure: DimensionRecord) -> list[DimensionRecord]:
        """Return which exposures make up which visits, for an exposure or all snaps of its group."""
        query = self.connect().query_dimension_records
        if not self._visits.is_snap(exposure):
            return query("visit_definition", instrument=exposure.instrument, exposure=exposure.id, explain=False)
        return query(
            "visit_definition",
            where="exposure.day_obs = day AND exposure.seq_start = first AND exposure.seq_end = last",
            bind={"day": exposure.day_obs, "first": exposure.seq_start, "last": exposure.seq_end},
            instrument=exposure.instrument,
            explain=False,
        )


def _alike(items: Sequence[Item]) -> list[list[Item]]:
    """Divide raws such that in each part an exposure's files tell the same.

    The task makes an exposure's record from one of its files and never compares the others.
    """
    told: dict[Key, dict[object, list[Item]]] = defaultdict(lambda: defaultdict(list))
    for item in items:
        if item.exposure:
            told[item.exposure][item.digest].append(item)
    rounds: list[list[Item]] = []
    for variants in told.values():
        for index, variant in enumerate(variants.values()):
            if index == len(rounds):
                rounds.append([])
            rounds[index] += variant
    return rounds
