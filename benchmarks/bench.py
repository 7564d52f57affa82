"""The servers of a benchmark, and the exposures that it sends."""

from __future__ import annotations

import asyncio
import os
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from uuid import uuid4

import redis.asyncio
import sqlalchemy

from autoingest import embedded
from autoingest.butler.repo import create_repository
from autoingest.config import RedisConfig
from autoingest.notify.records import RecordParser
from autoingest.queue import keys
from autoingest.queue.connection import connect
from autoingest.queue.intake import Intake
from autoingest.sim import BucketSink, Result, SentFile, Simulator, notification
from tests.support.site import Site

BUCKET = "rubin-summit"
PARSER = RecordParser([BUCKET], r"\.fits$")


@contextmanager
def s3(folder: Path, delay_ms: float) -> Iterator[str]:
    """Run the benchmark's S3 server with a bucket; this process and its children find it."""
    port = embedded.free_port()
    url = f"http://127.0.0.1:{port}"
    script = Path(__file__).with_name("s3server.py")
    command = [sys.executable, str(script), "--port", str(port), "--delay-ms", str(delay_ms)]

    def ready() -> bool:
        try:
            with urllib.request.urlopen(urllib.request.Request(f"{url}/{BUCKET}", method="PUT"), timeout=5):
                return True
        except OSError:
            return False

    with embedded.child("s3server", command, folder / "s3server.log", ready):
        os.environ.update(S3_ENDPOINT_URL=url, AWS_ACCESS_KEY_ID="benchmark", AWS_SECRET_ACCESS_KEY="benchmark")
        yield url


def repository(folder: Path, postgres_url: str | None) -> str:
    """Make a new repository on PostgreSQL, or on SQLite without URL."""
    root = str(folder / f"repo-{uuid4().hex[:8]}")
    if postgres_url is None:
        create_repository(root)
        return root
    schema = f"s{uuid4().hex}"
    engine = sqlalchemy.create_engine(postgres_url)
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text(f"CREATE SCHEMA {schema}"))
    engine.dispose()
    create_repository(root, registry_url=postgres_url, schema=schema)
    return root


@contextmanager
def site(folder: Path, redis_url: str, repo: str, **ingest: object) -> Iterator[Site]:
    """Prepare a site whose processes end with the context."""
    folder = folder / f"site-{uuid4().hex[:8]}"
    folder.mkdir()
    settings = {"logging": {"level": "WARNING"}}
    with closing(Site(folder, redis_url, repo, buckets=[BUCKET], ingest=ingest, settings=settings)) as made:
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


async def expose(exposures: int, *, first_seq: int, sidecars: bool = True) -> Result:
    """Write exposures without telling anybody."""
    simulator = Simulator(BucketSink(BUCKET), sidecars=sidecars)
    return await simulator.run(exposures, day_obs=20260101, first_seq=first_seq)


async def announce(intake: Intake, files: list[SentFile]) -> None:
    """Put files onto the queue at once, as if all their notifications had just come."""
    await intake.accept([notice for file in files for notice in PARSER.parse(notification(file)).notices])


async def ingested(client: redis.asyncio.Redis, count: int, timeout: float = 120) -> float:
    """Wait until `count` files are ingested in all; return the time at which that was seen."""
    deadline = time.perf_counter() + timeout
    while True:
        done = sum(map(int, await client.hvals(keys.ingested(BUCKET, "LSSTCam"))))
        now = time.perf_counter()
        if done >= count:
            return now
        if now > deadline:
            raise RuntimeError(f"{done} of {count} files ingested after {timeout} s")
        await asyncio.sleep(0.004)
