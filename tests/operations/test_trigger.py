"""Trigger: what the store has and the Butler has not is queued."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from autoingest.dev.simulator import Exposure, sensors
from testing.exposures import DAY_OBS, obs_id

from .conftest import Site


def test_only_what_is_missing_is_queued(site: Site) -> None:
    files = site.files(1, range(12))
    site.put([*files, *site.files(2, range(3))])
    site.put_text(f"LSSTCam/{DAY_OBS}/{obs_id(1)}/{obs_id(1)}_expectedSensors.json", "{}")
    site.put_text(f"LSSTCam/{DAY_OBS}/{obs_id(1)}/deep/er.fits", "{}")
    site.ingest(files[:4])
    site.redis.hset(f"FILE:{files[4].path}", "state", "waiting")
    site.redis.zadd(f"WAITING:{site.bucket}", {files[4].path: 9e9})
    site.redis.hset(f"FILE:{files[5].path}", "state", "ingested")

    looked = site.json("trigger", obs_id(1), "--dry-run")
    assert site.queued == []
    report = site.json("trigger", obs_id(1))
    expected = sorted(file.path for file in files[5:])
    assert sorted(looked["selected"]) == sorted(report["selected"]) == sorted(site.queued) == expected
    assert {name: report[name] for name in report if name != "selected"} == {
        "ignored": 1, "unknown": 1, "in_butler": 4, "on_the_way": 1, "queued": 7, "duplicate": 0, "not_in_store": [],
    }  # fmt: skip
    record = site.redis.hgetall(f"FILE:{files[5].path}")
    assert (record["state"], int(record["size"])) == ("queued", files[5].size)
    assert len(record["etag"]) == 32

    again = site.json("trigger", "--day", str(DAY_OBS))
    assert (again["in_butler"], again["on_the_way"], again["queued"]) == (4, 8, 3)
    forced = site.json("trigger", obs_id(1), "--force")
    assert (forced["queued"], forced["duplicate"]) == (5, 7), "what is on the queue is not queued twice"
    assert len(site.queued) == len(set(site.queued)) == 15


def test_an_image_a_prefix_and_a_replaced_object(site: Site) -> None:
    files = site.files(1, range(6))
    site.put(files)
    site.ingest(files)
    assert site.json("trigger", "--prefix", f"LSSTCam/{DAY_OBS}/MC_O")["queued"] == 0
    site.s3.put_object(Bucket=site.bucket, Key=files[2].path.partition("/")[2], Body=b"another size")
    assert site.json("trigger", "--prefix", "LSSTCam/2025")["selected"] == [files[2].path]
    name = files[4].path.rsplit("/", 1)[1].removesuffix(".fits")
    assert site.json("trigger", name, "--force")["selected"] == [files[4].path]
    assert site.queued == [files[2].path, files[4].path]


def test_corrupt_images_with_intact_sidecars(site: Site) -> None:
    exposure = Exposure(DAY_OBS, 1, datetime(2025, 7, 15, 3, tzinfo=UTC))
    images = {exposure.key(sensor): exposure.image(sensor) for sensor in sensors()[:4]}
    keys = list(images)
    good, overwritten, truncated, foreign = keys
    images[overwritten] = bytes(len(images[overwritten]))
    images[truncated] = images[truncated][:-100]
    images[foreign] = Exposure(DAY_OBS, 2, datetime(2025, 7, 15, 4, tzinfo=UTC)).image(sensors()[3])
    for key, body in images.items():
        site.s3.put_object(Bucket=site.bucket, Key=key, Body=body)
        site.redis.hset(f"FILE:{site.bucket}/{key}", mapping={"state": "ingested"})
    for sensor in sensors()[:4]:
        site.s3.put_object(Bucket=site.bucket, Key=exposure.sidecar_key(sensor), Body=exposure.sidecar(sensor))
    assert site.json("audit")["consistent"]
    findings = site.json("audit", "--deep", "100", code=1)["findings"]
    assert {finding["path"].partition("/")[2]: finding["problem"] for finding in findings} == {
        overwritten: "corrupt", truncated: "corrupt", foreign: "corrupt",
    }  # fmt: skip
    site.redis.delete(f"FILE:{site.bucket}/{good}")
    assert len(site.json("audit", "--deep", "1", code=1)["findings"]) == 1
    text = site.run("audit", "--deep", "100", code=1)
    assert f"{overwritten}: the image is corrupt in the store" in text
    assert "it is truncated" in text


def test_a_version_of_the_same_size_that_was_not_ingested(site: Site) -> None:
    """The Butler can't tell it from the one that it has; the eTag of the file's record does."""
    first, second, unknown = files = site.files(1, range(3))
    site.put(files)
    site.ingest(files)
    etags = [hashlib.md5(bytes(file.size), usedforsecurity=False).hexdigest() for file in files]
    for file, etag in zip((first, second), etags, strict=False):
        site.redis.hset(f"FILE:{file.path}", mapping={"state": "ingested", "etag": etag, "size": file.size})
    for file in (first, unknown):
        site.s3.put_object(Bucket=site.bucket, Key=file.path.partition("/")[2], Body=b"x" * file.size)
    site.config.write_text(site.config.read_text() + "reconcile: {grace: 0.001}\n")
    assert site.json("audit")["consistent"]
    (finding,) = site.json("audit", "--store", code=1)["findings"]
    assert (finding["path"], finding["problem"]) == (first.path, "other-version")
    assert "another version" in site.run("audit", "--store", code=1)
    report = site.json("reconcile", "--day", str(DAY_OBS), "--grace", "0s", "--all", code=1)
    (exposure,) = report["exposures"]
    assert (exposure["verdict"], exposure["missing"], exposure["in_butler"]) == ("missing", 1, 2)
    assert site.json("trigger", "--day", str(DAY_OBS), "--dry-run")["selected"] == [first.path]
    site.json("reconcile", "--day", str(DAY_OBS), "--grace", "0s", "--heal")
    assert site.queued == [first.path]
    record = site.redis.hgetall(f"FILE:{first.path}")
    assert (record["state"], record["butler_etag"]) == ("queued", etags[0])
    report = site.json("reconcile", "--day", str(DAY_OBS), "--grace", "0s", "--all")
    assert report["exposures"][0]["verdict"] == "arriving"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "say what"),
        (("MC_O_1",), "'MC_O_1' is neither an exposure like"),
        (("--day", "20251341"), "'20251341' is not an observing day"),
        (("--day", "20251231", "--bucket", "b"), "bucket 'b' is not configured"),
    ],
)
def test_wrong_use_is_told(site: Site, options: tuple[str, ...], message: str) -> None:
    assert message in " ".join(site.run("trigger", *options, code=2).split())


def test_redis_is_away(site: Site) -> None:
    site.config.write_text(re.sub(r"redis://\S+", "redis://127.0.0.1:9/0", site.config.read_text()))
    for command in (("audit",), ("trigger", "--day", "20251231"), ("queue status",)):
        assert "Redis at redis://127.0.0.1:9/0" in site.run(*command, code=2)


@pytest.fixture
def receiver() -> Iterator[tuple[str, list[Any]]]:
    """URL of a listener of another site that is away for a moment, and the records that it gets."""
    records: list[Any] = []
    away = iter([True])

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if next(away, False):
                self.send_response(503)
                self.end_headers()
                return
            secrets = {record.get("opaqueData") for record in body["Records"]}
            self.send_response(200 if secrets == {"correct-horse"} else 401)
            self.end_headers()
            if secrets == {"correct-horse"}:
                records.extend(body["Records"])
                keys = [record["s3"]["object"]["key"] for record in body["Records"]]
                self.wfile.write(json.dumps({"queued": keys[1:], "duplicate": keys[:1]}).encode())

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/notify", records
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_site_elsewhere(site: Site, receiver: tuple[str, list[Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    url, records = receiver
    files = site.files(1, range(4))
    site.put(files)
    site.put_text(f"LSSTCam/{DAY_OBS}/{obs_id(1)}/a+b%.fits", "")
    site.ingest(files[:1])
    monkeypatch.setenv("AUTOINGEST_NOTIFICATION_SECRETS", "wrong")
    assert "AUTOINGEST_NOTIFICATION_SECRETS" in site.run("trigger", obs_id(1), "--notify", url, code=2)
    monkeypatch.setenv("AUTOINGEST_NOTIFICATION_SECRETS", "correct-horse")
    report = site.json("trigger", obs_id(1), "--notify", url)
    assert (report["in_butler"], report["queued"], report["duplicate"]) == (1, 3, 1)
    keys = [record["s3"]["object"]["key"] for record in records]
    assert sorted(keys) == sorted(
        [file.path.partition("/")[2] for file in files[1:]] + [f"LSSTCam/{DAY_OBS}/{obs_id(1)}/a%2Bb%25.fits"]
    )
    assert {record["s3"]["bucket"]["name"] for record in records} == {site.bucket}
    assert site.queued == []


def test_what_does_not_exist(site: Site) -> None:
    files = site.files(1, range(2))
    site.put(files)
    told = site.run("trigger", obs_id(2), obs_id(1), "--day", "20240101", "--force", code=1)
    for text in (obs_id(2), "20240101"):
        assert f"{text}: not in the store" in told
    assert f"{obs_id(1)}: not" not in told
    assert len(site.queued) == 2
    assert site.json("trigger", f"{obs_id(1)}_R99_S11", code=1)["not_in_store"] == [f"{obs_id(1)}_R99_S11"]
