from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis.asyncio
import structlog

from autoingest.app.config import RedisConfig
from autoingest.app.secrets import REDIS_PASSWORD
from autoingest.dev import embedded
from autoingest.errors import ConfigurationError
from autoingest.model.notices import Rejection
from autoingest.queue.coalescing import CoalescedScript, Replicas
from autoingest.queue.connection import REDIS_AWAY, Client, cause, connect, is_safe
from autoingest.queue.health import Health
from autoingest.queue.intake import Intake
from autoingest.queue.work import WorkQueue
from testing.redis import BUCKET, Service, image, put, sentinel
from testing.waiting import until


@asynccontextmanager
async def connected(url: str, **settings: Any) -> AsyncIterator[Client]:
    async with connect(RedisConfig(url=url, **settings)) as client:
        yield client


async def test_callers_wait_for_a_connection(valkey_url: str) -> None:
    async with connected(valkey_url, max_connections=4) as client:
        assert await asyncio.gather(*(client.echo(str(n)) for n in range(50))) == [str(n) for n in range(50)]


async def test_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with embedded.valkey(tmp_path) as url:
        async with connected(url) as client:
            await client.config_set("requirepass", "swordfish")
        async with connected(url) as client:
            with pytest.raises(REDIS_AWAY):
                await client.ping()
        monkeypatch.setenv(REDIS_PASSWORD, "swordfish")
        async with connected(url) as client:
            assert await client.ping()


async def test_restart_in_between_goes_unnoticed(tmp_path: Path) -> None:
    port = embedded.free_port()
    with embedded.valkey(tmp_path, port=port) as url:
        client = connect(RedisConfig(url=url))
        await asyncio.gather(*(client.ping() for _ in range(5)))
    with pytest.raises(REDIS_AWAY):
        await client.ping()
    with embedded.valkey(tmp_path, port=port):
        assert await asyncio.gather(*(client.ping() for _ in range(5))) == [True] * 5
    await client.aclose()


async def test_silence_is_away(valkey_url: str, redis_client: redis.asyncio.Redis) -> None:
    async with connected(valkey_url, socket_timeout=0.1) as client:
        await client.ping()
        await redis_client.client_pause(60_000, all=False)
        try:
            with pytest.raises(REDIS_AWAY):
                await client.set("a", "b")
        finally:
            await redis_client.client_unpause()


@asynccontextmanager
async def pair(folder: Path) -> AsyncIterator[tuple[str, str, redis.asyncio.Redis, redis.asyncio.Redis]]:
    """A primary, and a replica of it that is in step."""
    with embedded.valkey(folder / "a") as one, embedded.valkey(folder / "b") as other:
        async with (
            redis.asyncio.Redis.from_url(one, decode_responses=True) as first,
            redis.asyncio.Redis.from_url(other, decode_responses=True) as second,
        ):
            await second.replicaof("127.0.0.1", urlsplit(one).port)

            async def in_step() -> bool:
                return bool((await second.info("replication"))["master_link_status"] == "up")

            await until(in_step)
            yield one, other, first, second


async def swap(first: redis.asyncio.Redis, second: redis.asyncio.Redis) -> None:
    """Make the replica the primary, and the primary its replica."""
    await second.execute_command("REPLICAOF", "NO", "ONE")
    await first.replicaof("127.0.0.1", second.connection_pool.connection_kwargs["port"])


