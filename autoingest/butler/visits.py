"""Defines visits from exposures."""

from __future__ import annotations

import cmath
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import degrees, isnan, radians
from typing import Any

import structlog
from lsst.daf.butler import Butler, DimensionRecord, Timespan

from .. import instruments
from ..app.config import Grouping
from ..instruments.geometry import visit_regions
from .engine import Key

ONE_TO_ONE = 0
BY_COUNTER = 2
SYSTEMS = {ONE_TO_ONE: "one-to-one", BY_COUNTER: "by-seq-start-end"}
"""Names of the visit systems: each exposure is a visit; all snaps of a group are one."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Definition:
    """A visit to be written."""

    id: int
    name: str
    exposures: Sequence[DimensionRecord]
    """Exposures in the order in which they were taken; the visit has the pointing of the first."""
    systems: Sequence[int]


class Visits:
    """Defines visits; each call must be made within a transaction.

    Grouped by counter, the exposures of a day with the same first and last counter form a visit. If first and last are
    equal, that is the exposure's own visit. Otherwise the group's visit has the id and name of its first exposure,
    whose own visit then has a 9 before its id and ``_first`` after its name. The group's visit can't be defined before
    its first exposure has arrived, and is extended with every later one.

    Parameters
    ----------
    butler
        The repository.
    grouping
        How exposures are grouped.
    """

    def __init__(self, butler: Butler, grouping: Grouping) -> None:
        self._butler = butler
        self._registry = butler.registry
        self._grouping = grouping
        self._systems = {
            "one-to-one": (ONE_TO_ONE,),
            "one-to-one-and-by-counter": (ONE_TO_ONE, BY_COUNTER),
            "none": (),
        }[grouping]

    def register(self, instrument: str) -> None:
        """Make sure that the visit systems exist."""
        rows = [{"instrument": instrument, "id": system, "name": SYSTEMS[system]} for system in self._systems]
        if rows and instruments.get(instrument).has_visits:
            self._registry.insertDimensionData("visit_system", *rows, skip_existing=True)

    def due(self, exposure: DimensionRecord) -> bool:
        """Return whether an exposure is to be a visit: it is on the sky, as far as known, and not of the annex."""
        return self._grouping != "none" and instruments.get(exposure.instrument).has_visits and _on_sky(exposure)

    def is_snap(self, exposure: DimensionRecord) -> bool:
        """Return whether an exposure's visits depend on other exposures.

        They are defined after the exposure is committed, so that the last of several writers sees all snaps.
        """
        return BY_COUNTER in self._systems and exposure.seq_start != exposure.seq_end

    def ids(self, exposure: DimensionRecord) -> list[int]:
        """Return the ids of the visits that an exposure belongs to, once all snaps of its group have arrived."""
        if not self.due(exposure):
            return []
        if not self.is_snap(exposure):
            return [exposure.id]
        first = exposure.id - (exposure.seq_num - exposure.seq_start)
        return [_first_id(first) if exposure.id == first else exposure.id, first]

    def define(self, exposure: DimensionRecord, *, update: bool = False) -> list[Key]:
        """Write the visits of an exposure that are missing or incomplete.

        Parameters
        ----------
        exposure
            The stored exposure.
        update
            Whether existing records and regions are rewritten.

        Returns
        -------
        defined
            Instrument and id of the new visits.
        """
        if not self.due(exposure):
            return []
        definitions = self._group(exposure) if self.is_snap(exposure) else [_own(exposure, self._systems)]
        return [
            (exposure.instrument, definition.id) for definition in definitions if self._write(definition, update=update)
        ]

    def _group(self, exposure: DimensionRecord) -> list[Definition]:
        """Return the visits of all snaps of an exposure's group that have arrived."""
        # Rewriting the system's row locks it, so that writers of groups take turns and see each other's work.
        row = {"instrument": exposure.instrument, "id": BY_COUNTER, "name": SYSTEMS[BY_COUNTER]}
        self._registry.insertDimensionData("visit_system", row, replace=True)
        found = self._butler.query_dimension_records(
            "exposure",
            where="exposure.seq_start = first AND exposure.seq_end = last",
            bind={"first": exposure.seq_start, "last": exposure.seq_end},
            instrument=exposure.instrument,
            day_obs=exposure.day_obs,
        )
        first, *others = snaps = sorted(filter(_on_sky, found), key=lambda record: record.seq_num)
        own = [_own(snap, (ONE_TO_ONE,)) for snap in others]
        if first.seq_num != first.seq_start:
            log.info("first snap is not there yet", exposure=exposure.id, seq_start=first.seq_start)
            return [_own(first, (ONE_TO_ONE,)), *own]
        return [
            Definition(_first_id(first.id), f"{first.obs_id}_first", (first,), (ONE_TO_ONE,)),
            *own,
            Definition(first.id, first.obs_id, snaps, (BY_COUNTER,)),
        ]

    def _write(self, definition: Definition, *, update: bool) -> bool:
        """Write a visit unless it exists and is complete; existing regions may have been refined."""
        instrument = definition.exposures[0].instrument
        key = {"instrument": instrument, "visit": definition.id}
        stored = self._butler.query_dimension_records("visit", **key, explain=False)
        if not stored:
            self._insert(definition, key)
            return True
        if len(definition.exposures) > 1 or update:
            self._complete(definition, key, stored[0], update=update)
        return False

    def _insert(self, definition: Definition, key: dict[str, Any]) -> None:
        regions = _regions(definition)
        insert = self._registry.insertDimensionData
        insert("visit", {**_row(definition), "region": regions.visit}, skip_existing=True)
        members = [{**key, "exposure": exposure.id} for exposure in definition.exposures]
        insert("visit_definition", *members, skip_existing=True)
        systems = [{**key, "visit_system": system} for system in definition.systems]
        insert("visit_system_membership", *systems, skip_existing=True)
        insert("visit_detector_region", *_detector_rows(key, regions.detectors), skip_existing=True)

    def _complete(self, definition: Definition, key: dict[str, Any], stored: DimensionRecord, *, update: bool) -> None:
        known = {
            record.exposure for record in self._butler.query_dimension_records("visit_definition", **key, explain=False)
        }
        new = [exposure for exposure in definition.exposures if exposure.id not in known]
        if not new and not update:
            return
        region = stored.region
        if update:
            regions = _regions(definition)
            region = regions.visit
            rows = _detector_rows(key, regions.detectors)
            self._registry.insertDimensionData("visit_detector_region", *rows, replace=True)
        self._registry.syncDimensionData("visit", {**_row(definition), "region": region}, update=True)
        if new:
            rows = [{**key, "exposure": exposure.id} for exposure in new]
            self._registry.insertDimensionData("visit_definition", *rows, skip_existing=True)


