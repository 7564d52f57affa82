"""Compares what ingest has written to two repositories, record by record."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from lsst.daf.butler import Butler, ButlerUserError, DatasetRef, DimensionRecord, Timespan
from lsst.sphgeom import ConvexPolygon
from lsst.utils.iteration import chunk_iterable
from sqlalchemy.exc import SQLAlchemyError

from ..errors import AutoingestError, ConfigurationError
from ..instruments.geometry import separation
from . import private
from .repository import open_repository

BY_INSTRUMENT = ("instrument", "detector", "physical_filter", "visit_system")
BY_DAY = (
    "day_obs", "group", "exposure", "visit", "visit_definition", "visit_system_membership", "visit_detector_region",
)  # fmt: skip
KINDS = (*BY_INSTRUMENT, *BY_DAY, "dataset", "datastore record")
"""Kinds of records that are compared, in this order."""

RUNS = "*/raw/*"
"""Runs whose datasets are compared: those that ingest writes."""

REFS_AT_ONCE = 2000
"""Number of datasets whose datastore records are read in one query."""

Rows = dict[str, Mapping[str, Any]]
"""Fields of each row by its key in words."""

_DataIds = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Tolerance:
    """Tolerances within which values count as equal."""

    relative: float = 1e-9
    """Of numbers, relative; angles on the sky modulo 360 degrees."""
    region: float = 1e-6
    """Arcseconds from any corner of a region to the nearest corner of the other."""
    timespan: float = 0.0
    """Seconds, of begin and end."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A field that differs, or a row that only one repository has."""

    kind: str
    """One of `KINDS`."""
    key: str
    field: str | None
    """None where the row is missing on one side."""
    a: str | None
    b: str | None


@dataclass(slots=True)
class Count:
    """Rows of one kind."""

    kind: str
    equal: int = 0
    differing: int = 0
    only_a: int = 0
    only_b: int = 0


@dataclass(slots=True)
class Comparison:
    """The result of `compare`."""

    counts: list[Count] = field(default_factory=list)
    differences: list[Difference] = field(default_factory=list)
    """The first differences of each kind."""

    @property
    def equal(self) -> bool:
        """Whether nothing differs."""
        return not any(count.differing or count.only_a or count.only_b for count in self.counts)


def compare(
    a: str,
    b: str,
    *,
    instrument: str | None = None,
    day_obs: int | None = None,
    tolerance: Tolerance | None = None,
    show: int = 20,
    progress: Callable[[str], None] = lambda kind: None,
) -> Comparison:
    """Compare two repositories.

    Parameters
    ----------
    a, b
        The repositories: directory, URL or label.
    instrument
        Compare only this instrument.
    day_obs
        Compare only records of this observing day, YYYYMMDD, and those without a day.
    tolerance
        When values count as equal.
    show
        Maximum number of differences of each kind to list.
    progress
        Called with each of `KINDS` when it is done.

    Raises
    ------
    ConfigurationError
        If a repository can't be opened.
    AutoingestError
        If it can't be read.
    """
    with open_repository(a) as butler_a, open_repository(b) as butler_b:
        readers = [_Reader(butler_a, instrument, day_obs), _Reader(butler_b, instrument, day_obs)]
        if instrument and not any(reader.knows_instrument() for reader in readers):
            raise ConfigurationError(f"neither repository knows the instrument {instrument!r}")
        result = Comparison()
        for kind in KINDS:
            try:
                rows_a, rows_b = (reader.rows(kind) for reader in readers)
            except (SQLAlchemyError, ButlerUserError, OSError) as err:
                raise AutoingestError(f"{kind} can't be read: {type(err).__name__}: {err}") from err
            _compare_rows(kind, rows_a, rows_b, tolerance or Tolerance(), show, result)
            progress(kind)
        return result


