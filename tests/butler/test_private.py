"""Contracts of the Butler's private calls: a test that fails names what a release of the Butler has changed."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import sqlalchemy
from astropy.time import Time
from lsst.daf.butler import Butler, Config, DatasetIdGenEnum, DatasetRef, FileDataset, ddl
from lsst.daf.butler.datastore import Datastore
from lsst.daf.butler.datastores.fileDatastore import FileDatastore
from lsst.daf.butler.direct_butler import DirectButler
from lsst.daf.butler.registry import ConflictingDefinitionError, Registry, RegistryConfig
from lsst.daf.butler.registry.interfaces import Database
from lsst.daf.butler.registry.sql_registry import SqlRegistry
from lsst.daf.butler.time_utils import TimeConverter
from lsst.resources import ResourcePath
from lsst.resources.s3 import S3ResourcePath

from autoingest.butler import private
from autoingest.butler.formatters import named_formatter
from autoingest.butler.native import NativeEngine
from autoingest.butler.resources import KnownObject
from testing import exposures

from .conftest import Repository

ROOT = Path(__file__).parents[2]
FORMATTER = "lsst.obs.lsst.rawFormatter.LsstCamRawFormatter"
BUTLER_CLASSES = (
    Butler, DirectButler, Registry, SqlRegistry, Database, Datastore, FileDatastore, ResourcePath, S3ResourcePath,
)  # fmt: skip
"""Classes whose private members count as private names of the Butler."""

COMPARISON = "tests/store/test_profiles.py"
"""A contract test of its own: it compares how the store's profiles are resolved with a private function."""


@pytest.fixture
def butler(repository: Repository, engine: NativeEngine) -> Iterator[Butler]:
    """A repository with one image of detector 94."""
    assert engine.ingest(exposures.files(1, [94])).files[0].outcome == "ingested"
    with Butler.from_config(repository.root, writeable=True) as butler:
        yield butler


@pytest.fixture
def database(repository: Repository) -> Iterator[Database]:
    settings = RegistryConfig(Config(f"{repository.root}/butler.yaml"))
    settings.replaceRoot(ResourcePath(repository.root, forceDirectory=True))
    found = settings.getDatabaseClass().fromUri(settings.connectionString, origin=0)
    yield found
    found.dispose()


def new_dataset(butler: Butler, detector: int) -> DatasetRef:
    data_id = butler.registry.expandDataId(instrument="LSSTCam", exposure=exposures.exposure_id(1), detector=detector)
    return DatasetRef(
        butler.get_dataset_type("raw"), data_id, run="LSSTCam/raw/all",
        id_generation_mode=DatasetIdGenEnum.DATAID_TYPE_RUN,
    )  # fmt: skip


def stored_dataset(butler: Butler) -> DatasetRef:
    [ref] = butler.query_datasets("raw", collections="LSSTCam/raw/all")
    return ref


def recorded(butler: Butler, ref: DatasetRef) -> list[tuple[str, int]]:
    return [(record.path, record.file_size) for _, _, record in private.file_records(butler, [ref])]


def test_make_repo_butler_config_returns_the_content_of_butler_yaml() -> None:
    config = Config()
    config["registry", "db"] = "postgresql://host/database"
    config["registry", "namespace"] = "schema"
    complete = private.new_repository_config(config)
    assert complete["registry", "db"] == "postgresql://host/database"
    assert complete["registry", "namespace"] == "schema"
    assert complete["datastore", "cls"].startswith("lsst.daf.butler.datastores.")
    assert "root" not in complete or complete["root"] == "<butlerRoot>"


def test_engine_of_a_database_lists_its_tables(database: Database) -> None:
    assert {"butler_attributes", "exposure", "dataset"} <= private.registry_tables(database)


def test_registry_of_a_butler_has_a_database(butler: Butler) -> None:
    assert "exposure" in private.registry_tables(private.registry_database(butler))


def test_transaction_of_a_database_yields_a_connection_and_is_undone_by_an_error(database: Database) -> None:
    def count(connection: sqlalchemy.Connection) -> int:
        return int(connection.execute(sqlalchemy.text("SELECT count(*) FROM butler_attributes")).scalar_one())

    with private.registry_transaction(database) as connection:
        before = count(connection)
    with suppress(ZeroDivisionError), private.registry_transaction(database) as connection:
        connection.execute(sqlalchemy.text("INSERT INTO butler_attributes (name, value) VALUES ('probe', '1')"))
        assert count(connection) == before + 1
        raise ZeroDivisionError
    with private.registry_transaction(database) as connection:
        assert count(connection) == before


