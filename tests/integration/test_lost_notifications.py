"""A tenth of the notifications is lost; reconcile brings the images in."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from contextlib import closing
from pathlib import Path
from typing import Any

import redis

from autoingest.butler.create import create_repository
from testing.repository import contents
from testing.site import Site
from testing.waiting import wait_for


def test_reconcile_heals_lost_notifications(tmp_path: Path, valkey_url: str, s3_bucket: str) -> None:
    repo = str(tmp_path / "repo")
    create_repository(repo, cameras=["LSSTCam"])
    with redis.Redis.from_url(valkey_url, decode_responses=True) as client:
        client.flushall()
    site = Site(tmp_path, valkey_url, repo, buckets=[s3_bucket])

    def autoingest(command: str, *options: str, code: int = 0) -> Any:
        words = [sys.executable, "-m", "autoingest", command, "--config", str(tmp_path / "process-0.yaml"), *options]
        result = subprocess.run([*words, "--json"], capture_output=True, text=True, timeout=60)
        assert result.returncode == code, result.stderr + result.stdout
        return json.loads(result.stdout)

    def ingested(number: int) -> None:
        wait_for(lambda: site.metric("autoingest_ingested_total") >= number, f"{number} ingested: {site.logs()}")

    with closing(site):
        site.start("enqueue,ingest,idle")
        command = [sys.executable, "-m", "autoingest", "simulate", "--bucket", s3_bucket, "--day-obs", "20251231"]
        subprocess.run([*command, "--exposures", "3", "--json"], capture_output=True, timeout=120, check=True)
        listed = autoingest("trigger", "--day", "20251231", "--dry-run")["selected"]
        assert len(listed) == 3 * 205
        records = [
            {"s3": {"bucket": {"name": s3_bucket}, "object": {"key": path.partition("/")[2]}}}
            for number, path in enumerate(listed)
            if number % 10
        ]
        body = json.dumps({"Records": records}).encode()
        with urllib.request.urlopen(urllib.request.Request(site.notify_url, body, method="POST")) as response:
            assert response.status == 200
        ingested(len(records))

        lost = 3 * 205 - len(records)
        report = autoingest("reconcile", "--day", "20251231", "--grace", "0s", "--heal")
        assert report["verdicts"]["missing"] == 3
        assert report["healed"] == lost
        ingested(3 * 205)
        assert autoingest("reconcile", "--day", "20251231", "--grace", "0s")["verdicts"]["complete"] == 3
        assert autoingest("trigger", "--day", "20251231")["in_butler"] == 3 * 205
        audit = autoingest("audit")
        assert audit["consistent"]
        assert audit["counts"][s3_bucket]["ingested"] == 3 * 205
    found = contents(repo)
    assert len(found.raws | found.guiders) == 3 * 205
    assert found.visits == dict.fromkeys(found.exposures, 205)
