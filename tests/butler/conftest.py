"""Repositories on both databases."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest
import sqlalchemy
from lsst.daf.butler import Butler

from autoingest.butler.create import create_repository
from autoingest.butler.native import NativeEngine


@dataclass(frozen=True)
class Repository:
    root: str
    registry_url: str | None
    schema: str | None

    def create(self) -> None:
        create_repository(self.root, registry_url=self.registry_url, schema=self.schema)


@pytest.fixture(params=["sqlite", "postgres"])
def bare(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Repository]:
    """A repository that is not made yet."""
    root = str(tmp_path / "repo")
    if request.param == "sqlite":
        yield Repository(root, None, None)
        return
    url = request.getfixturevalue("postgres_url")
    schema = f"s{uuid4().hex}"
    _execute(url, f"CREATE SCHEMA {schema}")
    yield Repository(root, url, schema)
    _execute(url, f"DROP SCHEMA {schema} CASCADE")


@pytest.fixture(scope="session")
def made_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with the cameras registered, to be copied."""
    folder = tmp_path_factory.mktemp("made") / "repo"
    create_repository(folder)
    return folder


@pytest.fixture(scope="session")
def made_postgres(tmp_path_factory: pytest.TempPathFactory, postgres_url: str) -> tuple[Path, str]:
    """A repository whose registry is a database of its own, to be copied."""
    folder, database = tmp_path_factory.mktemp("made") / "repo", f"made_{uuid4().hex}"
    _execute(postgres_url, f"CREATE DATABASE {database}")
    _execute(url := _of_database(postgres_url, database), "CREATE EXTENSION btree_gist")
    create_repository(folder, registry_url=url)
    return folder, database


@pytest.fixture(params=["sqlite", "postgres"])
def repository(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Repository]:
    """A repository with the cameras registered."""
    root = tmp_path / "repo"
    if request.param == "sqlite":
        shutil.copytree(request.getfixturevalue("made_sqlite"), root)
        yield Repository(str(root), None, None)
        return
    url = request.getfixturevalue("postgres_url")
    folder, made = request.getfixturevalue("made_postgres")
    database = f"copy_{uuid4().hex}"
    _execute(url, f"CREATE DATABASE {database} TEMPLATE {made}")
    shutil.copytree(folder, root)
    (root / "butler.yaml").write_text((root / "butler.yaml").read_text().replace(made, database))
    yield Repository(str(root), _of_database(url, database), None)
    _execute(url, f"DROP DATABASE {database} WITH (FORCE)")


def _execute(url: str, statement: str) -> None:
    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sqlalchemy.text(statement))


def _of_database(url: str, database: str) -> str:
    return sqlalchemy.make_url(url).set(database=database).render_as_string(hide_password=False)


@pytest.fixture
def engine(repository: Repository) -> Iterator[NativeEngine]:
    """An engine of the repository."""
    engine = NativeEngine(repository.root)
    yield engine
    engine.close()


@pytest.fixture
def open_butler(repository: Repository) -> Iterator[Callable[[], Butler]]:
    """Opens the repository as any reader would."""
    opened = []

    def open_one() -> Butler:
        opened.append(Butler.from_config(repository.root))
        return opened[-1]

    yield open_one
    for butler in opened:
        butler.close()