class _Reader:
    def __init__(self, butler: Butler, instrument: str | None, day_obs: int | None) -> None:
        self._butler = butler
        self._instrument: _DataIds = [{} if instrument is None else {"instrument": instrument}]
        self._has_day = day_obs is not None
        self._day = self._instrument
        if day_obs is not None:
            names = [record.name for record in self._records("instrument", self._instrument)]
            self._day = [{"instrument": name, "day_obs": day_obs} for name in names]
        self._refs: dict[str, DatasetRef] = {}

    def knows_instrument(self) -> bool:
        return bool(self._records("instrument", self._instrument))

    def rows(self, kind: str) -> Rows:
        if kind == "dataset":
            self._refs = dict(self._datasets())
            return {key: {"id": str(ref.id)} for key, ref in self._refs.items()}
        if kind == "datastore record":
            return self._datastore_rows()
        if kind == "group":
            # A group itself has no day.
            exposures = self._records("exposure", self._day)
            used = {(record.instrument, record.group) for record in exposures}
            found = [
                record
                for record in self._records("group", self._instrument)
                if not self._has_day or (record.instrument, record.name) in used
            ]
        else:
            found = self._records(kind, self._instrument if kind in BY_INSTRUMENT else self._day)
        return {_words(record.dataId.required): record.toDict() for record in found}

    def _records(self, element: str, data_ids: _DataIds) -> list[DimensionRecord]:
        query = self._butler.query_dimension_records
        return [record for data_id in data_ids for record in query(element, data_id=data_id, limit=None, explain=False)]

    def _datasets(self) -> Iterator[tuple[str, DatasetRef]]:
        query = self._butler.query_datasets
        for info in self._butler.collections.query_info(RUNS, include_summary=True):
            for dataset_type in (info.dataset_types or ()) if info.type.name == "RUN" else ():
                for data_id in self._day:
                    for ref in query(
                        dataset_type, info.name, data_id=data_id, find_first=False, limit=None, explain=False
                    ):
                        yield f"{dataset_type} {_words(ref.dataId.required)} run={ref.run}", ref

    def _datastore_rows(self) -> Rows:
        keys = {ref.id: key for key, ref in self._refs.items()}
        rows: Rows = {}
        for refs in chunk_iterable(self._refs.values(), REFS_AT_ONCE):
            for datastore, dataset_id, record in private.file_records(self._butler, refs):
                key = keys[dataset_id] + (f" component={record.component}" if record.component else "")
                rows[key if key not in rows else f"{key} datastore={datastore}"] = {
                    "path": record.path,
                    "formatter": record.formatter,
                    "storage class": record.storageClass.name,
                    "file size": record.file_size,
                }
        return rows


def _compare_rows(kind: str, rows_a: Rows, rows_b: Rows, tolerance: Tolerance, show: int, result: Comparison) -> None:
    count = Count(kind)
    differences: list[Difference] = []
    for key in sorted(rows_a.keys() | rows_b.keys()):
        if len(differences) < show and (key not in rows_a or key not in rows_b):
            differences.append(Difference(kind, key, None, *("there" if key in r else None for r in (rows_a, rows_b))))
        if key not in rows_b:
            count.only_a += 1
        elif key not in rows_a:
            count.only_b += 1
        else:
            row_a, row_b = rows_a[key], rows_b[key]
            names = [
                name
                for name in dict.fromkeys([*row_a, *row_b])
                if not _same(name, row_a.get(name), row_b.get(name), tolerance)
            ]
            count.differing += bool(names)
            count.equal += not names
            differences += [
                Difference(kind, key, name, *_shown(row_a.get(name), row_b.get(name)))
                for name in names[: max(0, show - len(differences))]
            ]
    result.counts.append(count)
    result.differences += differences


def _same(name: str, a: Any, b: Any, tolerance: Tolerance) -> bool:
    if isinstance(a, float) and isinstance(b, float):
        if name == "sky_angle":
            return abs((a - b + 180.0) % 360.0 - 180.0) <= 360.0 * tolerance.relative
        return math.isclose(a, b, rel_tol=tolerance.relative)
    if isinstance(a, Timespan) and isinstance(b, Timespan):
        limit = tolerance.timespan * 1e9
        return all(abs(x - y) <= limit for x, y in zip(a.nsec, b.nsec, strict=True))
    if isinstance(a, ConvexPolygon) and isinstance(b, ConvexPolygon):
        return a == b or separation(a, b) <= tolerance.region
    return bool(a == b)


def _shown(a: Any, b: Any) -> tuple[str, str]:
    if isinstance(a, ConvexPolygon) and isinstance(b, ConvexPolygon):
        corners_a, corners_b = len(a.getVertices()), len(b.getVertices())
        return f"a polygon of {corners_a}", f"one of {corners_b}, {separation(a, b):.3g} arcsec away"
    return str(a), str(b)


def _words(data_id: Mapping[str, Any]) -> str:
    return " ".join(f"{name}={value}" for name, value in data_id.items())
