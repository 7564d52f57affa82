"""Whole exposures go through the real program: S3, webhook, Redis, ingest, Butler, presence."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import redis
import sqlalchemy

from autoingest.butler.compare import compare
from autoingest.butler.create import create_repository
from autoingest.queue import keys
from testing.redis import text
from testing.repository import contents
from testing.site import Site
from testing.waiting import wait_for

BUCKET = "rubin-summit"


@pytest.fixture(params=["sqlite", "postgres"])
def repo(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A new repository, on SQLite and on PostgreSQL."""
    root = tmp_path / "repo"
    return on_sqlite(root) if request.param == "sqlite" else on_postgres(root, request.getfixturevalue("postgres_url"))


def on_sqlite(root: Path) -> str:
    create_repository(str(root))
    return str(root)


def on_postgres(root: Path, url: str) -> str:
    schema = f"s{uuid4().hex}"
    engine = sqlalchemy.create_engine(url)
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text(f"CREATE SCHEMA {schema}"))
    engine.dispose()
    create_repository(str(root), registry_url=url, schema=schema)
    return str(root)


@pytest.fixture
def client(valkey_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(valkey_url, decode_responses=True) as client:
        client.flushall()
        yield client


@pytest.fixture
def site(tmp_path: Path, valkey_url: str, client: redis.Redis, repo: str, s3_bucket: str) -> Iterator[Site]:
    site = Site(tmp_path, valkey_url, repo, buckets=[s3_bucket])
    with closing(site):
        yield site


def simulate(site: Site, *options: str) -> dict[str, Any]:
    """Let the camera take exposures and post their notifications; return its summary."""
    command = [sys.executable, "-m", "autoingest", "simulate", "--bucket", site.buckets[0], "--notify", site.notify_url]
    result = subprocess.run([*command, *options, "--json"], capture_output=True, text=True, timeout=120, check=True)
    return dict(json.loads(result.stdout))


def ingested(client: redis.Redis, bucket: str) -> int:
    """Number of images of LSSTCam that were counted as ingested."""
    return sum(map(int, client.hvals(f"INGEST:{bucket}:LSSTCam")))


def assert_all_in(site: Site, client: redis.Redis, exposures: int) -> None:
    """Check that so many whole exposures are in the Butler, each once, and that nothing is left elsewhere."""
    bucket = site.buckets[0]
    wait_for(
        lambda: ingested(client, bucket) >= 205 * exposures,
        f"{exposures} exposures ingested: {site.logs()[-3000:]}",
    )
    wait_for(lambda: not client.keys(f"WORKER:{bucket}:*"), "workers' lists empty")
    assert client.keys(f"*QUEUE:{bucket}") == client.keys(f"WAITING:{bucket}") == []
    assert client.keys("DEAD:*") == client.keys("REJECTED:*") == []
    assert ingested(client, bucket) == 205 * exposures, "each file is counted once"
    found = contents(site.repo)
    assert (len(found.raws), len(found.guiders)) == (197 * exposures, 8 * exposures)
    assert len(found.exposures) == exposures
    assert found.visits == dict.fromkeys(found.exposures, 205)


ALL = ("enqueue,ingest,idle,presence",)
EACH = ("enqueue", "ingest", "idle", "presence")


@pytest.mark.parametrize(
    ("repo", "processes", "workers"),
    [("sqlite", ALL, 1), ("sqlite", EACH, 4), ("postgres", ALL, 4), ("postgres", EACH, 1)],
    indirect=["repo"],
    ids=str,
)
def test_guiders_first(site: Site, client: redis.Redis, processes: tuple[str, ...], workers: int) -> None:
    site.ingest = {"workers": workers, "batchSize": 60}
    for roles in processes:
        site.start(roles)
    simulate(site, "--exposures", "2", "--order", "guiders-first")
    assert_all_in(site, client, 2)

    (key, *_) = client.keys("GROUP:LSSTCam:*R22_S11")
    _, _, rest = text(key).split(":", 2)
    group, snap, detector = rest.rsplit(":", 2)
    url = f"http://127.0.0.1:{site.presence_port}/presence/LSSTCam/{group}/{snap}/{detector}"
    with urllib.request.urlopen(url) as response:
        answer = json.load(response)
    assert answer == {"error": False, "present": True, "uri": client.get(key)}

    for process in site.processes:
        assert site.stop(process) == 0, site.logs()[-3000:]


@pytest.mark.parametrize("repo", ["postgres"], indirect=True)
def test_killed_in_the_middle_of_a_batch(site: Site, client: redis.Redis) -> None:
    """SIGKILL of an ingest process loses nothing, and its work is done once."""
    site.ingest = {"batchSize": 40, "batchTimeout": 1, "lease": 2, "drain": 30}
    site.start("enqueue,idle")
    victim = site.start("ingest")
    process = subprocess.Popen(
        [sys.executable, "-m", "autoingest", "simulate", "--bucket", site.buckets[0], "--exposures", "2",
         "--notify", site.notify_url],
    )  # fmt: skip
    bucket = site.buckets[0]
    wait_for(lambda: client.keys(f"WORKER:{bucket}:*") and client.hvals(f"INGEST:{bucket}:LSSTCam"), "work begun")
    victim.send_signal(signal.SIGKILL)
    victim.wait(60)
    site.start("ingest")
    assert process.wait(60) == 0
    assert_all_in(site, client, 2)


@pytest.mark.parametrize("repo", ["sqlite"], indirect=True)
def test_duplicates_and_a_second_run(site: Site, client: redis.Redis) -> None:
    """Repeated notifications and shuffled order change nothing; ``--once`` drains and ends."""
    site.start("enqueue")
    summary = simulate(site, "--duplicates", "0.3", "--order", "shuffled")
    assert summary["exposures"] == 1
    bucket = site.buckets[0]
    assert client.llen(f"QUEUE:{bucket}") == 205
    assert site.start("ingest,idle", "--once", ready=False).wait(60) == 0, site.logs()[-3000:]
    assert_all_in(site, client, 1)


@pytest.mark.parametrize("repo", ["sqlite"], indirect=True)
def test_one_bad_file_among_good_ones(site: Site, client: redis.Redis, s3_client: Any) -> None:
    """A file that is no FITS becomes a dead letter after its attempts; its neighbours are not held up."""
    site.ingest = {"retryDelay": 0.1, "maxAttempts": 2}
    site.start("enqueue,ingest,idle")
    bucket = site.buckets[0]
    key = "LSSTCam/20300101/MC_O_20300101_000001/MC_O_20300101_000001_R22_S11.fits"
    missing = key.replace("S11", "S12")
    s3_client.put_object(Bucket=bucket, Key=key, Body=b"no FITS")
    records = [{"s3": {"bucket": {"name": bucket}, "object": {"key": name}}} for name in (key, missing)]
    request = urllib.request.Request(site.notify_url, json.dumps({"Records": records}).encode(), method="POST")
    with urllib.request.urlopen(request) as response:
        assert response.status == 200
    simulate(site)
    wait_for(lambda: client.hlen(f"DEAD:{bucket}") == 2, "dead letters")
    letters = {path: json.loads(text) for path, text in client.hgetall(f"DEAD:{bucket}").items()}
    assert letters[f"{bucket}/{key}"]["reason"] == "metadata"
    assert letters[f"{bucket}/{missing}"]["reason"] == "missing"
    assert all(letter["attempts"] == 2 for letter in letters.values())
    wait_for(lambda: ingested(client, bucket) == 205, "the others ingested")
    assert len(contents(site.repo).raws) == 197


def test_both_databases_hold_the_same(
    tmp_path: Path, valkey_url: str, client: redis.Redis, postgres_url: str, s3_bucket: str, s3_client: Any
) -> None:
    """The same objects become the same records, in whatever order and batches they come."""
    command = [sys.executable, "-m", "autoingest", "simulate", "--bucket", s3_bucket, "--exposures", "2", "--json"]
    subprocess.run(command, capture_output=True, timeout=120, check=True)
    listed = [item["Key"] for item in s3_client.list_objects_v2(Bucket=s3_bucket, MaxKeys=1000)["Contents"]]
    paths = sorted(f"{s3_bucket}/{key}" for key in listed if key.endswith(".fits"))
    assert len(paths) == 410
    repos = (on_sqlite(tmp_path / "sqlite"), on_postgres(tmp_path / "postgres", postgres_url))
    for number, (repo, workers) in enumerate(zip(repos, (1, 2), strict=True)):
        client.flushall()
        client.lpush(keys.queue(s3_bucket), *paths[:: 1 - 2 * number])
        folder = tmp_path / f"site-{number}"
        folder.mkdir()
        ingest = {"workers": workers, "batchSize": 250 - 150 * number, "visits": "one-to-one-and-by-counter"}
        with closing(Site(folder, valkey_url, repo, [s3_bucket], ingest=ingest)) as site:
            assert site.start("ingest,idle", "--once", ready=False).wait(60) == 0, site.logs()[-3000:]
    result = compare(*repos, instrument="LSSTCam")
    assert result.differences == []
    assert result.equal
    counts = {count.kind: count.equal for count in result.counts}
    assert (counts["exposure"], counts["visit"], counts["visit_detector_region"]) == (2, 2, 410)
    assert (counts["visit_system_membership"], counts["dataset"], counts["datastore record"]) == (4, 410, 410)
