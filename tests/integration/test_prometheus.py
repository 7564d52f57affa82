"""A real Prometheus reads the metrics of a running site: its alerts follow what happens, and dashboards have data."""

from __future__ import annotations

import json
import math
import re
import shutil
import ssl
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from autoingest.butler.create import create_repository
from autoingest.dev.embedded import free_port
from autoingest.model.notices import CANARY_FOLDER
from testing import exposures
from testing.chaos import RedisServer
from testing.kafka import kafka
from testing.requirements import missing
from testing.site import Site
from testing.tls import certificate
from testing.waiting import wait_for

FILES = Path(__file__).parents[2] / "helm" / "autoingest" / "files"
RULES = FILES / "alerts.yaml"


class Prometheus:
    """A running server."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}/api/v1"

    def get(self, path: str, **query: str) -> Any:
        with urllib.request.urlopen(f"{self._url}/{path}?{urllib.parse.urlencode(query)}", timeout=30) as response:
            return json.loads(response.read())["data"]

    def value(self, expression: str) -> float | None:
        found = self.get("query", query=expression)["result"]
        return float(found[0]["value"][1]) if found else None

    def has_data(self, expression: str) -> bool:
        found = self.get("query", query=expression)["result"]
        return any(not math.isnan(float(series["value"][1])) for series in found)

    def firing(self) -> set[str]:
        alerts = self.get("alerts")["alerts"]
        return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}

    def is_up(self) -> bool:
        try:
            return self.value('sum(up{job="autoingest"})') == 1
        except OSError:
            return False


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path / "valkey")
    server.start()
    yield server
    server.close()


@contextmanager
def prometheus(tmp_path: Path, site: Site) -> Iterator[Prometheus]:
    """Run a server that reads the site every second, with the alerts, which fire without delay here."""
    program = shutil.which("prometheus")
    if program is None:
        missing("prometheus", "install Debian's package prometheus")
    content = yaml.safe_load(RULES.read_text())
    for group in content["groups"]:
        group["interval"] = "1s"
        for rule in group["rules"]:
            rule.pop("for", None)
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(content))
    target = {"targets": [f"127.0.0.1:{site.admin_ports[0]}"], "labels": {"namespace": "summit"}}
    config = {
        "global": {"scrape_interval": "1s"},
        "rule_files": ["rules.yaml"],
        "scrape_configs": [{"job_name": "autoingest", "static_configs": [target]}],
    }
    (tmp_path / "prometheus.yaml").write_text(yaml.safe_dump(config))
    port = free_port()
    with (tmp_path / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            [program, f"--config.file={tmp_path / 'prometheus.yaml'}", f"--storage.tsdb.path={tmp_path / 'data'}",
             f"--web.listen-address=127.0.0.1:{port}"],
            stdout=log, stderr=log,
        )  # fmt: skip
    try:
        server = Prometheus(port)
        wait_for(server.is_up, f"it reads the site, see {tmp_path / 'prometheus.log'}")
        yield server
    finally:
        process.kill()
        process.wait()


def test_alerts_follow_an_outage(tmp_path: Path, redis_server: RedisServer, s3_bucket: str) -> None:
    repo = str(tmp_path / "repo")
    create_repository(repo, cameras=["LSSTCam"])
    with closing(Site(tmp_path, redis_server.url, repo, [s3_bucket])) as site:
        site.start("enqueue,ingest,idle,presence,events")
        with prometheus(tmp_path, site) as server:
            _follow(server, redis_server)


def _follow(prometheus: Prometheus, redis_server: RedisServer) -> None:
    wait_for(lambda: prometheus.value("autoingest_redis_up") == 1, "Redis is up")
    rules = [rule for group in prometheus.get("rules")["groups"] for rule in group["rules"]]
    assert {rule["health"] for rule in rules} <= {"ok", "unknown"}, rules
    assert prometheus.value('autoingest_dependency_up{dependency="butler"}') == 1
    assert prometheus.value('autoingest_processes{state="alive"}') == 1
    assert prometheus.value("autoingest_redis_persistent") == 1
    assert prometheus.value("process_start_time_seconds") is not None
    assert prometheus.value('{__name__=~"autoingest_.*_created"}') is None
    wait_for(lambda: not prometheus.firing(), "nothing fires once it has been read")

    redis_server.kill()
    wait_for(lambda: {"AutoingestRedisDown", "AutoingestDependencyDown"} <= prometheus.firing(), "the alerts fire")
    assert prometheus.value('autoingest_dependency_down_since_timestamp_seconds{dependency="redis"}') is not None
    redis_server.start()
    wait_for(lambda: not prometheus.firing(), "all is well again", 120)


def _queries() -> set[str]:
    """What the dashboards ask for, and every series that a rule looks at."""
    found = set()
    for file in (FILES / "dashboards").glob("*.json"):
        for panel in json.loads(file.read_text())["panels"]:
            found |= {target["expr"] for target in panel["targets"]}
    for group in yaml.safe_load(RULES.read_text())["groups"]:
        for rule in group["rules"]:
            found |= set(re.findall(r"\b(?:autoingest|process)_\w+(?:\{[^}]*\})?", rule["expr"]))
    return {each.replace("$__rate_interval", "1h").replace("$namespace", "summit") for each in found}


def _has_ingested(server: Prometheus, number: int) -> bool:
    return (server.value("sum(autoingest_ingested_total)") or 0) >= number


def test_rules_and_dashboards_find_data_after_a_night(
    tmp_path: Path, redis_server: RedisServer, s3_bucket: str, s3_client: Any
) -> None:
    repo = str(tmp_path / "repo")
    create_repository(repo, cameras=["LSSTCam"])
    cert_file, key_file = certificate(tmp_path)
    trusted = ssl.create_default_context(cafile=str(cert_file))

    def take(seq: int) -> None:
        """Write and announce two detectors, an image without header, and a canary; and look one up."""
        records = []
        for file in exposures.files(seq, [94, 95]):
            key = file.path.partition("/")[2]
            s3_client.put_object(Bucket=s3_bucket, Key=key.replace(".fits", ".json"), Body=json.dumps(file.header))
            s3_client.put_object(Bucket=s3_bucket, Key=key, Body=b"pixels")
            records.append(key)
        [broken] = exposures.files(seq, [96])
        s3_client.put_object(Bucket=s3_bucket, Key=broken.path.partition("/")[2], Body=b"no header")
        keys = [*records, broken.path.partition("/")[2], f"{CANARY_FOLDER}{seq}"]
        now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        body = {
            "Records": [
                {"eventTime": now, "s3": {"bucket": {"name": s3_bucket}, "object": {"key": key}}} for key in keys
            ]
        }
        with urllib.request.urlopen(urllib.request.Request(site.notify_url, json.dumps(body).encode()), timeout=60):
            pass
        url = f"https://127.0.0.1:{site.presence_port}/presence/LSSTCam/2025-07-15T01:00:40.000/0/R22_S11"
        with urllib.request.urlopen(url, timeout=60, context=trusted) as answer:
            assert answer.status == 200

    with kafka() as broker, closing(Site(tmp_path, redis_server.url, repo, [s3_bucket])) as site:
        broker.create("summit", 1)
        broker.create("events", 1)
        site.enqueue = {
            "kafka": {"bootstrapServers": [broker.bootstrap], "topics": ["summit"], "groupId": "autoingest"}
        }
        site.events = {"deadline": 1.0, "kafka": {"bootstrapServers": [broker.bootstrap], "topic": "events"}}
        files = {"certFile": str(cert_file), "keyFile": str(key_file)}
        site.settings = {
            "presence": {"listen": {"host": "127.0.0.1", "port": site.presence_port, "tls": files}},
            "reconcile": {"interval": 1.0, "last": 86400.0},
        }
        site.start("enqueue,ingest,idle,presence,events,reconcile")
        with prometheus(tmp_path, site) as server:
            for seq in (1, 2):
                take(seq)
                wait_for(partial(_has_ingested, server, 2 * seq), f"exposure {seq} is ingested")
            for query in sorted(_queries()):
                wait_for(partial(server.has_data, query), f"data for {query}")
