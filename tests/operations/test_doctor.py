"""The examination of a site, on real servers that are well, and with each of them at fault."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
import yaml
from redis.asyncio import Redis

from autoingest.app.config import Config
from autoingest.app.secrets import NOTIFICATION_SECRETS, READ_TOKEN, WEBHOOK_SECRETS
from autoingest.butler.create import create_repository
from autoingest.dev.embedded import free_port
from autoingest.operations.doctor import Finding, examine
from autoingest.queue import keys
from autoingest.queue.connection import connect
from autoingest.queue.heartbeats import Heartbeat, RoleState, Trouble, beat
from testing.command import run
from testing.kafka import kafka

ROLES = {"enqueue": RoleState(""), "ingest": RoleState(""), "idle": RoleState("")}


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository to be copied."""
    root = tmp_path_factory.mktemp("doctor") / "repo"
    create_repository(str(root), cameras=["LSSTCam"])
    return root


@pytest.fixture(autouse=True)
def _secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (NOTIFICATION_SECRETS, READ_TOKEN, WEBHOOK_SECRETS):
        monkeypatch.setenv(name, "swordfish")


@pytest.fixture
async def content(
    redis_client: Redis,
    valkey_url: str,
    made: Path,
    tmp_path: Path,
    s3_bucket: str,
    s3_client: Any,
) -> AsyncIterator[dict[str, Any]]:
    """The configuration of a site where all is well."""
    s3_client.put_object(Bucket=s3_bucket, Key="x.json", Body=b"{}")
    now = (await redis_client.time())[0]
    await beat(redis_client, Heartbeat("one", "host-1", 17, "1", now, time.time(), ROLES))
    await redis_client.config_set("appendonly", "yes")
    repo = shutil.copytree(made, tmp_path / "repo")
    yield {"buckets": [s3_bucket], "redis": {"url": valkey_url}, "ingest": {"repo": str(repo)}}
    await redis_client.config_set("appendonly", "no")


async def findings(content: dict[str, Any]) -> dict[str, Finding]:
    """What is found by subject; the worst of each."""
    config = Config.from_dict(content, "test")
    found: dict[str, Finding] = {}
    async with connect(config.redis) as client:
        async for finding in examine(config, client):
            if finding.subject not in found or finding.verdict == "failed":
                found[finding.subject] = finding
    return found


async def test_all_is_well(content: dict[str, Any]) -> None:
    found = await findings(content)
    assert {finding.verdict for finding in found.values()} == {"ok"}, found
    assert set(found) == {"Redis", "processes", f"bucket {content['buckets'][0]}", "Butler", "secrets"}
    assert found["Butler"].text.endswith("on sqlite, with LSSTCam")


async def test_redis_away(content: dict[str, Any]) -> None:
    content["redis"]["url"] = f"redis://127.0.0.1:{free_port()}/0"
    found = await findings(content)
    assert found["Redis"].verdict == "failed"
    assert "AUTOINGEST_REDIS_PASSWORD" in found["Redis"].remedy
    assert found["Butler"].verdict == "ok", "the others are examined all the same"


async def test_redis_that_evicts_or_forgets(content: dict[str, Any], redis_client: Redis) -> None:
    await redis_client.config_set("maxmemory-policy", "allkeys-lru")
    try:
        found = await findings(content)
    finally:
        await redis_client.config_set("maxmemory-policy", "noeviction")
    assert (found["Redis"].verdict, "allkeys-lru" in found["Redis"].text) == ("failed", True)
    await redis_client.config_set("appendonly", "no")
    assert (await findings(content))["Redis"].verdict == "warning"


async def test_processes(content: dict[str, Any], redis_client: Redis) -> None:
    now = (await redis_client.time())[0]
    await redis_client.zadd(keys.HEARTBEAT_TIMES, {"one": now - 60})
    troubled = RoleState("", (Trouble("the store is away", 1.0),))
    await beat(redis_client, Heartbeat("two", "host-2", 18, "1", now, now - 100.0, {"ingest": troubled}))
    found = await findings(content)
    assert found["process host-1 17"].text.startswith("not heard of for 6")
    assert found["process host-2 18"].text.endswith("behind this machine's")
    assert found["role ingest on host-2"].text == "the store is away"
    assert found["processes"].text == "none has role enqueue, idle"


