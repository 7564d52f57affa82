"""Registers what a repository needs before images of a camera are ingested: instrument, dataset types, runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

import sqlalchemy
import structlog
from lsst.daf.butler import Butler, DatasetType
from lsst.daf.butler.registry import ConflictingDefinitionError

from .. import instruments
from ..errors import ConfigurationError
from ..instruments import Camera
from .outage import cause
from .repository import open_repository

RAW_DIMENSIONS = ("instrument", "exposure", "detector")
"""Dimensions of every raw dataset type."""

RACES = 3
"""Number of retries if another writer has just written the same."""

GUIDER_RAW = "guider_raw"
GUIDER_STORAGE_CLASS = "Stamps"

T = TypeVar("T")

log = structlog.get_logger(__name__)


def run_name(dataset_type: str, instrument: str) -> str:
    """Return the run that holds an instrument's datasets of a type."""
    return f"{instrument}/raw/guider" if dataset_type == GUIDER_RAW else instruments.get(instrument).raw_run


def register(repo: str, cameras: Iterable[str]) -> dict[str, dict[str, list[str]]]:
    """Complete cameras in an existing repository.

    Parameters
    ----------
    repo
        Directory, URL or label.
    cameras
        Canonical names of the instruments.

    Returns
    -------
    added
        For each camera, the names of the records that were missing, by element.

    Raises
    ------
    ConfigurationError
        If there is no such repository, or it can't be used.
    MetadataError
        If a camera is unknown.
    TransientError
        If the repository's database is away.
    """
    selected = [instruments.get(name) for name in cameras]
    added = {}
    with open_repository(repo, writeable=True) as butler:
        for camera in selected:
            added[camera.name] = complete(butler, camera)
    return added


def complete(butler: Butler, camera: Camera) -> dict[str, list[str]]:
    """Register a camera with its dataset types and runs; return the names of the records that were missing."""
    added = despite_others(butler, lambda: register_instrument(butler, camera))
    despite_others(butler, lambda: prepare(butler, camera))
    return added


def despite_others(butler: Butler, write: Callable[[], T]) -> T:
    """Call `write`, which writes only what is missing, again if another process has just written the same."""
    for _ in range(RACES):
        try:
            return write()
        except (ConflictingDefinitionError, sqlalchemy.exc.IntegrityError, sqlalchemy.exc.ProgrammingError) as err:
            log.info("another process may have written the same", error=cause(err))
            butler.registry.refresh()
    return write()


def register_instrument(butler: Butler, camera: Camera) -> dict[str, list[str]]:
    """Insert the records of a camera that are missing: instrument, detectors, filters.

    Existing records stay as they are.

    Returns
    -------
    added
        Names of the records that were missing, by element.
    """
    instrument = {
        "name": camera.name,
        "class_name": camera.class_name,
        "visit_max": camera.visit_max,
        "exposure_max": camera.exposure_max,
        "detector_max": camera.detector_max,
        "visit_system": camera.visit_system,
    }
    detectors = {
        detector.id: {
            "instrument": camera.name,
            "id": detector.id,
            "full_name": detector.name,
            "raft": detector.raft,
            "name_in_raft": detector.name_in_raft,
            "purpose": detector.purpose,
        }
        for detector in camera.detectors
    }
    filters = {
        item.name: {"instrument": camera.name, "name": item.name, "band": item.band} for item in camera.physical_filters
    }
    added = {}
    with butler.transaction():
        if camera.name not in registered(butler):
            butler.registry.insertDimensionData("instrument", instrument, skip_existing=True)
            added["instrument"] = [camera.name]
        for element, rows, key in (("detector", detectors, "id"), ("physical_filter", filters, "name")):
            known = {
                getattr(record, key)
                for record in butler.query_dimension_records(element, instrument=camera.name, explain=False)
            }
            missing = [row for name, row in rows.items() if name not in known]
            if missing:
                butler.registry.insertDimensionData(element, *missing, skip_existing=True)
                added[element] = [str(row.get("full_name", row.get("name"))) for row in missing]
    if added:
        log.info("camera registered", instrument=camera.name, records={name: len(new) for name, new in added.items()})
    return added


def registered(butler: Butler) -> set[str]:
    """Return the names of the instruments that a repository knows."""
    return {record.name for record in butler.query_dimension_records("instrument", explain=False)}


def check_storage_classes(butler: Butler) -> None:
    """Make sure that the repository knows the storage classes that described instruments name.

    Raises
    ------
    ConfigurationError
        If it doesn't.
    """
    for generator in instruments.generators().values():
        if generator.storage_class not in butler.storageClasses:
            raise ConfigurationError(
                f"{generator.name}: storageClass {generator.storage_class!r} is not known to the repository"
            )


def prepare(butler: Butler, camera: Camera) -> None:
    """Make sure that dataset types and runs for a camera's images exist; outside of any transaction.

    Raises
    ------
    ConfigurationError
        If a dataset type of that name exists with another definition.
    """
    storage_classes = {camera.raw_type: camera.raw_storage_class}
    if camera.guiders:
        storage_classes[GUIDER_RAW] = GUIDER_STORAGE_CLASS
    for name, storage_class in storage_classes.items():
        dataset_type = DatasetType(name, RAW_DIMENSIONS, storage_class, universe=butler.dimensions)
        try:
            butler.registry.registerDatasetType(dataset_type)
        except ConflictingDefinitionError as err:
            raise ConfigurationError(f"the repository defines dataset type {name!r} differently: {err}") from err
        butler.collections.register(run_name(name, camera.name))