@pytest.mark.parametrize("how", ["write", "script", "blocked", "look"])
async def test_demoted_primary_is_left(tmp_path: Path, how: str) -> None:
    async with pair(tmp_path) as (one, other, first, second):
        service = Service(urlsplit(one).port or 0)
        async with service.run() as url, connected(url, socket_timeout=60) as client:
            await asyncio.gather(*(client.set(f"key {n}", "1") for n in range(5)))
            blocked = asyncio.ensure_future(client.blmove("q", "q", 50, "RIGHT", "RIGHT"))

            async def is_replicated() -> bool:
                return await second.exists(*(f"key {n}" for n in range(5))) == 5

            async def is_blocked() -> bool:
                return bool((await first.info("clients"))["blocked_clients"])

            async def is_left() -> bool:
                found = await first.client_list()
                return sum(item["cmd"] in ("get", "set", "blmove", "info") for item in found) <= 1

            await until(is_replicated)
            await until(is_blocked)
            await swap(first, second)
            service.target = urlsplit(other).port or 0
            match how:
                case "write":
                    await client.set("key", "2")
                case "script":
                    await client.register_script("return redis.call('SET', 'key', '2')")()
                case "look":
                    await client.look()
                case "blocked":
                    await second.lpush("q", "1")
                    assert await blocked == "1"
            assert await asyncio.gather(*(client.get("key 1") for _ in range(5))) == ["1"] * 5
            await until(is_left)  # but for the connection that asks
            blocked.cancel()
            await asyncio.wait([blocked])
            await client.set("late", "3")
            assert await second.get("late") == "3"
            assert client.health.unready_reasons() == []


async def test_replica_is_never_read_from(tmp_path: Path) -> None:
    async with pair(tmp_path) as (one, other, first, second), connected(other) as client:
        with pytest.raises(REDIS_AWAY, match=r"READONLY this server is a replica of 127.0.0.1"):
            await client.get("key")
        await client.look()
        assert [
            f"is a replica of 127.0.0.1:{urlsplit(one).port}" in text for text in client.health.unready_reasons()
        ] == [True]
        await swap(first, second)
        await client.look()
        assert (await client.get("key"), client.health.unready_reasons()) == (None, [])


async def test_sentinel_leads_to_the_new_primary(tmp_path: Path) -> None:
    async with pair(tmp_path) as (one, other, first, second):
        with sentinel(tmp_path / "s", urlsplit(one).port or 0) as where:
            settings = {"sentinel": {"hosts": ["127.0.0.1:1", where], "service": "images"}}
            async with connected("redis://ignored:1/0", **settings) as client:

                async def written() -> bool:
                    with suppress(*REDIS_AWAY):
                        return bool(await client.set("key", "1"))
                    return False

                await until(written)
                assert (await first.get("key"), client.health.port) == ("1", urlsplit(one).port)

                async def handed_over() -> bool:
                    async with redis.asyncio.Redis.from_url(f"redis://{where}") as asked:
                        with suppress(redis.ResponseError):
                            await asked.execute_command("SENTINEL", "FAILOVER", "images")
                            return True
                    return False

                await until(handed_over)

                async def led_over() -> bool:
                    with suppress(redis.ConnectionError):  # a server that is demoted cuts its clients off
                        moved = await written() and client.health.port == urlsplit(other).port
                        return moved and await second.get("key") == "1"
                    return False

                await until(led_over)
            settings["sentinel"]["service"] = "other"
            async with connected("redis://ignored:1/0", **settings) as client:
                with pytest.raises(REDIS_AWAY, match=r"no Sentinel of .* knows a primary of 'other'"):
                    await client.ping()


async def refused(client: redis.asyncio.Redis) -> str:
    with pytest.raises(REDIS_AWAY) as caught:
        await client.set("a", "b")
    return cause(caught.value)


def test_cause_is_the_same_in_every_script() -> None:
    text = "OOM command not allowed when used memory > 'maxmemory'."
    for number in (1, 12):
        assert cause(redis.ResponseError(f"{text} script: {'0a' * 20}, on @user_script:{number}.")) == text