def test_import_datasets_inserts_in_the_transaction_and_refuses_known_ones(butler: Butler) -> None:
    ref = new_dataset(butler, 95)
    with suppress(ZeroDivisionError), butler.transaction():
        private.insert_datasets(butler, [ref])
        raise ZeroDivisionError
    assert butler.get_dataset(ref.id) is None
    with butler.transaction():
        private.insert_datasets(butler, [ref])
    assert butler.get_dataset(ref.id) == ref
    with pytest.raises((ConflictingDefinitionError, sqlalchemy.exc.IntegrityError)), butler.transaction():
        private.insert_datasets(butler, [ref])


def test_ingest_of_the_datastore_records_files_in_the_transaction_and_replaces_records(butler: Butler) -> None:
    ref = stored_dataset(butler)
    [(path, size)] = recorded(butler, ref)
    changed = FileDataset(KnownObject.of(path, size + 1), ref, formatter=named_formatter(FORMATTER))
    with suppress(ZeroDivisionError), butler.transaction():
        private.record_files(butler, [changed])
        raise ZeroDivisionError
    assert recorded(butler, ref) == [(path, size)]
    with butler.transaction():
        private.record_files(butler, [changed])
    assert recorded(butler, ref) == [(path, size + 1)]


def test_export_records_returns_path_size_formatter_and_asks_no_object_store(butler: Butler) -> None:
    ref = stored_dataset(butler)
    [(datastore, dataset_id, record)] = private.file_records(butler, [ref, new_dataset(butler, 95)])
    assert datastore.startswith("FileDatastore")
    assert dataset_id == ref.id
    file = exposures.files(1, [94])[0]
    assert (record.path, record.file_size, record.checksum) == (file.url, file.size, None)
    assert (record.formatter, record.storageClass.name, record.component) == (FORMATTER, "Exposure", None)


def test_module_of_the_logger_that_repeats_errors_exists() -> None:
    """`autoingest.app.log` silences it by its name."""
    assert importlib.util.find_spec("lsst.daf.butler.direct_butler._direct_butler") is not None


def private_names() -> set[str]:
    found: set[str] = set()
    for kind in BUTLER_CLASSES:
        found |= {name for name in vars(kind) if re.match(r"_[a-z]", name)}
        found |= set(re.findall(r"\bself\.(_[a-zA-Z]\w*)", inspect.getsource(kind)))
    return found


def uses(source: str, names: set[str]) -> Iterator[str]:
    """Yield the private names of the Butler in a module, with their lines."""
    tree = ast.parse(source)
    inherited = any(
        isinstance(node, ast.ClassDef) and any("ResourcePath" in ast.unparse(base) for base in node.bases)
        for node in ast.walk(tree)
    )
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id="self" | "cls")) if not inherited:
                continue
            case ast.Attribute(attr=name) if name in names:
                yield f"{node.lineno}: {ast.unparse(node)}"
            case ast.ImportFrom(module=str(module), names=imported) if module.startswith("lsst."):
                if any(part.startswith("_") for part in [*module.split("."), *(one.name for one in imported)]):
                    yield f"{node.lineno}: from {module}"
            case ast.Import(names=imported):
                yield from (
                    f"{node.lineno}: import {one.name}" for one in imported if re.match(r"lsst\..*\._", one.name)
                )


def test_no_other_module_uses_private_names_of_the_butler() -> None:
    names = private_names()
    found = [
        f"{file.relative_to(ROOT)}:{use}"
        for folder in ("autoingest", "benchmarks", "testing", "tests", "tools")
        for file in sorted((ROOT / folder).rglob("*.py"))
        if file not in (Path(private.__file__), ROOT / COMPARISON)
        for use in uses(file.read_text(), names)
    ]
    assert found == []


def test_the_search_finds_private_names() -> None:
    source = (
        "from lsst.daf.butler._butler import Butler\nimport lsst.daf.butler._butler\nbutler._datastore.ingest()\n"
        "butler.registry._importDatasets([])\nself._registry\n"
    )
    assert sorted(use.partition(":")[0] for use in uses(source, private_names())) == ["1", "2", "3", "4"]


def test_times_are_converted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    converter = TimeConverter()
    plain = TimeConverter.astropy_to_nsec
    converted: list[Time] = []

    def count(self: TimeConverter, time: Time) -> int:
        converted.append(time)
        return int(plain(self, time))

    monkeypatch.setattr(TimeConverter, "astropy_to_nsec", count)
    monkeypatch.setattr(converter, "astropy_to_nsec", converter.astropy_to_nsec)
    private.convert_times_once()
    first, second = Time("2026-01-01T00:00:00", scale="utc"), Time("2026-01-01T00:00:01.5", scale="tai")
    column, dialect = ddl.AstropyTimeNsecTai(), sqlalchemy.create_engine("sqlite://").dialect
    found = [column.process_bind_param(time, dialect) for time in (first, first, second, second, first)]
    assert converted == [first, second, first]
    assert found == [plain(converter, time) for time in (first, first, second, second, first)]
