"""No secret gets out: not in logs, answers, metrics, error output, dead letters, nor on a command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import psutil
import pytest
import redis

from autoingest.butler.create import create_repository
from autoingest.dev import embedded
from autoingest.dev.simulator import Exposure, sensors
from testing.kafka import kafka
from testing.s3server import Fault, S3Server, Stored
from testing.site import Site
from testing.threads import in_thread
from testing.waiting import wait_for

BUCKET = "rubin-summit"
OURS = f"prof@{BUCKET}"
SECRETS = {
    name: f"{name}-9f3c/+%{number}"
    for number, name in enumerate(
        ("notify-old", "notify-new", "redis", "s3-key", "s3-secret", "aws", "kafka", "admin", "presence", "postgres")
    )
}


class Observer:
    """Collects whatever somebody without the secrets might see."""

    def __init__(self) -> None:
        self.seen: dict[str, str] = {}

    def ask(self, url: str, body: bytes | None = None, token: str | None = None) -> int:
        """Send a request and keep the answer; its status."""
        request = urllib.request.Request(url, body)
        if token:
            request.add_header("Authorization", f"Bearer {token}")
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                status, head, text = answer.status, str(answer.headers), answer.read().decode()
        except urllib.error.HTTPError as err:
            status, head, text = err.code, str(err.headers), err.read().decode()
        self.seen[f"answer {len(self.seen)} of {url}"] = head + text
        return int(status)

    def look_at(self, site: Site) -> None:
        """Keep the command lines of a site's processes and their children."""
        for process in site.processes:
            if process.poll() is None:
                parent = psutil.Process(process.pid)
                for one in (parent, *parent.children(recursive=True)):
                    with suppress(psutil.NoSuchProcess):
                        self.seen[f"command line of {one.pid}"] = " ".join(one.cmdline()) + one.name()

    def run(self, *arguments: str, environment: Mapping[str, str]) -> int:
        """Run a command and keep what it says; its exit code."""
        done = subprocess.run(
            [sys.executable, "-m", "autoingest", *arguments],
            env={**os.environ, **environment}, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        self.seen[f"output {len(self.seen)} of {' '.join(arguments)}"] = done.stdout + done.stderr
        return done.returncode

    def assert_clean(self) -> None:
        """Check that no secret is in anything, however it is written."""
        for name, secret in SECRETS.items():
            forms = {secret, quote(secret, safe=""), quote_plus(secret), json.dumps(secret)[1:-1], repr(secret)[1:-1]}
            for where, text in self.seen.items():
                found = [form for form in forms if form in text]
                assert not found, f"secret {name} in {where}: {text[:2000]}"


@pytest.fixture
def environment(tmp_path: Path) -> Mapping[str, str]:
    """Where the program finds its secrets; every second one is in a file."""
    (tmp_path / "db-auth.yaml").write_text(
        json.dumps([{"url": "postgresql://127.0.0.1", "username": "rubin", "password": SECRETS["postgres"]}])
    )
    (tmp_path / "db-auth.yaml").chmod(0o600)
    result = {"LSST_DB_AUTH": str(tmp_path / "db-auth.yaml")}
    held = {
        "NOTIFICATION_SECRETS": f"{SECRETS['notify-old']} {SECRETS['notify-new']}",
        "REDIS_PASSWORD": SECRETS["redis"],
        "KAFKA_PASSWORD": SECRETS["kafka"],
        "ADMIN_TOKEN": SECRETS["admin"],
        "PRESENCE_TOKEN": SECRETS["presence"],
    }
    for number, (name, value) in enumerate(held.items()):
        if number % 2:
            result[f"AUTOINGEST_{name}"] = value
        else:
            (tmp_path / name).write_text(value + "\n")
            result[f"AUTOINGEST_{name}_FILE"] = str(tmp_path / name)
    return result


@pytest.fixture
def observer() -> Iterator[Observer]:
    result = Observer()
    yield result
    assert result.seen
    result.assert_clean()


def body(detector: int, secret: str, exposure: Exposure) -> bytes:
    key = exposure.key(sensors()[detector])
    record = {
        "s3": {"bucket": {"name": BUCKET}, "object": {"key": key}},
        "opaqueData": secret,
        "eventId": str(detector),
    }
    return json.dumps({"Records": [record]}).encode()


def test_through_success_and_failure(tmp_path: Path, environment: Mapping[str, str], observer: Observer) -> None:
    """An image is ingested, others fail, store and Redis go away; all with every kind of secret in use."""
    create_repository(str(tmp_path / "repo"), cameras=["LSSTCam"])
    store, exposure = S3Server(), Exposure(20300101, 7, datetime(2030, 1, 2, 3, tzinfo=UTC))
    objects = store.buckets.setdefault(BUCKET, {})
    for number in (94, 95):
        image, sidecar = exposure.key(sensors()[number]), exposure.sidecar_key(sensors()[number])
        objects[image] = Stored(b"x" * 10, "etag", time.time())
        objects[sidecar] = Stored(exposure.sidecar(sensors()[number]), "etag", time.time())
    with in_thread(store.run()) as s3:
        host = s3.removeprefix("http://")
        keys = f"{quote(SECRETS['s3-key'], safe='')}:{quote(SECRETS['s3-secret'], safe='')}"
        settings = {
            **environment,
            "LSST_RESOURCES_S3_PROFILE_prof": f"http://{keys}@{host}",
            "AWS_ACCESS_KEY_ID": "unused",
            "AWS_SECRET_ACCESS_KEY": SECRETS["aws"],
        }
        port = embedded.free_port()
        with embedded.valkey(tmp_path / "valkey", port=port) as url:
            with redis.Redis.from_url(url) as client:
                client.acl_setuser("autoingest", enabled=True, passwords=[f"+{SECRETS['redis']}"], keys=["*"],
                                   channels=["*"], categories=["+@all"])  # fmt: skip
            options: dict[str, Any] = {
                "logging": {"level": "DEBUG"},
                "redis": {"url": url, "username": "autoingest", "socketTimeout": 1},
                "enqueue": {"listen": {"host": "127.0.0.1", "port": (notify := embedded.free_port())}, "hold": 0.3},
            }
            ingest = {"retryDelay": 0.1, "maxAttempts": 2}
            site = Site(tmp_path, url, str(tmp_path / "repo"), [OURS], settings, ingest, options)
            site.notify_port = notify
            with closing(site):
                site.start("enqueue,ingest,idle,presence")
                admin = f"http://127.0.0.1:{site.admin_ports[0]}"
                presence = f"http://127.0.0.1:{site.presence_port}/presence/LSSTCam/g/0/R22_S11"
                post = site.notify_url
                wait_for(
                    lambda: '"troubles":[]' in _answer(observer, f"{admin}/readyz").replace(" ", ""),
                    "all roles started",
                )
                observer.look_at(site)
                assert observer.ask(post, body(94, SECRETS["notify-old"], exposure)) == 200
                assert observer.ask(post, body(96, SECRETS["notify-new"], exposure)) == 200  # not in the store
                assert observer.ask(post, body(95, SECRETS["notify-new"][:-1], exposure)) == 401
                assert observer.ask(post, body(95, SECRETS["notify-new"], exposure)[:-3]) == 400
                for where, token in ((presence, SECRETS["presence"]), (f"{admin}/metrics", SECRETS["admin"])):
                    assert observer.ask(where) == 401
                    assert observer.ask(where, token=token + "x") == 401
                    assert observer.ask(where, token=token) == 200
                letters = ("queue", "dead", "--config", str(tmp_path / "process-0.yaml"), "--json")
                wait_for(lambda: '"missing"' in _output(observer, letters, settings), "a dead letter")
                wait_for(lambda: "autoingest_ingested_total{" in _answer(observer, f"{admin}/metrics"), "an image in")
                store.fault = lambda *_: Fault(status=403)
                assert observer.ask(post, body(95, SECRETS["notify-new"], exposure)) == 200
                wait_for(lambda: "store away" in site.logs(), "the store refuses")
                for command in (("queue", "status"), ("audit",), ("trigger", exposure.obs_id), ("config", "check")):
                    file = str(tmp_path / "process-0.yaml")
                    arguments = (*command, file) if command[0] == "config" else (*command, "--config", file)
                    observer.run(*arguments, environment=settings)
                    observer.run(*arguments, environment=settings | {"AUTOINGEST_REDIS_PASSWORD_FILE": "/nowhere"})
                observer.seen["log"] = site.logs()
                with redis.Redis.from_url(url) as client:
                    client.shutdown(nosave=True)
                wait_for(lambda: observer.ask(post, body(96, SECRETS["notify-old"], exposure)) == 503, "a 503")
                assert observer.ask(presence, token=SECRETS["presence"]) == 503
                assert observer.ask(f"{admin}/readyz") == 200
                observer.run("queue", "status", "--config", file, environment=settings)
                site.stop(site.processes[0])
                observer.seen["log at the end"] = site.logs()
    assert "redis away" in site.logs()


def _answer(observer: Observer, url: str) -> str:
    observer.ask(url, token=SECRETS["admin"])
    return list(observer.seen.values())[-1]


def _output(observer: Observer, arguments: tuple[str, ...], environment: Mapping[str, str]) -> str:
    observer.run(*arguments, environment=environment)
    return list(observer.seen.values())[-1]


def test_where_nothing_lets_us_in(
    tmp_path: Path, valkey_url: str, environment: Mapping[str, str], observer: Observer
) -> None:
    """Database away, Kafka and Redis without a place for our password, credentials for no server."""
    settings = {**environment, "AWS_ACCESS_KEY_ID": SECRETS["s3-key"], "AWS_SECRET_ACCESS_KEY": SECRETS["aws"],
                "S3_ENDPOINT_URL": f"http://127.0.0.1:{embedded.free_port()}"}  # fmt: skip
    repo = tmp_path / "repo"
    create_repository(str(repo), cameras=["LSSTCam"])
    (repo / "butler.yaml").write_text(
        (repo / "butler.yaml").read_text().replace(
            "sqlite:///<butlerRoot>/gen3.sqlite3", f"postgresql+psycopg://127.0.0.1:{embedded.free_port()}/butler"
        )
    )  # fmt: skip
    with kafka() as broker, closing(Site(tmp_path, valkey_url, str(repo), [BUCKET], settings)) as site:
        topics = {"bootstrapServers": [broker.bootstrap], "topics": ["t"], "groupId": "g",
                  "securityProtocol": "SASL_PLAINTEXT", "saslUsername": "u", "saslMechanism": "PLAIN"}  # fmt: skip
        listen = {"host": "127.0.0.1", "port": site.notify_port}
        site.settings = {
            "logging": {"level": "DEBUG"},
            "redis": {"url": valkey_url, "username": "nobody"},
            "enqueue": {"listen": listen, "kafka": topics},
        }
        site.start("ingest,enqueue", ready=False)
        wait_for(lambda: "repository away" in site.logs() or site.processes[0].poll() is not None, "no database")
        observer.look_at(site)
        if site.processes[0].poll() is None:
            observer.ask(f"http://127.0.0.1:{site.admin_ports[0]}/readyz")
        file = str(tmp_path / "process-0.yaml")
        for command in (("queue", "status"), ("reconcile", "--day", "20300101"), ("trigger", "MC_O_20300101_000001")):
            assert observer.run(*command, "--config", file, environment=settings) != 0
        site.close()
        observer.seen["log"] = site.logs()
    for away in ("repository away", "redis away", "kafka"):
        assert away in site.logs().lower(), away


@pytest.mark.parametrize("planted", [SECRETS["redis"], quote(SECRETS["postgres"], safe=""), "x" + SECRETS["s3-key"]])
def test_the_search_finds_secrets(planted: str) -> None:
    observer = Observer()
    observer.seen["log"] = json.dumps({"error": f"a{planted}b"})
    with pytest.raises(AssertionError, match=r"secret .* in log"):
        observer.assert_clean()
