"""A real guider waits for its exposure, whatever happens meanwhile, and is ingested or given up."""

from __future__ import annotations

import json
import time
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import redis
from lsst.daf.butler import Butler

from autoingest.butler.create import create_repository
from autoingest.butler.private import file_records
from autoingest.dev.simulator import SentFile, notification
from autoingest.queue import keys
from testing.site import Site
from testing.waiting import wait_for

OBS_ID = "MC_C_20240918_000013"
FOLDER = f"LSSTCam/20240918/{OBS_ID}"
GUIDER = f"{FOLDER}/{OBS_ID}_R00_SG0_guider.fits"
SCIENCE = f"{FOLDER}/{OBS_ID}_R42_S11.fits"
DATASET_NAMESPACE = uuid.UUID("840b31d9-05cd-5161-b2c8-00d32b280d0f")


@pytest.fixture
def client(valkey_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(valkey_url, decode_responses=True) as client:
        client.flushall()
        yield client


@pytest.fixture
def site(tmp_path: Path, valkey_url: str, client: redis.Redis, s3_bucket: str) -> Iterator[Site]:
    repo = str(tmp_path / "repo")
    create_repository(repo, cameras=["LSSTCam"])
    with closing(Site(tmp_path, valkey_url, repo, buckets=[s3_bucket])) as site:
        yield site


def arrive(site: Site, s3_client: Any, raws: Path, key: str) -> None:
    """Put a file and its sidecar into the store, and announce it."""
    bucket, image, sidecar = site.buckets[0], raws / key, Path(key).with_suffix(".json")
    body = image.read_bytes() if image.exists() else b"pixels"
    s3_client.put_object(Bucket=bucket, Key=str(sidecar), Body=(raws / sidecar).read_bytes())
    etag = s3_client.put_object(Bucket=bucket, Key=key, Body=body)["ETag"].strip('"')
    sent = notification(SentFile(f"{bucket}/{key}", len(body), etag, time.time()))
    with urllib.request.urlopen(urllib.request.Request(site.notify_url, sent, method="POST")) as response:
        assert response.status == 200


def wait_until_waiting(site: Site, client: redis.Redis) -> None:
    path = f"{site.buckets[0]}/{GUIDER}"
    wait_for(lambda: client.zscore(keys.waiting(site.buckets[0]), path), f"waiting: {site.logs()[-2000:]}")


def test_guider_waits_through_crashes_and_is_woken_by_another_worker(
    site: Site, client: redis.Redis, s3_client: Any, shared_data: Path
) -> None:
    raws, bucket = shared_data / "raws", site.buckets[0]
    site.ingest = {"guiderRecheck": 3600}
    site.start("enqueue,idle")
    first = site.start("ingest")
    arrive(site, s3_client, raws, GUIDER)
    wait_until_waiting(site, client)
    assert site.metric("autoingest_batch_files_count", 1) == 1
    first.kill()
    first.wait()
    assert not client.keys(f"WORKER:{bucket}:*")

    # Of the two that come now one inserts the exposure; the guider is anybody's.
    site.start("ingest")
    site.start("ingest")
    wait_until_waiting(site, client)
    arrive(site, s3_client, raws, SCIENCE)
    wait_for(lambda: client.hget(keys.ingested(bucket, "LSSTCam"), "20240918") == "2", "both ingested")
    batches = sum(site.metric("autoingest_batch_files_count", process) for process in (2, 3))
    assert batches == 2, "waiting has cost something"
    assert not client.exists(keys.waiting(bucket), keys.waiting_for(bucket, OBS_ID), keys.dead(bucket))

    with Butler.from_config(site.repo, instrument="LSSTCam") as butler:
        [ref] = butler.query_datasets("guider_raw", collections="LSSTCam/raw/guider")
        [exposure] = butler.query_dimension_records("exposure")
        assert (exposure.obs_id, ref.dataId["exposure"], ref.dataId["detector"]) == (OBS_ID, exposure.id, 189)
        name = f"dataset_type=guider_raw,run=LSSTCam/raw/guider,detector=189,exposure={exposure.id},instrument=LSSTCam"
        assert ref.id == uuid.uuid5(DATASET_NAMESPACE, name)
        assert ref.datasetType.storageClass_name == "Stamps"
        [(_, _, stored)] = file_records(butler, [ref])
        assert stored.path == f"s3://{bucket}/{GUIDER}"
        assert stored.formatter == "lsst.obs.base.formatters.fitsGeneric.FitsGenericFormatter"
        assert (stored.file_size, stored.checksum) == ((raws / GUIDER).stat().st_size, None)


def test_guider_whose_exposure_never_comes(site: Site, client: redis.Redis, s3_client: Any, shared_data: Path) -> None:
    bucket, path = site.buckets[0], f"{site.buckets[0]}/{GUIDER}"
    site.ingest = {"guiderRecheck": 1, "guiderWait": 6}
    site.settings = {"idle": {"interval": 0.1}}
    site.start("enqueue,idle")
    first = site.start("ingest")
    arrive(site, s3_client, shared_data / "raws", GUIDER)
    wait_until_waiting(site, client)
    assert site.stop(first) == 0
    site.start("ingest")
    started = time.time()
    wait_for(lambda: client.hexists(keys.dead(bucket), path), "dead letter")
    letter = json.loads(str(client.hget(keys.dead(bucket), path)))
    assert (letter["reason"], letter["attempts"]) == ("no-exposure", 1)
    assert OBS_ID in letter["exception"]
    received = float(str(client.hget(keys.file(path), "recv_time")))
    assert received + 6 <= letter["last_time"] < started + 6, "the time counts on from the arrival"
    assert site.metric("autoingest_batch_files_count", 2) <= 7, "looked at more often than the recheck says"
    assert not client.exists(keys.waiting(bucket), keys.waiting_for(bucket, OBS_ID), keys.queue(bucket))
