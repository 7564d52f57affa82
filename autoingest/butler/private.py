"""Every use of a private name of the Butler, each with the reason why no public call serves.

No other module touches a private name of `lsst.daf.butler` or `lsst.resources`. ``tests/butler/test_private.py`` holds
one contract test for each function: where a new release of the Butler breaks one, its test says which.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from uuid import UUID

import sqlalchemy
from astropy.time import Time
from lsst.daf.butler import Butler, Config, DatasetRef, FileDataset
from lsst.daf.butler.datastore.stored_file_info import StoredFileInfo
from lsst.daf.butler.registry.interfaces import Database
from lsst.daf.butler.time_utils import TimeConverter


def new_repository_config(config: Config) -> Config:
    """Return the content of the ``butler.yaml`` of a new repository.

    `Butler.makeRepo` also creates the registry, in several transactions; an interrupted one can't be completed.

    Parameters
    ----------
    config
        Values that differ from the defaults.
    """
    with tempfile.TemporaryDirectory() as scratch:
        complete, _ = Butler._make_repo_butler_config(scratch, config)
    return complete


def registry_tables(database: Database) -> set[str]:
    """Return the names of the tables in a registry's schema.

    The Butler opens a registry only if all of its tables exist.
    """
    return set(sqlalchemy.inspect(database._engine).get_table_names(schema=database.namespace))


def registry_database(butler: Butler) -> Database:
    """Return the database of a repository's registry; the public registry gives no access to it."""
    return butler._registry._db  # type: ignore[attr-defined, no-any-return]


@contextmanager
def registry_transaction(database: Database) -> Iterator[sqlalchemy.Connection]:
    """Run a block in one transaction of a registry's database, and yield its connection.

    The public transaction gives no access to the connection, and refuses to create tables.
    """
    with database._transaction() as (_, connection):
        yield connection


def insert_datasets(butler: Butler, refs: Sequence[DatasetRef]) -> None:
    """Insert datasets of one run, which the registry must not hold yet; within a transaction.

    The public call compares the datasets with those in the registry through a temporary table, created anew each time:
    it gets slower as the number of datasets grows, and the statements of each such table stay in memory for a while.

    Raises
    ------
    lsst.daf.butler.registry.ConflictingDefinitionError
        If the registry holds one of them.
    """
    butler.registry._importDatasets(refs, expand=False, assume_new=True)


def convert_times_once() -> None:
    """Have the Butler convert a time to nanoseconds once, and not for each dataset of a batch that has it.

    The datasets that are inserted together have the same time of ingest, as one object. Its conversion takes 60 µs, and
    there is no public way to say that it is known. The result is the same.
    """
    converter = TimeConverter()
    convert = converter.astropy_to_nsec
    known: list[tuple[Time | None, int]] = [(None, 0)]

    def once(time: Time) -> int:
        if known[0][0] is not time:
            known[0] = (time, convert(time))
        return known[0][1]

    converter.astropy_to_nsec = once  # type: ignore[method-assign, assignment]


def record_files(butler: Butler, files: Iterable[FileDataset]) -> None:
    """Write the datastore's records of files that stay where they are; within a transaction.

    The records of datasets that have some are replaced; the public call leaves these alone.

    Parameters
    ----------
    butler
        The repository.
    files
        Files of datasets that the registry holds, and whose ids are derived from their data ids.
    """
    butler._datastore.ingest(*files, transfer="direct")


def file_records(butler: Butler, refs: Iterable[DatasetRef]) -> Iterator[tuple[str, UUID, StoredFileInfo]]:
    """Yield the datastore's records of datasets, each with the name of the datastore and the id of the dataset.

    Public calls ask the object store for each object.
    """
    for datastore, data in butler._datastore.export_records(refs).items():
        for dataset_id, tables in data.records.items():
            for records in tables.values():
                for record in records:
                    assert isinstance(record, StoredFileInfo)
                    yield datastore, dataset_id, record
