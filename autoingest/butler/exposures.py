"""Records of exposures."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog
from lsst.daf.butler import (
    Butler,
    DataCoordinate,
    DataIdValueError,
    DimensionRecord,
)

from ..app.config import DifferingMetadata
from ..errors import ConflictError
from ..instruments import ExposureRecord
from .engine import Key
from .records import rows

IDENTITY = frozenset({"obs_id", "day_obs", "group", "physical_filter"})
"""Fields in which a header must agree with the stored record, whatever the policy."""

REMEMBERED = 4000
"""Maximum number of cached exposures, about two nights."""

Fingerprint = tuple[tuple[object, ...], tuple[object, ...]]
"""The values of the cards that describe the exposure: those that are never refined, and pointing and times."""

log = structlog.get_logger(__name__)


class KeptDifferences:
    """Differences between stored records and headers that were left as they are; each is logged and counted once."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, int, str], None] = {}
        self._new: list[tuple[str, str]] = []

    def note(self, stored: DimensionRecord, row: Mapping[str, Any], fields: Iterable[str]) -> None:
        """Log the fields of a stored record that are kept although a header differs."""
        for name in sorted(fields):
            key = (stored.instrument, stored.id, name)
            if key in self._known:
                continue
            self._known[key] = None
            self._new.append((stored.instrument, name))
            log.info(
                "stored exposure record kept",
                instrument=stored.instrument, exposure=stored.id, field=name, stored=str(getattr(stored, name)),
                header=str(row[name]),
            )  # fmt: skip
        while len(self._known) > REMEMBERED:
            del self._known[next(iter(self._known))]

    def take(self) -> list[tuple[str, str]]:
        """Return instrument and field of the differences that were new since the last call."""
        new, self._new = self._new, []
        return new


@dataclass(slots=True)
class Exposure:
    """An exposure in the Butler."""

    coordinate: DataCoordinate
    """Data id of the exposure, with all its records."""
    agreed: set[Fingerprint] = field(default_factory=set)
    """Fingerprints of headers that are known to agree with the record."""

    @property
    def record(self) -> DimensionRecord:
        """The exposure's record."""
        record = self.coordinate.records["exposure"]
        assert record is not None
        return record


class Exposures:
    """Writes exposures, and caches those that are complete.

    Parameters
    ----------
    butler
        The repository.
    policy
        What to do if a header differs from the stored record.
    kept
        Collects the differences that the policy ``keep`` leaves.
    """

    def __init__(self, butler: Butler, policy: DifferingMetadata, kept: KeptDifferences) -> None:
        self._kept = kept
        self._butler = butler
        self._registry = butler.registry
        self._policy = policy
        self._complete: dict[Key, Exposure] = {}
        self._by_obs_id: dict[tuple[str, str], Exposure] = {}

    def get(self, key: Key) -> Exposure | None:
        """Return an exposure that is known to be complete: its record and its visit, if any, are committed."""
        return self._complete.get(key)

    def agreed(self, key: Key, fingerprint: Fingerprint) -> bool:
        """Return whether a header's exposure is complete and its record is known to agree with the header."""
        exposure = self._complete.get(key)
        return exposure is not None and fingerprint in exposure.agreed

    def remember(self, exposures: Iterable[Exposure]) -> None:
        """Cache exposures whose records and visits are committed."""
        for exposure in exposures:
            record = exposure.record
            if self._policy == "keep":  # otherwise each batch must read the current record
                self._complete[record.instrument, record.id] = exposure
            self._by_obs_id[record.instrument, record.obs_id] = exposure

    def trim(self) -> None:
        """Forget the oldest exposures, if there are more than `REMEMBERED`."""
        while len(self._complete) > REMEMBERED:
            del self._complete[next(iter(self._complete))]
        while len(self._by_obs_id) > REMEMBERED:
            del self._by_obs_id[next(iter(self._by_obs_id))]

    def find(self, instrument: str, obs_id: str) -> Exposure | None:
        """Look an exposure up by its obs_id."""
        if exposure := self._by_obs_id.get((instrument, obs_id)):
            return exposure
        records = self._butler.query_dimension_records(
            "exposure",
            where="exposure.obs_id = name",
            bind={"name": obs_id},
            instrument=instrument,
            explain=False,
        )
        if not records or (exposure := self.stored(instrument, records[0].id)) is None:
            return None
        self._by_obs_id[instrument, obs_id] = exposure
        return exposure

    def ensure(self, header: ExposureRecord) -> Exposure:
        """Write the missing records of an exposure; within a transaction.

        Returns
        -------
        exposure
            As it is stored, which may differ from the header: see `check`.
        """
        exposure = self.stored(header.instrument, header.id)
        if exposure is None:
            # Another writer may be doing the same. The second one waits here until the first has committed, inserts
            # nothing, and then finds record and visit.
            for element, row in rows(header).items():
                self._registry.insertDimensionData(element, row, skip_existing=True)
            exposure = self.stored(header.instrument, header.id)
            assert exposure is not None
        return exposure

    def check(self, exposure: Exposure, header: ExposureRecord) -> Exposure | None:
        """Compare the stored record with a header's; within a transaction.

        Returns
        -------
        updated
            The exposure as it is now stored, if the record was rewritten.

        Raises
        ------
        ConflictError
            If they differ in what the policy does not cover.
        """
        row = rows(header)["exposure"]
        differing = self._differing(exposure.record, row)
        if not differing:
            return None
        if self._policy == "keep":
            self._kept.note(exposure.record, row, differing)
            return None
        self._registry.syncDimensionData("exposure", row, update=True)
        log.info("stored exposure record updated", exposure=header.id, differs=sorted(differing))
        return self.stored(header.instrument, header.id)

    def reconciled(self, header: DimensionRecord) -> DimensionRecord:
        """Return the record to store for a header: the stored one, if the policy keeps it.

        Raises
        ------
        ConflictError
            If they differ in what the policy does not cover.
        """
        exposure = self.stored(header.instrument, header.id)
        if exposure is None:
            return header
        row = header.toDict()
        differing = self._differing(exposure.record, row)
        if differing and self._policy == "update":
            return header
        self._kept.note(exposure.record, row, differing)
        return exposure.record

    def _differing(self, stored: DimensionRecord, row: Mapping[str, Any]) -> set[str]:
        """Return the fields in which a header differs from the stored record, if the policy covers them."""
        differing = {name for name, value in row.items() if not _same(name, getattr(stored, name), value)}
        if fatal := sorted(differing if self._policy == "fail" else differing & IDENTITY):
            raise ConflictError(
                "the stored exposure record differs from the header: "
                + ", ".join(f"{name} is {getattr(stored, name)!r}, not {row[name]!r}" for name in fatal),
                exposure=stored.id,
            )
        return differing

    def stored(self, instrument: str, exposure_id: int) -> Exposure | None:
        """Look an exposure up by its id."""
        try:
            return Exposure(self._registry.expandDataId(instrument=instrument, exposure=exposure_id))
        except DataIdValueError:
            return None


def _same(name: str, stored: object, value: object) -> bool:
    if isinstance(value, float) and math.isnan(value):  # SQLite stores NaN as NULL
        return stored is None or stored != stored
    if isinstance(stored, float) and isinstance(value, float | int) and math.isfinite(value):
        if name == "sky_angle":
            return math.isclose((stored - value + 180.0) % 360.0, 180.0, abs_tol=1e-9)
        return math.isclose(stored, value, rel_tol=1e-9)
    return stored == value
