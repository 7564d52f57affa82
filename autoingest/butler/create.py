"""Creating a Butler repository."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy
from lsst.daf.butler import Butler, Config, DimensionConfig
from lsst.daf.butler.registry import RegistryConfig
from lsst.daf.butler.registry.managers import RegistryManagerTypes
from lsst.resources import ResourcePath, ResourcePathExpression

from .. import instruments
from ..errors import AutoingestError, ConfigurationError, TransientError
from ..instruments import Camera
from . import private
from .outage import cause, is_outage
from .register import complete
from .repository import reach_store


@dataclass(frozen=True, slots=True)
class RepositoryReport:
    """The result of `create_repository`."""

    root: str
    created: bool
    """Whether the repository is new."""
    added: dict[str, int]
    """Number of records added for each camera; 0 if it was complete."""

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
    """Create a Butler repository, or complete an existing one.

    Parameters
    ----------
    root
        Directory, or URL of a prefix in an object store.
    registry_url
        SQLAlchemy URL of the PostgreSQL database that holds the registry; its extension ``btree_gist`` must be
        enabled. By default the registry is an SQLite file in `root`. Has no effect on an existing repository.
    schema
        PostgreSQL schema for the registry's tables, which must exist.
    cameras
        Canonical names of the instruments to register; all known ones by default.

    Raises
    ------
    ConfigurationError
        If it can't be created; nothing incomplete is left behind.
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
        raise kind(f"the Butler repository {folder} can't be created: {cause(err)}") from err


def _create(
    folder: ResourcePath, registry_url: str | None, schema: str | None, cameras: Iterable[Camera]
) -> RepositoryReport:
    """Create or complete a repository; ``butler.yaml`` comes last, so that an interrupted creation can be resumed."""
    reach_store(folder.geturl())
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
            added[camera.name] = sum(map(len, complete(butler, camera).values()))
    finally:
        butler.close()
    if not found:
        del config["root"]
        _write_at_once(file, str(config.dump()).encode())
    return RepositoryReport(str(folder), made or not found, added)


def _new_config(registry_url: str | None, schema: str | None) -> Config:
    """Return the content of the ``butler.yaml`` of a new repository."""
    config = Config()
    if registry_url is not None:
        config["registry", "db"] = registry_url
    if schema is not None:
        config["registry", "namespace"] = schema
    return private.new_repository_config(config)


def _make_registry(config: Config, folder: ResourcePath, *, may_hold_datasets: bool) -> bool:
    """Create a repository's registry in one transaction, unless it exists; return whether it is new.

    Raises
    ------
    ConfigurationError
        If it exists and belongs to another repository.
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
    """Write a file atomically, even if the process is killed."""
    if not file.isLocal:
        file.write(content)  # an object becomes visible only when it is complete
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
