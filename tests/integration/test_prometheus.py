"""A real Prometheus reads the metrics of a running site, and its alerts follow what happens to the servers."""

from __future__ import annotations

import json
import shutil
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml

from autoingest.butler.create import create_repository
from autoingest.dev.embedded import free_port
from testing.chaos import RedisServer
from testing.requirements import missing
from testing.site import Site
from testing.waiting import wait_for

RULES = Path(__file__).parents[2] / "helm" / "autoingest" / "files" / "alerts.yaml"


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


@pytest.fixture
def site(tmp_path: Path, redis_server: RedisServer, s3_bucket: str) -> Iterator[Site]:
    repo = str(tmp_path / "repo")
    create_repository(repo, cameras=["LSSTCam"])
    with closing(Site(tmp_path, redis_server.url, repo, [s3_bucket])) as site:
        site.start("enqueue,ingest,idle,presence,events")
        yield site


@pytest.fixture
def prometheus(tmp_path: Path, site: Site) -> Iterator[Prometheus]:
    """A server that reads the site every second, with the alerts, which fire without delay here."""
    program = shutil.which("prometheus")
    if program is None:
        missing("prometheus", "install Debian's package prometheus")
    content = yaml.safe_load(RULES.read_text())
    for group in content["groups"]:
        group["interval"] = "1s"
        for rule in group["rules"]:
            rule.pop("for", None)
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(content))
    target = f"127.0.0.1:{site.admin_ports[0]}"
    config = {
        "global": {"scrape_interval": "1s"},
        "rule_files": ["rules.yaml"],
        "scrape_configs": [{"job_name": "autoingest", "static_configs": [{"targets": [target]}]}],
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


def test_alerts_follow_an_outage(prometheus: Prometheus, redis_server: RedisServer) -> None:
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
