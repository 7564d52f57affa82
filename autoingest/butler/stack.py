"""The engine that uses the Science Pipelines' own tasks.

The tasks read no object: they get the header that was read before as if it were the image's sidecar. Files that are in
the repository already are left out, because the tasks would fail a whole exposure for one of them. If they fail, the
files are divided until the bad ones are alone. Unlike with the native engine, a batch is many transactions: what a
crash leaves undone is done when the batch is repeated.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace

import structlog
from lsst.daf.butler import DimensionRecord

from ..errors import ConflictError, PermanentError
from .batch import Item, failure, identify_files, unsuccessful
from .butler_engine import BatchProgress, ButlerEngine, OpenRepository
from .datasets import FileToIngest
from .engine import FileResult, IngestFile, Key
from .exposures import Exposure
from .outage import is_outage
from .resources import KnownImage
from .tasks import TaskReport, Tasks

SNAP_VISITS = 2
"""Number of visits of an exposure that is one of several snaps: its own and the group's."""

log = structlog.get_logger(__name__)


_Task = Callable[[list[KnownImage], TaskReport], object]


class StackWriter:
    """Writes files, exposures and visits by `lsst.obs.base` and `lsst.obs.lsst`.

    It supports the cameras that `autoingest.instruments` knows.
    """

    def __init__(self, repository: OpenRepository) -> None:
        self._tasks = Tasks()
        self._repository = repository
        self._exposures = repository.exposures
        self._visits = repository.visits
        self._datasets = repository.datasets
        self._updates = repository.policy == "update"
        self._stored: dict[Key, Exposure] = {}
        self._tasks.bind(repository.butler, self._exposures.reconciled, repository.grouping, update=self._updates)

    def write(self, files: Sequence[IngestFile], progress: BatchProgress) -> None:
        """Write raws, then visits, then guiders."""
        results = progress.results
        items = identify_files(files, self._repository.admit, results)
        self._stored = {}
        changed: set[Key] = set()
        for alike in _alike(items):
            changed |= self._write(alike, self._tasks.ingest_raws, results)
        keys = {item.exposure for item in items if item.exposure and results[item.file.path].outcome == "ingested"}
        for key in sorted(keys):
            if key in changed or self._exposures.get(key) is None:
                exposure = self._exposures.stored(*key)
                assert exposure is not None
                progress.define_visits(self.define_visits, exposure.record, update=key in changed and self._updates)
                self._stored[key] = exposure
        self._exposures.remember(self._stored[key] for key in keys & self._stored.keys() - progress.owed.keys())
        self._write([item for item in items if item.exposure is None], self._tasks.ingest_guiders, results)

    def define_visits(self, exposure: DimensionRecord, *, update: bool) -> list[Key]:
        """Define the missing visits of an exposure, or rewrite all of them; return the new ones."""
        # The task would rewrite existing regions, which may have been refined since.
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

    def _write(self, items: Sequence[Item], task: _Task, results: dict[str, FileResult]) -> set[Key]:
        """Write files by a task, repeatedly until the bad ones are alone; return the exposures that it wrote."""
        new = self._missing(items, results)
        if not new:
            return set()
        report, error = self._run(task, new)
        left = []
        for url, item in new.items():
            path = item.file.path
            if url in report.ingested:
                results[path] = self._ingested(item)
            elif url in report.waiting:
                results[path] = unsuccessful(item, "waiting")
            elif unreadable := report.unreadable.get(url):
                results[path] = unsuccessful(item, "failed", "metadata", f"{type(unreadable).__name__}: {unreadable}")
            else:
                error = report.failed.get(url, error)
                left.append(item)
        if len(new) == 1:
            # Another writer may just have written it.
            for item in self._missing(left, results).values():
                results[item.file.path] = failure(item, error)
            return report.exposures
        if not left:
            return report.exposures
        log.warning("batch divided", files=len(new), left=len(left), error=repr(error))
        exposures = defaultdict(list)
        for item in left:
            exposures[item.identity.instrument, item.identity.obs_id].append(item)
        if len(exposures) == 1:
            return report.exposures | self._divide(left, error, task, results)
        for part in exposures.values():
            report.exposures |= self._write(part, task, results)
        return report.exposures

    def _divide(self, items: list[Item], error: BaseException, task: _Task, results: dict[str, FileResult]) -> set[Key]:
        """Write files of one exposure that failed together in parts, unless all would fail again.

        That is worth finding out first, since each attempt translates all headers.
        """
        rest, written = items, set[Key]()
        if self._exposure(items[0]) is None:
            # The exposure's record could not be written from its first file. Two others are tried.
            probes = {len(items) // 2, len(items) - 1}
            rest = [item for index, item in enumerate(items) if index not in probes]
            for index in probes:
                written |= self._write([items[index]], task, results)
        if self._exposure(items[0]) is None or isinstance(error, ConflictError):
            results |= {item.file.path: failure(item, error) for item in rest}
            return written
        middle = (len(rest) + 1) // 2
        return written | self._write(rest[:middle], task, results) | self._write(rest[middle:], task, results)

    def _run(self, task: _Task, items: dict[str, Item]) -> tuple[TaskReport, BaseException]:
        """Run a task; return its report, and the error of the files that it did not report."""
        report, paths = TaskReport(), []
        for item in items.values():
            path = KnownImage.of(item.file.url, item.file.size)
            path.header = item.file.header
            paths.append(path)
        error: BaseException = PermanentError("the task did not report this file")
        try:
            task(paths, report)
        except BaseException as err:
            # A task raises an error at the end if anything failed, whatever it has reported before.
            error = err
        for each in (*report.failed.values(), *report.unreadable.values(), error):
            if is_outage(each):
                raise each
        return report, error

    def _missing(self, items: Sequence[Item], results: dict[str, FileResult]) -> dict[str, Item]:
        """Return the files that the repository lacks, by URL; record the results of the others."""
        if not items:
            return {}
        new: dict[str, Item] = {}
        known: dict[object, tuple[Item, FileToIngest]] = {}
        for item in items:
            try:
                self._datasets.detector(item.identity.instrument, item.identity.detector)
            except PermanentError as err:
                results[item.file.path] = failure(item, err)
                continue
            new[str(KnownImage.of(item.file.url, item.file.size))] = item
            if exposure := self._exposure(item):
                file = self._datasets.file_to_ingest(item.file, exposure, item.identity.detector)
                known.setdefault(file.ref.id, (item, file))
        with self._repository.butler.transaction():
            _, duplicates = self._datasets.find_new([file for _, file in known.values()])
        for item, file in known.values():
            if item.file.path in duplicates:
                del new[str(file.resource)]
                replaced = duplicates[item.file.path]
                results[item.file.path] = replace(self._ingested(item), duplicate=True, replaced=replaced)
        return new

    def _exposure(self, item: Item) -> Exposure | None:
        """Look up a file's exposure, once per batch."""
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
            detector=self._datasets.detector(item.identity.instrument, item.identity.detector).full_name,
        )

    def _definitions(self, exposure: DimensionRecord) -> list[DimensionRecord]:
        """Return the visit definitions of an exposure or of all snaps of its group."""
        query = self._repository.butler.query_dimension_records
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
    """Divide raws so that in each part the headers of an exposure agree.

    The task makes an exposure's record from one of its files and does not compare the others.
    """
    files: dict[Key, dict[object, list[Item]]] = defaultdict(lambda: defaultdict(list))
    for item in items:
        if item.exposure:
            files[item.exposure][item.fingerprint].append(item)
    rounds: list[list[Item]] = []
    for variants in files.values():
        for index, variant in enumerate(variants.values()):
            if index == len(rounds):
                rounds.append([])
            rounds[index] += variant
    return rounds


class StackEngine(ButlerEngine):
    """Ingests by `StackWriter`."""

    def make_writer(self, repository: OpenRepository) -> StackWriter:
        """Return the writer for an open repository."""
        return StackWriter(repository)