async def test_causes_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with embedded.valkey(tmp_path) as url:
        async with redis.asyncio.Redis.from_url(url, decode_responses=True) as admin, connected(url) as client:
            await admin.config_set("min-replicas-to-write", 1)
            assert "NOREPLICAS Not enough good replicas" in await refused(client)
            await admin.config_set("min-replicas-to-write", 0)
            await admin.config_set("maxmemory", 1)
            assert (await refused(client)).startswith("OOM command not allowed")
            await admin.config_set("maxmemory", 0)
            await admin.execute_command(
                "ACL", "SETUSER", "weak", "on", "nopass", "+@all", "~*", "-set", "-info", "-config"
            )
            async with connected(url, username="weak") as weak:
                monkeypatch.setenv(REDIS_PASSWORD, "any")
                assert (await refused(weak)).startswith("NOPERM")
                await weak.look()
                assert weak.health.unready_reasons() == [], "who may not ask for the policy goes on"
            async with connected(url.replace("/0", "/999")) as lost:
                assert "DB index is out of range" in await refused(lost)
            async with connected(url.replace("redis:", "rediss:"), socket_timeout=0.5) as tls:
                assert await refused(tls) == "Timeout connecting to server", "it waits for the rest of a command"
            async with connected(url.replace("redis:", "rediss:"), ca_file=tmp_path / "none.pem") as tls:
                assert await refused(tls) == f"redis.caFile {tmp_path / 'none.pem'}: No such file or directory"
            await admin.execute_command("CONFIG", "SET", "requirepass", "swordfish")
            monkeypatch.setenv(REDIS_PASSWORD, "catfish\n")
            async with connected(url) as stranger:
                assert (await refused(stranger)).startswith("WRONGPASS")
            monkeypatch.delenv(REDIS_PASSWORD)
            async with connected(url) as stranger:
                assert (await refused(stranger)).startswith("NOAUTH")
            monkeypatch.setenv(REDIS_PASSWORD, " swordfish\n")
            async with connected(url) as friend:
                assert await friend.set("a", "b")