async def test_buckets(content: dict[str, Any], s3_client: Any) -> None:
    s3_client.create_bucket(Bucket="empty-one")
    content["buckets"] += ["empty-one", "not-there"]
    found = await findings(content)
    assert found["bucket empty-one"].verdict == "warning"
    assert "no bucket 'not-there'" in found["bucket not-there"].text


async def test_no_repository(content: dict[str, Any], tmp_path: Path) -> None:
    content["ingest"]["repo"] = str(tmp_path / "nowhere")
    found = await findings(content)
    assert (found["Butler"].verdict, "nowhere" in found["Butler"].text) == ("failed", True)


async def test_repository_that_this_user_may_not_write(
    content: dict[str, Any], postgres_url: str, tmp_path: Path
) -> None:
    engine = sqlalchemy.create_engine(postgres_url, isolation_level="AUTOCOMMIT", poolclass=sqlalchemy.NullPool)
    with engine.connect() as connection:
        for statement in (
            "CREATE SCHEMA doctor",
            "CREATE ROLE reader LOGIN PASSWORD 'x'",
            "ALTER DEFAULT PRIVILEGES IN SCHEMA doctor GRANT SELECT ON TABLES TO reader",
            "GRANT USAGE ON SCHEMA doctor TO reader",
        ):
            connection.exec_driver_sql(statement)
    try:
        root = tmp_path / "postgres"
        create_repository(str(root), registry_url=postgres_url, schema="doctor", cameras=["LSSTCam"])
        content["ingest"]["repo"] = str(root)
        assert (await findings(content))["Butler"].verdict == "ok"
        file = root / "butler.yaml"
        url = sqlalchemy.make_url(postgres_url).set(username="reader", password="x")
        settings = yaml.safe_load(file.read_text())
        settings["registry"]["db"] = url.render_as_string(hide_password=False)
        file.write_text(yaml.safe_dump(settings))
        found = (await findings(content))["Butler"]
        assert (found.verdict, "permission denied" in found.text) == ("failed", True), found
    finally:
        with engine.connect() as connection:
            connection.exec_driver_sql("DROP SCHEMA doctor CASCADE")
            connection.exec_driver_sql("DROP OWNED BY reader")
            connection.exec_driver_sql("DROP ROLE reader")


async def test_receivers_and_kafka(content: dict[str, Any]) -> None:
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with kafka() as cluster:
        cluster.create("there", 1)
        brokers = {"bootstrapServers": [cluster.bootstrap]}
        content["events"] = {
            "webhooks": [
                {"name": "there", "url": f"http://127.0.0.1:{port}/"},
                {"name": "away", "url": f"http://127.0.0.1:{free_port()}/"},
            ],
            "kafka": {**brokers, "topic": "absent"},
        }
        content["enqueue"] = {"kafka": {**brokers, "topics": ["there"], "groupId": "g"}}
        found = await findings(content)
    server.close()
    assert (found["receiver there"].verdict, found["receiver away"].verdict) == ("ok", "failed")
    assert (found["Kafka enqueue.kafka"].verdict, found["Kafka events.kafka"].verdict) == ("ok", "failed")
    assert "absent" in found["Kafka events.kafka"].text


async def test_secrets(content: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(READ_TOKEN)
    found = (await findings(content))["secrets"]
    assert (found.verdict, READ_TOKEN in found.text) == ("warning", True)


async def test_command(content: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "site.yaml"
    file.write_text(yaml.safe_dump(content))
    result = await asyncio.to_thread(run, "doctor", "--config", str(file))
    assert result.exit_code == 0, result.output
    assert "ok      Redis: answers" in result.output
    content["ingest"]["repo"] = "/nowhere"
    file.write_text(yaml.safe_dump(content))
    result = await asyncio.to_thread(run, "doctor", "--config", str(file))
    assert result.exit_code == 1
    assert "FAILED  Butler: no Butler repository at '/nowhere'" in result.output
    result = await asyncio.to_thread(run, "doctor", "--config", str(file), "--json")
    assert {item["subject"]: item["verdict"] for item in json.loads(result.output)}["Butler"] == "failed"
