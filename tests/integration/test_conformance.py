"""Real raw files go the whole way, and what is then in the Butler is what the official tools would have written."""

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
from astropy.io import fits
from lsst.daf.butler import Butler

from autoingest.butler.create import create_repository
from autoingest.butler.private import file_records
from autoingest.dev.simulator import SentFile, notification
from testing.site import Site
from testing.waiting import wait_for

DATASET_NAMESPACE = uuid.UUID("840b31d9-05cd-5161-b2c8-00d32b280d0f")
FORMATTER = "lsst.obs.lsst.rawFormatter.LsstCamRawFormatter"


@pytest.fixture
def site(tmp_path: Path, valkey_url: str, s3_bucket: str) -> Iterator[Site]:
    repo = str(tmp_path / "repo")
    create_repository(repo)
    with redis.Redis.from_url(valkey_url) as client:
        client.flushall()
    with closing(Site(tmp_path, valkey_url, repo, buckets=[s3_bucket])) as site:
        yield site


def notify(site: Site, file: SentFile) -> None:
    request = urllib.request.Request(site.notify_url, notification(file), method="POST")
    with urllib.request.urlopen(request) as response:
        assert response.status == 200


def test_real_raws(site: Site, s3_client: Any, shared_data: Path) -> None:
    """Files without sidecars, of which the store announces each."""
    folder = shared_data / "raws"
    raws = sorted(folder.glob("LSSTCam/20250415/*/*.fits"))
    assert len(raws) == 3
    bucket = site.buckets[0]
    site.start("enqueue,ingest,idle,presence")
    headers = {raw.parent.name: fits.getheader(raw) for raw in raws}
    for raw in raws:
        key = str(raw.relative_to(folder))
        etag = s3_client.put_object(Bucket=bucket, Key=key, Body=raw.read_bytes())["ETag"].strip('"')
        notify(site, SentFile(f"{bucket}/{key}", raw.stat().st_size, etag, time.time()))
    wait_for(lambda: site.metric("autoingest_ingested_total") == len(raws), "the raws ingested")

    with Butler.from_config(site.repo, instrument="LSSTCam") as butler:
        exposures = {record.obs_id: record for record in butler.query_dimension_records("exposure")}
        assert sorted(exposures) == [raw.parent.name for raw in raws]
        for obs_id, record in exposures.items():
            assert record.id == 20250415_00000 + int(obs_id[-6:])
            assert record.day_obs == 20250415
            assert record.group == headers[obs_id]["GROUPID"]
            assert record.observation_type == headers[obs_id]["IMGTYPE"].strip().lower()
            assert record.seq_num == int(obs_id[-6:])
        (day,) = butler.query_dimension_records("day_obs")
        noons = [f"2025-04-{date}T12:00:00" for date in (15, 16)]
        assert [time.tai.isot.partition(".")[0] for time in (day.timespan.begin, day.timespan.end)] == noons
        visits = {record.name for record in butler.query_dimension_records("visit", explain=False)}
        assert visits == {obs_id for obs_id in exposures if exposures[obs_id].observation_type == "acq"}
        refs = butler.query_datasets("raw", collections="LSSTCam/raw/all")
        assert len(refs) == len(raws)
        urls = set()
        for ref in refs:
            exposure = ref.dataId["exposure"]
            assert ref.dataId["detector"] == 94
            assert ref.run == "LSSTCam/raw/all"
            assert ref.datasetType.storageClass_name == "Exposure"
            name = f"dataset_type=raw,run=LSSTCam/raw/all,detector=94,exposure={exposure},instrument=LSSTCam"
            assert ref.id == uuid.uuid5(DATASET_NAMESPACE, name)
            (raw,) = [raw for raw in raws if raw.parent.name.endswith(f"{exposure % 100000:06d}")]
            urls.add(f"s3://{bucket}/{raw.relative_to(folder)}")
            assert str(butler.getURI(ref)) in urls
            [(_, _, stored)] = file_records(butler, [ref])
            assert stored.formatter == FORMATTER
            assert stored.file_size == raw.stat().st_size
            assert stored.checksum is None

    for raw in raws:
        header = headers[raw.parent.name]
        path = f"presence/LSSTCam/{header['GROUPID']}/{header['CURINDEX'] - 1}/R22_S11"
        with urllib.request.urlopen(f"http://127.0.0.1:{site.presence_port}/{path}") as response:
            # Exposures taken again share their group.
            assert json.load(response)["uri"] in urls


REAL_HEADERS = {
    "lsstCam-MC_O_20250415_000060_R01_S01": "LSSTCam",
    "lsstCam-MC_O_20250415_000228_R10_S20": "LSSTCam",
    "lsstCam-MC_O_20250609_000578_R01_S01": "LSSTCam",
    "lsstCam-MC_O_20251121_000156_R44_SW0": "LSSTCam",
    "comCam-CC_O_20241108_000266_R22_S00": "ComCam",
    "comCamSim-CC_S_20240321_000093_R22_S22": "LSSTComCamSim",
    "latiss-AT_O_20230705_000379_R00_S00": "LATISS",
    "latiss-AT_O_20240624_000106_R00_S00-patched": "LATISS",
    "ts8-TS_C_20230512_000021_R22_S02": "LSST-TS8",
    "ts8-TS_C_20230525_000041_R22_S00": "TS8",
}
"""First components of the keys under which the images of these headers lie."""


def test_real_headers(site: Site, s3_client: Any, shared_data: Path) -> None:
    """Real headers arrive as sidecars; the stored exposures are the expected ones, and those on sky get visits."""
    bucket = site.buckets[0]
    expected = {}
    site.start("enqueue,ingest,idle")
    for name, folder in REAL_HEADERS.items():
        case = json.loads((shared_data / f"headers/{name}.json").read_text())
        record, header = case["exposure_record"], case["header"]
        expected[record["instrument"], record["id"]] = record, case["obsinfo"]["detector_num"]
        obs_id = record["obs_id"]
        key = f"{folder}/{record['day_obs']}/{obs_id}/{obs_id}_{header['RAFTBAY']}_{header['CCDSLOT']}"
        s3_client.put_object(Bucket=bucket, Key=f"{key}.json", Body=json.dumps(header))
        s3_client.put_object(Bucket=bucket, Key=f"{key}.fits", Body=b"pixels")
        notify(site, SentFile(f"{bucket}/{key}.fits", 6, "00", time.time()))
    wait_for(lambda: site.metric("autoingest_ingested_total") == len(expected), "the headers ingested")

    with Butler.from_config(site.repo) as butler:
        for instrument, exposure in expected:
            where = {"instrument": instrument, "exposure": exposure}
            (record,) = butler.query_dimension_records("exposure", data_id=where)
            wanted, detector = expected[instrument, exposure]
            stored = record.toDict()
            timespan = wanted.pop("timespan")
            found = stored.pop("timespan")
            assert (found.nsec[0], found.nsec[1]) == (timespan["begin_nsec"], timespan["end_nsec"])
            for name, value in wanted.items():
                if isinstance(value, float):
                    assert stored[name] == pytest.approx(value, rel=1e-9), name
                else:
                    assert stored[name] == value, name
            (ref,) = butler.query_datasets("raw", f"{instrument}/raw/all", data_id=where)
            assert ref.dataId["detector"] == detector
            on_sky = wanted["tracking_ra"] is not None and wanted["sky_angle"] is not None
            visits = butler.query_dimension_records("visit", instrument=instrument, visit=exposure, explain=False)
            assert len(visits) == (on_sky and wanted["can_see_sky"] is not False)
