"""Events of a whole site: complete, incomplete and late exposures, and those that other services ingest."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import redis

from autoingest.butler.create import create_repository
from autoingest.butler.engine import IngestFile
from autoingest.butler.native import NativeEngine
from autoingest.client import EventsClient
from autoingest.model.events import Event
from autoingest.queue import keys
from testing import exposures, headers
from testing.event_schemas import invalid
from testing.site import Site
from testing.waiting import wait_for

DETECTORS = {94: "R22_S11", 95: "R22_S12", 96: "R22_S20"}


@pytest.fixture
def client(valkey_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(valkey_url, decode_responses=True) as client:
        client.flushall()
        yield client


@dataclass
class Telescope:
    """Writes exposures of three detectors, and announces them."""

    bucket: str
    store: Any
    site: Site
    client: redis.Redis

    def files(self, seq: int, detectors: Sequence[int]) -> list[IngestFile]:
        """Write files with their sidecars."""
        files = [self._here(file) for file in exposures.files(seq, detectors)]
        for file in files:
            key = file.path.partition("/")[2]
            self.store.put_object(Bucket=self.bucket, Key=key.replace(".fits", ".json"), Body=json.dumps(file.header))
            self.store.put_object(Bucket=self.bucket, Key=key, Body=b"pixels")
        return files

    def _here(self, file: IngestFile) -> IngestFile:
        path = f"{self.bucket}/{file.path.partition('/')[2]}"
        return replace(file, path=path, url=f"s3://{path}")

    def expect(self, seq: int) -> None:
        """Write the list of the expected sensors."""
        [file] = exposures.files(seq, [94])
        folder, obs_id = file.path.partition("/")[2].rpartition("/")[0], exposures.obs_id(seq)
        content = json.dumps({"expectedSensors": dict.fromkeys(DETECTORS.values(), "SCIENCE")})
        self.store.put_object(Bucket=self.bucket, Key=f"{folder}/{obs_id}_expectedSensors.json", Body=content)

    def announce(self, files: Sequence[IngestFile]) -> None:
        records = [
            {"s3": {"bucket": {"name": self.bucket}, "object": {"key": file.path.partition("/")[2]}}} for file in files
        ]
        body = json.dumps({"Records": records}).encode()
        with urllib.request.urlopen(urllib.request.Request(self.site.notify_url, body), timeout=60) as answer:
            assert answer.status == 200

    def told(self, seq: int) -> list[str]:
        """Ids of the events of an exposure."""
        entries: Any = self.client.xrange(keys.EVENTS)
        prefix = f"LSSTCam:{exposures.exposure_id(seq)}:"
        return [fields["id"].removeprefix(prefix) for _, fields in entries if fields["id"].startswith(prefix)]

    def tells(self, seq: int, *ids: str) -> None:
        """Wait for the events of an exposure, which are then exactly these."""
        wait_for(lambda: len(self.told(seq)) >= len(ids), f"{ids} of {seq}: {self.site.logs()[-3000:]}")
        assert self.told(seq) == list(ids)


@pytest.fixture
def telescope(
    tmp_path: Path, valkey_url: str, client: redis.Redis, s3_bucket: str, s3_client: Any
) -> Iterator[Telescope]:
    repo = str(tmp_path / "repo")
    create_repository(repo, cameras=["LSSTCam", "LATISS"])
    with closing(Site(tmp_path, valkey_url, repo, [s3_bucket], events={"deadline": 2.0})) as site:
        yield Telescope(s3_bucket, s3_client, site, client)


def test_exposures_are_told_when_they_are_complete(telescope: Telescope) -> None:
    telescope.site.start("enqueue,ingest,idle,events")
    events = EventsClient(telescope.site.events_url)
    stream = events.events(after="0")
    telescope.expect(1)
    telescope.announce(telescope.files(1, list(DETECTORS)))
    telescope.tells(1, "known:1", "visit:1", "complete:1")
    complete = next(event for event in stream if event.type == "exposure.complete")
    assert complete.data["obs_id"] == exposures.obs_id(1)
    assert complete.data["ingested"] == {"science": 3, "wavefront": 0, "guider": 0}
    assert complete.data["visits"] == [exposures.exposure_id(1)]

    # One detector is late.
    telescope.expect(2)
    telescope.announce(telescope.files(2, [94, 95]))
    telescope.tells(2, "known:1", "visit:1", "incomplete:1")
    incomplete = next(event for event in stream if event.type == "exposure.incomplete")
    assert incomplete.data["missing"] == [DETECTORS[96]]
    assert incomplete.data["last_seen"] == {DETECTORS[96]: "nowhere"}
    [late] = telescope.files(2, [96])
    telescope.announce([late])
    telescope.tells(2, "known:1", "visit:1", "incomplete:1", "complete:1")

    # It is replaced.
    key = late.path.partition("/")[2]
    telescope.store.put_object(Bucket=telescope.bucket, Key=key, Body=b"other pixels")
    telescope.announce([late])
    telescope.tells(2, "known:1", "visit:1", "incomplete:1", "complete:1", "complete:2")

    found = {item["obs_id"]: item["state"] for item in events.exposures(exposures.DAY_OBS)}
    assert found == {exposures.obs_id(1): "complete", exposures.obs_id(2): "complete"}
    files: Any = telescope.client.xrange(keys.FILE_EVENTS)
    assert len({fields["id"] for _, fields in files}) == 7
    told: Any = telescope.client.xrange(keys.EVENTS)
    for position, fields in files + told:
        assert not invalid(Event.of_entry(position, fields).cloud_event("/autoingest/test"))


def test_without_a_list_all_detectors_of_the_camera_are_expected(telescope: Telescope) -> None:
    telescope.site.start("enqueue,ingest,idle,events")
    telescope.announce(telescope.files(1, [94]))
    telescope.tells(1, "known:1", "visit:1", "incomplete:1")
    known = telescope.client.hgetall(keys.progress(telescope.bucket, exposures.obs_id(1)))
    assert (known["expected_from"], known["expected_number"]) == ("camera", "205")
    telescope.expect(1)
    telescope.announce(telescope.files(1, [95, 96]))
    telescope.tells(1, "known:1", "visit:1", "incomplete:1", "complete:1")


def test_files_that_other_services_ingest_count(telescope: Telescope) -> None:
    site, client = telescope.site, telescope.client
    site.events = {"deadline": 3600.0}
    site.start("enqueue,events")
    telescope.expect(1)
    files = telescope.files(1, list(DETECTORS))
    telescope.announce(files)
    with closing(NativeEngine(site.repo)) as engine:
        engine.ingest(files)
    for file in files:
        client.hset(keys.file(file.path), "ingest_time", time.time())
        client.lrem(keys.queue(telescope.bucket), 1, file.path)
    telescope.tells(1, "known:1", "visit:1", "complete:1")


def test_camera_of_one_detector(telescope: Telescope) -> None:
    """Its exposure is complete with its only file, of which there is no list."""
    header = headers.latiss()
    name, day = header["OBSID"], header["DAYOBS"]
    key = f"LATISS/{day}/{name}/{name}_R00_S00.fits"
    for end, body in ((".json", json.dumps(header).encode()), (".fits", b"pixels")):
        telescope.store.put_object(Bucket=telescope.bucket, Key=key.replace(".fits", end), Body=body)
    telescope.site.start("enqueue,ingest,idle,events")
    telescope.announce([IngestFile(f"{telescope.bucket}/{key}", "", name, False, header, 6)])
    events = EventsClient(telescope.site.events_url)
    complete = next(event for event in events.events(["exposure.complete"], ["LATISS"], after="0"))
    assert (complete.data["obs_id"], complete.data["missing"]) == (name, [])
    assert complete.data["ingested"] == {"science": 1, "wavefront": 0, "guider": 0}
