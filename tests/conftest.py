"""Servers and folders that tests share."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import boto3
import pytest
import redis.asyncio

from autoingest.app.config import RedisConfig
from autoingest.dev import embedded
from autoingest.queue.connection import connect
from testing.postgres import postgres_folder
from testing.requirements import missing


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--chaos", choices=("short", "full"), default="short", help="which scenarios of tests/chaos run")
    parser.addoption("--chaos-seed", type=int, help="seed of their random moments; a new one by default")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Keep Hypothesis's plugin from importing Hypothesis for its summary, 1.5 s, if no test of this run has used it."""
    plugins = session.config.pluginmanager
    if "hypothesis" not in sys.modules and not plugins.has_plugin("dsession"):  # pytest-xdist: tests ran elsewhere
        plugins.unregister(name="hypothesispytest")


@pytest.fixture(scope="session")
def valkey_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a real Valkey server."""
    with embedded.valkey(tmp_path_factory.mktemp("valkey")) as url:
        yield url


@pytest.fixture
async def redis_client(valkey_url: str) -> AsyncIterator[redis.asyncio.Redis]:
    """A client of an empty Valkey."""
    client = connect(RedisConfig(url=valkey_url))
    await client.flushall()
    yield client
    await client.aclose()


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """SQLAlchemy URL of a real PostgreSQL database."""
    with postgres_folder() as folder, embedded.postgres(folder) as url:
        yield url


@pytest.fixture(scope="session")
def s3_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a real S3 server that checks no credentials."""
    with embedded.s3(tmp_path_factory.mktemp("s3"), persist=False) as url:
        yield url


@pytest.fixture
def s3_environment(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Environment in which this process and its children find the S3 server; its URL."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "LSST_RESOURCES_S3_PROFILE_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("S3_ENDPOINT_URL", s3_endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    return s3_endpoint


@pytest.fixture
def s3_client(s3_environment: str) -> Iterator[Any]:
    """A boto3 client of the S3 server."""
    client = boto3.client("s3", endpoint_url=s3_environment, region_name="us-east-1")
    yield client
    client.close()


@pytest.fixture
def s3_bucket(s3_client: Any) -> str:
    """Name of a new bucket on the S3 server."""
    name = f"rubin-{uuid4().hex[:12]}"
    s3_client.create_bucket(Bucket=name)
    return name


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real headers, raws, notifications and visits with the expected results."""
    folder = os.environ.get("AUTOINGEST_CONFORMANCE_DATA")
    if not folder or not Path(folder).is_dir():
        missing("conformance", "set AUTOINGEST_CONFORMANCE_DATA to the folder of real headers, raws and notifications")
    return Path(folder).resolve()