@pytest.mark.parametrize("may", [True, False], ids=["info", "config"])
async def test_policy_is_watched(tmp_path: Path, may: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    with embedded.valkey(tmp_path) as url:
        async with redis.asyncio.Redis.from_url(url, decode_responses=True) as admin:
            await admin.config_set("maxmemory-policy", "volatile-ttl")
            user = ["on", ">secret", "+@all", "~*", "-config" if may else "-info"]
            await admin.execute_command("ACL", "SETUSER", "one", *user)
            monkeypatch.setenv(REDIS_PASSWORD, "secret")
            with structlog.testing.capture_logs() as logs:
                async with connected(url, username="one") as client:
                    assert await is_safe(client), "nothing is known before the first command"
                    await client.ping()
                    assert not await is_safe(client)
                    assert "maxmemory-policy is volatile-ttl" in client.health.unready_reasons()[0]
                    await admin.config_set("maxmemory-policy", "noeviction")
                    assert await is_safe(client)
                    assert client.health.unready_reasons() == []
                    await admin.config_set("maxmemory-policy", "allkeys-lru")
                    assert await is_safe(client)
                    await client.look()
                    assert not await is_safe(client)
    assert [entry["log_level"] for entry in logs] == ["error", "info", "error"]


async def test_nothing_is_taken_while_it_might_vanish(redis_client: Client) -> None:
    await put(redis_client, image(0), image(1))
    queue = WorkQueue(redis_client, BUCKET, "a", 60)
    assert len(await queue.claim(1)) == 1
    intake = Intake(redis_client)
    await redis_client.config_set("maxmemory-policy", "allkeys-random")
    try:
        await redis_client.look()
        assert [claim.path for claim in await queue.claim(10)] == [image(0)], "what is in hand is gone on with"
        assert not await queue.wait(0.01)
        deadline = asyncio.get_running_loop().time() + 0.1
        with pytest.raises(TimeoutError):
            await intake.reject([Rejection(BUCKET, "key", "bad", None)], deadline)
        held = asyncio.create_task(intake.reject([Rejection(BUCKET, "key", "bad", None)]))
    finally:
        await redis_client.config_set("maxmemory-policy", "noeviction")
    await asyncio.wait_for(held, 60)
    assert len(await queue.claim(10)) == 2


async def test_command_is_told_why_nothing_is_taken(redis_client: Client) -> None:
    intake = Intake(redis_client, hold=False)
    await redis_client.config_set("maxmemory-policy", "allkeys-random")
    try:
        await redis_client.look()
        with pytest.raises(redis.RedisError, match=r"maxmemory-policy is allkeys-random: .* set it to noeviction"):
            await asyncio.wait_for(intake.reject([Rejection(BUCKET, "key", "bad", None)]), 60)
    finally:
        await redis_client.config_set("maxmemory-policy", "noeviction")


async def test_replicas_confirm(tmp_path: Path) -> None:
    rejection = Rejection(BUCKET, "key", "bad", None)
    async with pair(tmp_path) as (one, _, _, second), connected(one) as client:
        notices = CoalescedScript(client, "return {#cjson.decode(ARGV[1])}", [], Replicas(1, 0.2))
        assert await notices([rejection.key]) == [1]
        await second.execute_command("REPLICAOF", "NO", "ONE")
        for _ in range(2):
            loop = asyncio.get_running_loop()
            with pytest.raises(TimeoutError):
                await notices([rejection.key], loop.time() + 1)
        assert any("0 of 1 replicas confirm" in text for text in client.health.unready_reasons())
        held = asyncio.create_task(notices([rejection.key]))
        await second.replicaof("127.0.0.1", urlsplit(one).port)
        assert await asyncio.wait_for(held, 60) == [1]
        assert client.health.unready_reasons() == []
        await notices.close()


async def test_outage_is_logged_once(tmp_path: Path) -> None:
    state = Health("redis", 6379)
    with structlog.testing.capture_logs() as logs:
        for _ in range(5):
            for user in ("worker a", "worker b"):
                state.failed(user, redis.ConnectionError("Error 111 connecting"))
        state.failed("worker a", redis.ConnectionError("Connection closed by server."))
        state.failed("worker a", redis.ResponseError("MISCONF Redis is configured to save"))
        state.failed("worker b", redis.ResponseError("MISCONF Redis is configured to save"))
        state.worked("worker a")
        assert state.unready_reasons() == ["Redis at redis:6379: MISCONF Redis is configured to save"]
        state.worked("worker b")
        state.worked("worker b")
    assert [(entry["event"], entry.get("error")) for entry in logs] == [
        ("redis away", "Error 111 connecting"),
        ("redis away", "MISCONF Redis is configured to save"),
        ("redis is back", None),
    ]
    assert logs[-1]["duration_s"] >= 0


@pytest.mark.parametrize(
    "url", ["redis://h:port/0", "redis://h/images", "http://h", "redis://h?nonsense=1", "redis://h:99999"]
)
def test_url_that_makes_no_sense(url: str) -> None:
    with pytest.raises((ValueError, ConfigurationError)):
        connect(RedisConfig(url=url))


def test_failure_that_nobody_meets_again_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("autoingest.queue.health.time.monotonic", lambda: now)
    state = Health("redis", 6379)
    state.failed("presence", redis.ConnectionError("gone"), 5)
    state.failed("idle", redis.ResponseError("NOPERM no right"), 300)
    now += 6
    assert state.unready_reasons() == ["Redis at redis:6379: NOPERM no right"]
    now += 300
    with structlog.testing.capture_logs() as logs:
        assert state.unready_reasons() == []
    assert [entry["event"] for entry in logs] == ["redis is back"]


async def test_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "redis.sock"
    command = [embedded.valkey_binary(), "--port", "0", "--unixsocket", str(path), "--dir", str(tmp_path)]

    def listens() -> bool:
        with socket.socket(socket.AF_UNIX) as sock, suppress(OSError):
            sock.connect(str(path))  # the file is there before anybody listens
            return True
        return False

    with embedded.child("valkey", command, tmp_path / "log", listens):
        async with connected(f"unix://{path}") as client:
            assert await client.set("a", "b")
            assert client.health.host == str(path)
