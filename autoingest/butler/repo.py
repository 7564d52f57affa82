"""Making Butler repositories, and what a repository must hold of a camera before its images are ingested."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import sqlalchemy
import structlog
from lsst.daf.butler import Butler, Config, DatasetType, DimensionConfig
from lsst.daf.butler.registry import ConflictingDefinitionError, RegistryConfig
from lsst.daf.butler.registry.managers import RegistryManagerTypes
from lsst.resources import ResourcePath, ResourcePathExpression

from .. import instruments
from ..errors import AutoingestError, ConfigurationError, TransientError
from ..instruments import Camera
from . import (
    database,  # noqa: F401 - how connections behave
    private,
)
from .outage import cause, is_outage

RAW_DIMENSIONS = ("instrument", "exposure", "detector")
"""Dimensions of every raw dataset type."""

RACES = 3
"""Times that something is written again because another writer has just written the same."""

T = TypeVar("T")

GUIDER_RAW = "guider_raw"
GUIDER_STORAGE_CLASS = "Stamps"

log = structlog.get_logger(__name__)


def run_name(dataset_type: str, instrument: str) -> str:
    """Return the run that holds an instrument's datasets of a type."""
    return f"{instrument}/raw/guider" if dataset_type == GUIDER_RAW else instruments.get(instrument).raw_run


@dataclass(frozen=True, slots=True)
class RepositoryReport:
    """What `create_repository` found and did."""

    root: str
    created: bool
    """Whether the repository is new."""
    added: dict[str, int]
    """Records added for each camera; 0 where it was complete."""

    def __str__(self) -> str:
        lines = [f"{'made' if self.created else 'found'} the repository {self.root}"]
        lines += [f"{name}: {count} records added" for name, count in self.added.items()]
        return "\n".join(lines)


def create_repository(
    root: ResourcePathExpression,
    *,
    registry_url: str | None = None,
    schema: str | None = None,
    cameras: Iterable[str] | None = None,
) -> RepositoryReport:
    """Make a Butler repository, or complete the one that is there.

    Parameters
    ----------
    root
        Directory, or URL of a prefix in an object store.
    registry_url
        SQLAlchemy URL of the PostgreSQL database that holds the registry; its extension ``btree_gist`` must be
        enabled. By default the registry is an SQLite file in `root`. Of no effect on an existing repository.
    schema
        PostgreSQL schema for the registry's tables, which must exist.
    cameras
        Canonical names of the instruments to register; all known ones by default.

    Raises
    ------
    ConfigurationError
        If it can't be made; nothing half-made is left.
    MetadataError
        If a camera is unknown.
    TransientError
        If the database can't be used now.
    """
    known = (*instruments.names(), *instruments.generators())
    selected = [instruments.get(name) for name in (known if cameras is None else cameras)]
    folder = ResourcePath(root, forceDirectory=True)
    try:
        return _create(folder, registry_url, schema, selected)
    except AutoingestError:
        raise
    except Exception as err:
        kind = TransientError if is_outage(err) else ConfigurationError
        raise kind(f"the Butler repository {folder} can't be made: {cause(err)}") from err


def _create(
    folder: ResourcePath, registry_url: str | None, schema: str | None, cameras: Iterable[Camera]
) -> RepositoryReport:
    """Make or complete a repository; its ``butler.yaml`` comes last, so that whatever was begun can be gone on with."""
    _reach_store(folder.geturl())
    file = folder.join("butler.yaml")
    found = file.exists()
    if found:
        config = Config(file)
    else:
        config = _new_config(registry_url, schema)
        if registry_url is None:
            folder.mkdir()
    config["root"] = folder.geturl()
    made = _make_registry(config, folder, may_hold_datasets=found)
    butler = Butler.from_config(config, writeable=True)
    try:
        added = {}
        for camera in cameras:
            added[camera.name] = sum(map(len, _complete(butler, camera).values()))
    finally:
        butler.close()
    if not found:
        del config["root"]
        _write_at_once(file, str(config.dump()).encode())
    return RepositoryReport(str(folder), made or not found, added)


def _new_config(registry_url: str | None, schema: str | None) -> Config:
    """Return what the ``butler.yaml`` of a new repository holds."""
    config = Config()
    if registry_url is not None:
        config["registry", "db"] = registry_url
    if schema is not None:
        config["registry", "namespace"] = schema
    return private.new_repository_config(config)


