"""Repairs the regions of visits that were computed with a wrong geometry.

The focal plane of LATISS used not to be mirrored, so the regions of its visits were off by 10 arcseconds.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from math import inf, isfinite
from typing import Any

from lsst.daf.butler import Butler, DimensionRecord
from lsst.sphgeom import ConvexPolygon

from .. import instruments
from ..errors import ConfigurationError, TransientError
from ..instruments import Camera
from ..instruments.geometry import VisitRegions, separation, visit_regions
from .outage import cause, is_outage
from .register import registered
from .repository import open_repository

TOLERANCE = 1e-6
"""Arcseconds within which regions count as equal."""

CHUNK = 50
"""Number of visits whose regions are in memory at the same time: 10,250 regions of LSSTCam."""


@dataclass(slots=True)
class Found:
    """The state of the stored regions of a camera's visits."""

    right: int = 0
    """Visits whose regions are correct."""
    mistaken: int = 0
    """Visits whose regions were computed with the wrong geometry."""
    mistaken_arcsec: float = 0.0
    """The largest error of a corner of such a visit."""
    other: int = 0
    """Visits whose regions, or whose exposure's pointing, were refined; they are left alone."""
    other_arcsec: float = 0.0


@dataclass(frozen=True, slots=True)
class Report:
    """The result of `repair_regions`."""

    written: bool
    """Whether the wrong regions have been rewritten."""
    instruments: dict[str, Found] = field(default_factory=dict)


def mirrored() -> list[str]:
    """Return the cameras whose regions were once computed with the wrong geometry."""
    return [name for name in instruments.names() if instruments.get(name).flip_x]


def repair_regions(
    repo: str,
    names: Sequence[str],
    *,
    since: int | None = None,
    until: int | None = None,
    write: bool = False,
    progress: Callable[[int, int, str], None] = lambda done, total, what: None,
) -> Report:
    """Find the visits whose regions were computed with the wrong geometry, and rewrite them.

    Each day is one transaction, so an interrupted repair can be repeated. A visit is rewritten only if all of its
    stored regions are those of the wrong geometry for the stored pointing of its first exposure.

    Parameters
    ----------
    repo
        Directory, URL or label.
    names
        Cameras; those that the repository does not know are skipped.
    since, until
        First and last observing day, YYYYMMDD.
    write
        Whether to write, or only to look.
    progress
        Called with the number of days done and of all, and the name of the next.

    Raises
    ------
    ConfigurationError
        If there is no such repository.
    TransientError
        If its database is away. Days that are done stay so.
    """
    butler = open_repository(repo, writeable=write)
    try:
        report = Report(write)
        work = []
        for name in sorted(set(names) & registered(butler)):
            report.instruments[name] = Found()
            days = butler.query_dimension_records("day_obs", instrument=name, limit=None, explain=False)
            work += [(name, day) for day in sorted(record.id for record in days)
                     if (since or 0) <= day <= (until or day)]  # fmt: skip
        for index, (name, day) in enumerate(work):
            progress(index, len(work), f"{name} {day}")
            _repair_day(butler, instruments.get(name), day, report.instruments[name], write=write)
        progress(len(work), len(work), "done")
    except Exception as err:
        if is_outage(err):
            raise TransientError(f"the Butler repository {repo!r} can't be used now: {cause(err)}") from err
        raise ConfigurationError(
            f"the regions in the Butler repository {repo!r} can't be repaired: {type(err).__name__}: {err}", repo=repo
        ) from err
    finally:
        butler.close()
    return report


def _repair_day(butler: Butler, camera: Camera, day_obs: int, found: Found, *, write: bool) -> None:
    mistaken_camera = _mistaken(camera)
    insert = butler.registry.insertDimensionData
    with butler.registry.transaction():
        pointings = _pointings(butler, camera.name, day_obs)
        for visit, detectors in _stored(butler, camera.name, day_obs):
            pointing = pointings.get(visit.id)
            if pointing is None:
                found.other += 1
                continue
            right = visit_regions(camera, *pointing)
            distance = _distance(visit, detectors, right)
            if distance <= TOLERANCE:
                found.right += 1
            elif _distance(visit, detectors, visit_regions(mistaken_camera, *pointing)) > TOLERANCE:
                found.other += 1
                if isfinite(distance):
                    found.other_arcsec = max(found.other_arcsec, distance)
            else:
                found.mistaken += 1
                found.mistaken_arcsec = max(found.mistaken_arcsec, distance)
                if write:
                    rows = [{**row.toDict(), "region": right.detectors[row.detector]} for row in detectors]
                    insert("visit_detector_region", *rows, replace=True)
                    row = {**visit.toDict(), "region": right.visit}
                    butler.registry.syncDimensionData("visit", row, update=True)


@cache
def _mistaken(camera: Camera) -> Camera:
    """Return a camera with the wrong geometry: its focal plane not mirrored."""
    return replace(camera, flip_x=False)


def _distance(visit: DimensionRecord, detectors: Sequence[DimensionRecord], computed: VisitRegions) -> float:
    """Return the largest distance, arcseconds, of a stored region's corner from the computed ones.

    It is infinite if a region is missing, of another kind, or of a detector that the camera does not have.
    """
    pairs = [(visit.region, computed.visit), *((row.region, computed.detectors.get(row.detector)) for row in detectors)]
    return max(
        separation(region, other) if isinstance(region, ConvexPolygon) and other is not None else inf
        for region, other in pairs
    )


def _query(butler: Butler, element: str, instrument: str, day_obs: int) -> list[DimensionRecord]:
    return butler.query_dimension_records(element, instrument=instrument, day_obs=day_obs, limit=None, explain=False)


def _stored(butler: Butler, instrument: str, day_obs: int) -> Iterator[tuple[DimensionRecord, list[DimensionRecord]]]:
    """Return each visit of a day with the regions of its detectors, a few visits in memory at a time."""
    of_day = _query(butler, "visit", instrument, day_obs)
    for start in range(0, len(of_day), CHUNK):
        visits, regions = of_day[start : start + CHUNK], defaultdict(list)
        with butler.query() as query:
            x = query.expression_factory
            query = query.where(x.instrument == instrument, x.visit.in_iterable([visit.id for visit in visits]))
            for row in query.dimension_records("visit_detector_region"):
                regions[row.visit].append(row)
        for visit in visits:
            yield visit, regions[visit.id]


def _pointings(butler: Butler, instrument: str, day_obs: int) -> dict[int, tuple[float, float, float]]:
    """Return boresight and sky angle of each visit: those of its first exposure, if these are known."""
    exposures = {record.id: record for record in _query(butler, "exposure", instrument, day_obs)}
    members: dict[int, list[Any]] = defaultdict(list)
    for row in _query(butler, "visit_definition", instrument, day_obs):
        if row.exposure in exposures:
            members[row.visit].append(exposures[row.exposure])
    found = {}
    for visit, records in members.items():
        first = min(records, key=lambda record: record.seq_num)
        pointing = (first.tracking_ra, first.tracking_dec, first.sky_angle)
        if all(angle is not None and isfinite(angle) for angle in pointing):
            found[visit] = pointing
    return found
