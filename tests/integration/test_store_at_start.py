"""A site whose store, which holds the repository's configuration too, is away when the program starts."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from contextlib import closing
from pathlib import Path
from uuid import uuid4

import pytest
import redis
import sqlalchemy
from click.testing import CliRunner

from autoingest.butler.create import create_repository
from autoingest.cli.simulate import simulate
from autoingest.dev import embedded
from testing.repository import contents
from testing.site import Site
from testing.waiting import wait_for

BUCKET = "rubin-summit"


def test_is_waited_for(tmp_path: Path, postgres_url: str, valkey_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Notifications are taken meanwhile, and what is away is told."""
    port = embedded.free_port()
    environment = {
        "S3_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "secret",
    }  # fmt: skip
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    schema = f"s{uuid4().hex}"
    engine = sqlalchemy.create_engine(postgres_url)
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text(f"CREATE SCHEMA {schema}"))
    engine.dispose()
    with redis.Redis.from_url(valkey_url) as client:
        client.flushall()
    repo = f"s3://{BUCKET}/repo"
    with embedded.s3(tmp_path / "s3", buckets=[BUCKET], port=port):
        create_repository(repo, registry_url=postgres_url, schema=schema, cameras=["LSSTCam"])
    with closing(Site(tmp_path, valkey_url, repo, [BUCKET], environment)) as site:
        process = site.start("enqueue,ingest,idle", ready=False)
        wait_for(lambda: any("Connection refused" in text for text in _missing(site)), "the cause is told", 180)
        assert process.poll() is None
        notification = json.dumps({"Records": []}).encode()
        request = urllib.request.Request(site.notify_url, notification, method="POST")
        with urllib.request.urlopen(request, timeout=30) as response:
            assert response.status == 200
        with embedded.s3(tmp_path / "s3", port=port):
            done = CliRunner().invoke(simulate, ["--notify", site.notify_url, "--bucket", BUCKET, "--exposures", "1"])
            assert done.exit_code == 0, done.output
            wait_for(lambda: not _missing(site), "the repository is there")
            wait_for(lambda: len(contents(repo).raws) == 197, "the exposure is in the Butler")
        assert site.stop(process) == 0


def _missing(site: Site) -> list[str]:
    url = f"http://127.0.0.1:{site.admin_ports[0]}/readyz"
    try:
        with urllib.request.urlopen(url, timeout=10) as response:
            answer = json.load(response)
    except urllib.error.HTTPError as err:
        answer = json.load(err)
    except OSError:
        return ["nobody answers"]
    missing: list[str] = answer["troubles"]
    return missing