def _on_sky(exposure: DimensionRecord) -> bool:
    pointing = (exposure.tracking_ra, exposure.tracking_dec, exposure.sky_angle)
    return all(angle is not None and not isnan(angle) for angle in pointing) and exposure.can_see_sky is not False


def _first_id(exposure_id: int) -> int:
    """Return the id of the own visit of a group's first exposure."""
    return int(f"9{exposure_id}")


def _own(exposure: DimensionRecord, systems: Sequence[int]) -> Definition:
    """Return the visit that consists of one exposure."""
    return Definition(exposure.id, exposure.obs_id, (exposure,), systems)


def _regions(definition: Definition) -> instruments.geometry.VisitRegions:
    first = definition.exposures[0]
    camera = instruments.get(first.instrument)
    return visit_regions(camera, first.tracking_ra, first.tracking_dec, first.sky_angle)


def _detector_rows(key: dict[str, Any], regions: Any) -> list[dict[str, Any]]:
    return [{**key, "detector": detector, "region": region} for detector, region in regions.items()]


def _row(definition: Definition) -> dict[str, Any]:
    """Return a visit's row without region; values that differ between its exposures are left out."""
    exposures = definition.exposures
    zenith_angles = [exposure.zenith_angle for exposure in exposures]
    return {
        "instrument": exposures[0].instrument,
        "id": definition.id,
        "name": definition.name,
        "day_obs": exposures[0].day_obs,
        "physical_filter": _common(exposure.physical_filter for exposure in exposures),
        "seq_num": exposures[0].seq_num,
        "exposure_time": sum(exposure.exposure_time for exposure in exposures),
        "target_name": _common(exposure.target_name for exposure in exposures),
        "observation_reason": _common(exposure.observation_reason for exposure in exposures) or "various",
        "science_program": _common(exposure.science_program for exposure in exposures),
        "azimuth": _mean_angle([exposure.azimuth for exposure in exposures]),
        "zenith_angle": None if None in zenith_angles else sum(zenith_angles) / len(zenith_angles),
        "timespan": Timespan(
            min(exposure.timespan.begin for exposure in exposures), max(exposure.timespan.end for exposure in exposures)
        ),
    }


def _common(values: Iterable[str | None]) -> str | None:
    different = set(values)
    return different.pop() if len(different) == 1 else None


def _mean_angle(angles: Sequence[float | None]) -> float | None:
    """Return the mean of angles in degrees, in (-180, 180]; of a single angle, the angle itself."""
    known = [angle for angle in angles if angle is not None]
    if len(known) < len(angles):
        return None
    if len(known) == 1:
        return known[0]
    return degrees(cmath.phase(sum(cmath.rect(1.0, radians(angle)) for angle in known)))
