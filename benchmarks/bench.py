"""The servers of a benchmark, and the exposures that it sends."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import redis.asyncio
import sqlalchemy

from autoingest.app.config import PresenceConfig, RedisConfig
from autoingest.butler.create import create_repository
from autoingest.dev import embedded
from autoingest.dev.simulator import BucketSink, Exposure, SentFile, Simulator, notification
from autoingest.model.notices import Notice
from autoingest.model.objects import ExposureObject, LfaObject
from autoingest.notify.records import RecordParser
from autoingest.queue import keys
from autoingest.queue.connection import connect
from autoingest.queue.intake import Intake
from testing.proxy import Proxy, proxy
from testing.site import Site

BUCKET = "rubin-summit"
CAMERA = "LSSTCam"
DAY_OBS = 20260101
FILES = 205
"""Files of an exposure."""

PRESENCE_EXPIRY = PresenceConfig().expiry
"""Seconds for which the sites here remember an arrival."""


@dataclass(frozen=True)
class Servers:
    """What all benchmarks share."""

    folder: Path
    redis_url: str
    postgres_url: str
    runs: int
    exposures: int
    """Exposures of a night."""


class Store:
    """The benchmark's S3 server, which this process and its children find."""

    def __init__(self, url: str) -> None:
        self.url = url

    def delay(self, milliseconds: float) -> None:
        """Add a time to every answer from now on."""
        self._control("PUT", f"delay?ms={milliseconds:g}")

    def requests(self) -> int:
        """Tell how many objects were asked for since the last call, or whether they are there."""
        counts = json.loads(self._control("DELETE", "counts"))
        return int(counts.get("GET", 0) + counts.get("HEAD", 0))

    def forget(self, prefix: str) -> None:
        """Remove objects."""
        self._control("DELETE", f"objects?prefix={prefix}")

    def _control(self, method: str, what: str) -> bytes:
        with urllib.request.urlopen(urllib.request.Request(f"{self.url}/-/{what}", method=method)) as response:
            return bytes(response.read())


@contextmanager
def s3(folder: Path) -> Iterator[Store]:
    """Run the benchmark's S3 server with a bucket."""
    port = embedded.free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "testing.s3server", "--port", str(port), "--bucket", BUCKET]
    with embedded.child("s3server", command, folder / "s3server.log", lambda: embedded.listens(port)):
        os.environ.update(S3_ENDPOINT_URL=url, AWS_ACCESS_KEY_ID="benchmark", AWS_SECRET_ACCESS_KEY="benchmark")
        yield Store(url)


def repository(servers: Servers, registry: str = "PostgreSQL") -> str:
    """Make a new repository on PostgreSQL or on SQLite; its name is that of its schema as well."""
    name = f"repo_{uuid4().hex[:12]}"
    root = str(servers.folder / name)
    if registry == "SQLite":
        create_repository(root, cameras=[CAMERA])
        return root
    with database(servers) as connection:
        connection.execute(sqlalchemy.text(f"CREATE SCHEMA {name}"))
    create_repository(root, registry_url=servers.postgres_url, schema=name, cameras=[CAMERA])
    return root


@contextmanager
def database(servers: Servers) -> Iterator[sqlalchemy.Connection]:
    """Connect to PostgreSQL; every statement is a transaction."""
    engine = sqlalchemy.create_engine(servers.postgres_url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        yield connection
    engine.dispose()


@dataclass(frozen=True)
class Far:
    """Servers behind proxies that make them look far away."""

    servers: Servers
    database: Proxy
    cache: Proxy


@contextmanager
def far(servers: Servers) -> Iterator[Far]:
    """Put a proxy before PostgreSQL and one before Redis, which delay nothing yet."""
    database = sqlalchemy.make_url(servers.postgres_url)
    host = str(database.host or database.query["host"])
    target = f"{host}/.s.PGSQL.{database.port or 5432}" if host.startswith("/") else (host, database.port or 5432)
    cache = urlsplit(servers.redis_url)
    assert cache.hostname is not None
    assert cache.port is not None
    with proxy(target) as to_database, proxy((cache.hostname, cache.port)) as to_cache:
        url = database.set(host="127.0.0.1", port=to_database.port, query={}).render_as_string(hide_password=False)
        there = replace(servers, postgres_url=url, redis_url=f"redis://127.0.0.1:{to_cache.port}/0")
        yield Far(there, to_database, to_cache)


@contextmanager
def site(
    servers: Servers, repo: str, bucket: str = BUCKET, environment: Mapping[str, str] | None = None, **ingest: object
) -> Iterator[Site]:
    """Prepare a site whose processes end with the context."""
    folder = servers.folder / f"site-{uuid4().hex[:8]}"
    folder.mkdir()
    settings = {"logging": {"level": "WARNING"}}
    made = Site(folder, servers.redis_url, repo, [bucket], environment or {}, ingest, settings)
    with closing(made):
        yield made


@asynccontextmanager
async def empty_redis(url: str) -> AsyncIterator[redis.asyncio.Redis]:
    """Empty the server and connect to it."""
    client = connect(RedisConfig(url=url))
    await client.flushall()
    try:
        yield client
    finally:
        await client.aclose()


async def take(
    exposures: int, *, first_seq: int = 1, sidecars: bool = True, bucket: str = BUCKET
) -> list[tuple[Exposure, list[SentFile]]]:
    """Write exposures without telling anybody; return each with its images."""
    taken = await Simulator(BucketSink(bucket), sidecars=sidecars).run(exposures, day_obs=DAY_OBS, first_seq=first_seq)
    images = [taken.images[begin : begin + FILES] for begin in range(0, len(taken.images), FILES)]
    return list(zip(taken.exposures, images, strict=True))


async def expose(exposures: int, *, first_seq: int = 1, sidecars: bool = True) -> list[SentFile]:
    """Write exposures without telling anybody; return their images."""
    return [file for _, files in await take(exposures, first_seq=first_seq, sidecars=sidecars) for file in files]


async def notices(files: list[SentFile]) -> list[tuple[Notice, ExposureObject | LfaObject]]:
    """Return what the notifications of files say."""
    parser = RecordParser([BUCKET], r"\.fits$")
    return [notice for file in files for notice in (await parser.parse(notification(file))).notices]


async def rate(client: redis.asyncio.Redis, files: list[SentFile]) -> float:
    """Queue files at once and wait until they are ingested; return images per second."""
    found = await notices(files)
    before = await count(client)
    intake = Intake(client)
    started = time.perf_counter()
    await intake.accept(found)
    taken = await ingested(client, before + len(files)) - started
    await intake.close()
    return len(files) / taken


async def ingested(client: redis.asyncio.Redis, wanted: int, timeout: float = 120) -> float:
    """Wait until `wanted` files are ingested in all; return the time at which that was seen."""
    deadline = time.perf_counter() + timeout
    while True:
        done = await count(client)
        now = time.perf_counter()
        if done >= wanted:
            return now
        if now > deadline:
            raise RuntimeError(f"{done} of {wanted} files ingested after {timeout} s")
        await asyncio.sleep(0.004)


async def count(client: redis.asyncio.Redis) -> int:
    """Return how many files are ingested."""
    return sum(map(int, await client.hvals(keys.ingested(BUCKET, CAMERA))))
