"""``autoingest doctor`` with real servers: healthy, and with each fault."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import redis
import sqlalchemy
import yaml
from aiohttp import web

from autoingest.app.config import DEFAULT_ROLES
from autoingest.butler.create import create_repository
from autoingest.dev import embedded
from autoingest.queue import keys
from autoingest.queue.heartbeats import Heartbeat, RoleState, beat
from testing.command import run
from testing.kafka import kafka
from testing.pgbouncer import pgbouncer
from testing.s3server import Fault, S3Server

Found = dict[str, dict[str, str]]


class Site:
    """A healthy site, whose configuration a test may break."""

    def __init__(self, folder: Path, config: dict[str, Any]) -> None:
        self.file = folder / "site.yaml"
        self.config = config

    def look(self, *options: str) -> tuple[int, Found]:
        self.file.write_text(yaml.safe_dump(self.config))
        result = run("doctor", "--config", str(self.file), "--json", *options)
        checks = json.loads(result.stdout)
        assert all(check["remedy"] for check in checks if check["state"] != "ok")
        return result.exit_code, {check["name"]: check for check in checks}

    def fails(self, name: str) -> dict[str, str]:
        """Look, and return the one check that fails."""
        code, found = self.look()
        assert [check["name"] for check in found.values() if check["state"] == "fail"] == [name]
        assert code == 1
        return found[name]


@pytest.fixture(scope="module")
def registry(postgres_url: str) -> Iterator[str]:
    """URL of a database with the extension that registries need."""
    name = f"doctor_{uuid4().hex}"
    execute(postgres_url, f"CREATE DATABASE {name}")
    url = of_database(postgres_url, name)
    execute(url, "CREATE EXTENSION btree_gist")
    yield url
    execute(postgres_url, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="module")
def repository(registry: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("doctor") / "repo"
    create_repository(folder, registry_url=registry, cameras=["LSSTCam"])
    return folder


@pytest.fixture
async def site(
    tmp_path: Path, valkey_url: str, redis_client: Any, s3_client: Any, s3_bucket: str, repository: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Site:  # fmt: skip
    s3_client.put_object(Bucket=s3_bucket, Key="x.fits", Body=b"SIMPLE")
    monkeypatch.setenv("AUTOINGEST_NOTIFICATION_SECRETS", "one two")
    monkeypatch.setenv("AUTOINGEST_READ_TOKEN", "three")
    roles: dict[str, RoleState] = {name: RoleState("") for name in DEFAULT_ROLES}
    await beat(redis_client, Heartbeat("p", "host-1", 17, "1.2.3", time.time(), time.time(), roles, workers={}))
    config = {"buckets": [s3_bucket], "redis": {"url": valkey_url}, "ingest": {"repo": str(repository)}}
    return Site(tmp_path, config)


def execute(url: str, *statements: str) -> None:
    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for statement in statements:
            connection.execute(sqlalchemy.text(statement))


def of_database(url: str, name: str) -> str:
    return sqlalchemy.make_url(url).set(database=name).render_as_string(hide_password=False)


def with_registry(site: Site, repository: Path, folder: Path, **registry: str) -> None:
    """Let a site use a copy of a repository with another ``butler.yaml``."""
    content = yaml.safe_load((repository / "butler.yaml").read_text())
    content["registry"] |= registry
    folder.mkdir()
    (folder / "butler.yaml").write_text(yaml.safe_dump(content))
    site.config["ingest"]["repo"] = str(folder)


async def test_healthy(site: Site) -> None:
    code, found = await asyncio.to_thread(site.look)
    assert {check["state"] for check in found.values()} == {"ok"}, found
    assert code == 0
    bucket = site.config["buckets"][0]
    assert {
        "Redis", "Redis policy", "Redis persistence", "Redis memory", "clock of Redis", "role ingest",
        f"store {bucket} list", f"store {bucket} read", f"clock of store {bucket}",
        "Butler", "Butler instruments", "Butler write permission", "Butler connections", "clock of the database",
        "secret AUTOINGEST_NOTIFICATION_SECRETS",
    } <= set(found)  # fmt: skip
    assert found["secret AUTOINGEST_NOTIFICATION_SECRETS"]["text"] == "2 are set"
    assert "no pooler" in found["Butler connections"]["text"]


async def test_lines_for_people(site: Site) -> None:
    site.config["redis"] = {"url": "redis://127.0.0.1:9/0"}
    site.file.write_text(yaml.safe_dump(site.config))
    result = await asyncio.to_thread(run, "doctor", "--config", str(site.file))
    assert result.exit_code == 1
    (line,) = [line for line in result.stdout.splitlines() if line.startswith("fail")]
    assert line.startswith("fail  Redis: ")
    assert "127.0.0.1:9" in line
    assert "; do: " in line
    assert "1 failed" in result.stdout.splitlines()[-1]


async def test_redis_may_evict(site: Site, redis_client: Any) -> None:
    await redis_client.config_set("maxmemory-policy", "allkeys-lru")
    try:
        check = await asyncio.to_thread(site.fails, "Redis policy")
    finally:
        await redis_client.config_set("maxmemory-policy", "noeviction")
    assert "allkeys-lru" in check["text"]
    assert "noeviction" in check["remedy"]


async def test_redis_is_nearly_full(site: Site, redis_client: Any) -> None:
    await redis_client.setrange("ballast", 2**25, "x")
    used = (await redis_client.info())["used_memory"]
    await redis_client.config_set("maxmemory", int(used / 0.9))
    try:
        code, found = await asyncio.to_thread(site.look)
    finally:
        await redis_client.config_set("maxmemory", 0)
    assert found["Redis memory"]["state"] == "warn"
    assert code == 0


def test_redis_keeps_nothing_and_wants_a_password(
    tmp_path: Path, repository: Path, s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with embedded.valkey(tmp_path / "valkey", append_only=False) as url:
        config = {"buckets": [s3_bucket], "redis": {"url": url, "replicas": 1}, "ingest": {"repo": str(repository)}}
        site = Site(tmp_path, config)
        code, found = site.look()
        assert code == 1
        assert found["Redis persistence"]["state"] == "warn"
        assert found["Redis replicas"]["state"] == "fail"
        assert found["role enqueue"]["state"] == "fail"
        assert found["secret AUTOINGEST_NOTIFICATION_SECRETS"]["state"] == "warn"
        assert found[f"store {s3_bucket} read"]["text"] == "not tried: the bucket is empty"
        with redis.Redis.from_url(url) as client:
            client.config_set("requirepass", "correct-horse")
        monkeypatch.setenv("AUTOINGEST_REDIS_PASSWORD", "wrong")
        assert "AUTOINGEST_REDIS_PASSWORD" in site.fails("Redis")["remedy"]


async def test_clock_of_a_process_is_wrong(site: Site, redis_client: Any) -> None:
    roles = {"idle": RoleState("")}
    await beat(redis_client, Heartbeat("q", "host-2", 18, "1.2.3", time.time(), time.time() + 3600, roles, workers={}))
    check = await asyncio.to_thread(site.fails, "clock of host-2")
    assert "ahead of" in check["text"]


async def test_heartbeat_has_vanished(site: Site, redis_client: Any) -> None:
    await redis_client.delete(keys.HEARTBEATS, keys.HEARTBEAT_TIMES)
    _, found = await asyncio.to_thread(site.look)
    assert {found[f"role {name}"]["state"] for name in DEFAULT_ROLES} == {"fail"}


def test_no_such_bucket(site: Site) -> None:
    site.config["buckets"] = ["rubin-nowhere"]
    assert "rubin-nowhere" in site.fails("store rubin-nowhere list")["text"]


def test_no_credentials(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    assert "AWS_ACCESS_KEY_ID" in site.fails(f"store {site.config['buckets'][0]}")["text"]


@pytest.mark.parametrize(
    ("fault", "name"),
    [
        (lambda *_: Fault(403, "InvalidAccessKeyId"), "store rubin-x list"),
        (lambda _, __, key: Fault(403, "AccessDenied") if key else None, "store rubin-x read"),
    ],
    ids=["wrong key", "may not read"],
)
async def test_store_refuses(site: Site, fault: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    server = S3Server()
    async with server.run() as url:
        monkeypatch.setenv("LSST_RESOURCES_S3_PROFILE_x", url.replace("//", "//key:secret@"))
        async with asyncio.timeout(60):
            await put(url)
        server.fault = fault
        site.config["buckets"] = ["x@rubin-x"]
        check = await asyncio.to_thread(site.fails, name.replace("rubin-x", "x@rubin-x"))
    assert "403" in check["text"]


async def put(url: str) -> None:
    import aiohttp

    async with aiohttp.ClientSession() as session:
        for path in ("rubin-x", "rubin-x/a.fits"):
            async with session.put(f"{url}/{path}", data=b"SIMPLE" if "/" in path else b"") as answer:
                assert answer.ok


def test_no_repository(site: Site, tmp_path: Path) -> None:
    site.config["ingest"]["repo"] = str(tmp_path / "nowhere")
    assert "autoingest repo create" in site.fails("Butler")["remedy"]


def test_database_is_away(site: Site, repository: Path, tmp_path: Path) -> None:
    with_registry(site, repository, tmp_path / "repo", db="postgresql+psycopg://127.0.0.1:9/x")
    assert "LSST_DB_AUTH" in site.fails("Butler")["remedy"]


def test_schema_is_missing(site: Site, repository: Path, tmp_path: Path) -> None:
    with_registry(site, repository, tmp_path / "repo", namespace="nowhere")
    assert "can't be opened" in site.fails("Butler")["text"]


def test_user_may_not_write(site: Site, repository: Path, tmp_path: Path, registry: str) -> None:
    user = f"reader_{uuid4().hex[:8]}"
    execute(
        registry, f"CREATE ROLE {user} LOGIN PASSWORD 'x'", f"GRANT USAGE ON SCHEMA public TO {user}",
        f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {user}",
    )  # fmt: skip
    url = sqlalchemy.make_url(registry).set(username=user, password="x").render_as_string(hide_password=False)
    with_registry(site, repository, tmp_path / "repo", db=url)
    check = site.fails("Butler write permission")
    assert user in check["text"]
    assert check["remedy"].startswith("GRANT ")


def test_no_instrument_is_registered(site: Site, tmp_path: Path) -> None:
    create_repository(tmp_path / "bare", cameras=[])
    site.config["ingest"]["repo"] = str(tmp_path / "bare")
    assert "register-instrument" in site.fails("Butler instruments")["remedy"]


def test_instrument_is_incomplete(site: Site, repository: Path, registry: str) -> None:
    execute(registry, "DELETE FROM detector WHERE instrument = 'LSSTCam' AND id = 94")
    try:
        _, found = site.look()
    finally:
        create_repository(repository, cameras=["LSSTCam"])
    assert found["Butler instruments of LSSTCam"]["text"] == "lacks 1 detectors"


def test_pooler_is_recognized(site: Site, repository: Path, tmp_path: Path, registry: str) -> None:
    with pgbouncer(registry) as url:
        with_registry(site, repository, tmp_path / "repo", db=url)
        code, found = site.look()
    assert "through a pooler" in found["Butler connections"]["text"]
    assert code == 0


def test_kafka(site: Site) -> None:
    with kafka() as cluster:
        cluster.create("images", 1)
        block = {"bootstrapServers": [cluster.bootstrap], "groupId": "g", "topics": ["images", "nothing"]}
        site.config["enqueue"] = {"kafka": block}
        site.fails("Kafka topic nothing")
        assert site.look()[1]["Kafka topic images"]["state"] == "ok"
    site.config["events"] = {"kafka": {"bootstrapServers": ["127.0.0.1:9"]}}
    del site.config["enqueue"]
    assert "127.0.0.1:9" in site.fails("Kafka (events.kafka)")["text"]


async def test_webhooks(site: Site) -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=405 if request.path == "/good" else 502)

    application = web.Application()
    application.router.add_route("*", "/{name}", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    site.config["events"] = {
        "webhooks": [{"name": name, "url": f"{url}/{name}"} for name in ("good", "bad")]
        + [{"name": "away", "url": "http://127.0.0.1:9/x"}]
    }
    code, found = await asyncio.to_thread(site.look)
    await runner.cleanup()
    assert code == 0
    states = {name: found[f"webhook {name}"]["state"] for name in ("good", "bad", "away")}
    assert states == {"good": "ok", "bad": "warn", "away": "warn"}
    assert found["secret AUTOINGEST_WEBHOOK_SECRETS"]["state"] == "warn"


def test_file_of_a_secret_is_missing(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOINGEST_READ_TOKEN_FILE", "/nonexistent/token")
    assert "/nonexistent/token" in site.fails("secret AUTOINGEST_READ_TOKEN")["text"]
