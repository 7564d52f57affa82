"""A visit that can't be defined holds up no file, and is defined as soon as it can be."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import redis
from lsst.daf.butler import Butler

from autoingest.butler.create import create_repository
from autoingest.butler.records import rows
from autoingest.instruments import exposure_record
from autoingest.queue import keys
from testing import exposures
from testing.site import Site
from testing.waiting import wait_for


@pytest.fixture
def client(valkey_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(valkey_url, decode_responses=True) as client:
        client.flushall()
        yield client


def test_owed_visit_heals(tmp_path: Path, valkey_url: str, client: redis.Redis, s3_bucket: str, s3_client: Any) -> None:
    repo = str(tmp_path / "repo")
    create_repository(repo, cameras=["LSSTCam"])
    [file] = exposures.files(1, [94])
    # Another service has written the exposure, with an angle that is none, and no visit.
    wanted = rows(exposure_record(file.header, file.url))
    with Butler.from_config(repo, writeable=True) as butler:
        for element, row in wanted.items():
            butler.registry.insertDimensionData(element, row | ({"sky_angle": math.inf} if "sky_angle" in row else {}))
    key = file.path.partition("/")[2]
    s3_client.put_object(Bucket=s3_bucket, Key=key.replace(".fits", ".json"), Body=json.dumps(file.header))
    s3_client.put_object(Bucket=s3_bucket, Key=key, Body=b"pixels")
    client.lpush(keys.queue(s3_bucket), f"{s3_bucket}/{key}")

    with closing(Site(tmp_path, valkey_url, repo, [s3_bucket], ingest={"visitRetry": 0.2})) as site:
        victim = site.start("ingest")
        field = f"LSSTCam/{exposures.exposure_id(1)}"

        def attempts() -> int:
            entry = client.hget(keys.owed(s3_bucket), field)
            return int(json.loads(str(entry))["attempts"]) if entry else -1

        wait_for(lambda: attempts() >= 1, f"owed and tried: {site.logs()[-2000:]}")
        assert client.hgetall(keys.ingested(s3_bucket, "LSSTCam")) == {str(exposures.DAY_OBS): "1"}
        assert site.metric("autoingest_owed_visits") == 1
        victim.kill()
        victim.wait()

        with Butler.from_config(repo, writeable=True) as butler:
            butler.registry.syncDimensionData("exposure", wanted["exposure"], update=True)
            assert not butler.query_dimension_records("visit", instrument="LSSTCam", explain=False)
        site.start("ingest")
        wait_for(lambda: not client.exists(keys.owed(s3_bucket)), f"visit defined: {site.logs()[-2000:]}")
        assert site.metric("autoingest_visits_total", 1) == 1
        assert site.metric("autoingest_owed_visits", 1) == 0
    with Butler.from_config(repo) as butler:
        [visit] = butler.query_dimension_records("visit", instrument="LSSTCam")
        assert visit.name == exposures.obs_id(1)