def _make_registry(config: Config, folder: ResourcePath, *, may_hold_datasets: bool) -> bool:
    """Make a repository's registry in one transaction, unless it is there; return whether it is new.

    Raises
    ------
    ConfigurationError
        If it is there, and in use by a repository with another ``butler.yaml``.
    """
    settings = RegistryConfig(config)
    settings.replaceRoot(folder)
    registry = settings.getDatabaseClass().fromUri(
        settings.connectionString,
        origin=settings.get("origin", 0),
        namespace=settings.get("namespace"),
        allow_temporary_tables=settings.areTemporaryTablesAllowed,
    )

    def exists() -> bool:
        return "butler_attributes" in private.registry_tables(registry)

    def make() -> bool:
        if exists():
            return False
        with private.registry_transaction(registry):
            RegistryManagerTypes.fromConfig(settings).makeRepo(registry, DimensionConfig())
        return True

    try:
        try:
            made = make()
        except Exception:
            if not exists():
                raise
            made = False  # another process was faster
        if not made and not may_hold_datasets:
            with private.registry_transaction(registry) as connection:
                table = f"{registry.namespace}.dataset" if registry.namespace else "dataset"
                held = connection.execute(sqlalchemy.text(f"SELECT 1 FROM {table} LIMIT 1")).first()  # noqa: S608
            if held is not None:
                raise ConfigurationError(
                    f"the registry holds datasets, so it belongs to another repository than {folder}, where there is no"
                    " butler.yaml: name another schema, or restore that file"
                )
    finally:
        registry.dispose()
    return made


def _write_at_once(file: ResourcePath, content: bytes) -> None:
    """Write a file that is never seen half-written, not even if the process is killed."""
    if not file.isLocal:
        file.write(content)  # a store shows an object once all of it is there
        return
    Path(file.ospath).parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=Path(file.ospath).parent, prefix=".butler.yaml-", delete=False) as part:
        part.write(content)
        part.flush()
        os.fsync(part.fileno())
    Path(part.name).chmod(0o666 & ~_umask())
    Path(part.name).replace(file.ospath)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def open_repository(repo: str, *, writeable: bool = False) -> Butler:
    """Open a repository.

    Parameters
    ----------
    repo
        Directory, URL or label.
    writeable
        Whether it is to be written.

    Raises
    ------
    ConfigurationError
        If there is no such repository, or it can't be used.
    TransientError
        If its database, or the store that it lies in, is away.
    """
    _reach_store(repo)
    try:
        return Butler.from_config(repo, writeable=writeable)
    except FileNotFoundError as err:
        raise ConfigurationError(f"no Butler repository at {repo!r}: {err}", repo=repo) from err
    except Exception as err:
        if is_outage(err):
            raise TransientError(f"the Butler repository {repo!r} can't be opened now: {cause(err)}") from err
        raise ConfigurationError(
            f"the Butler repository {repo!r} can't be opened: {type(err).__name__}: {err}", repo=repo
        ) from err


def _reach_store(repo: str) -> None:
    """Raise at once if the store of a repository is away; the Butler's client would try for more than a minute."""
    if not repo.startswith("s3://"):
        return
    import obstore
    from obstore.exceptions import BaseError

    from ..store.failure import explain
    from ..store.profiles import open_store, resolve

    bucket, _, key = repo.removeprefix("s3://").partition("/")
    if not key.endswith(".yaml"):
        key = f"{key.rstrip('/')}/butler.yaml".lstrip("/")
    try:
        obstore.get(open_store(bucket), key)
    except FileNotFoundError as err:
        if (failure := explain(err)).code == "NoSuchBucket":
            raise ConfigurationError(
                f"the Butler repository {repo!r} can't be read: {failure.text}", repo=repo
            ) from err
    except (BaseError, ValueError) as err:
        where = f" from {endpoint}" if (endpoint := resolve(bucket).endpoint) else ""
        message = f"the Butler repository {repo!r} can't be read{where}: {explain(err).text}"
        raise TransientError(message, repo=repo) from err


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
            added[camera.name] = _complete(butler, camera)
    return added


def _complete(butler: Butler, camera: Camera) -> dict[str, list[str]]:
    """Register a camera with its dataset types and runs; return the names of the records that were missing."""
    added = despite_others(butler, lambda: register_instrument(butler, camera))
    despite_others(butler, lambda: prepare(butler, camera))
    return added


def despite_others(butler: Butler, write: Callable[[], T]) -> T:
    """Return what `write` returns, which writes only what is missing, though others may write the same at once."""
    for _ in range(RACES):
        try:
            return write()
        except (ConflictingDefinitionError, sqlalchemy.exc.IntegrityError, sqlalchemy.exc.ProgrammingError) as err:
            log.info("another process may have written the same", error=cause(err))
            butler.registry.refresh()
    return write()


def register_instrument(butler: Butler, camera: Camera) -> dict[str, list[str]]:
    """Insert the records of a camera that are missing: instrument, detectors, filters.

    Records that are there stay as they are, whatever they say.

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
            raise ConfigurationError(f"the repository's dataset type {name!r} is another one: {err}") from err
        butler.collections.register(run_name(name, camera.name))
