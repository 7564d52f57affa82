"""``autoingest status`` against a real Redis."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
import yaml
from redis.asyncio import Redis

from autoingest.queue import keys
from autoingest.queue.heartbeats import Heartbeat, RoleState, Trouble, beat
from testing.command import run

ONE = Heartbeat(
    "one", "host-1", 17, "1.2.3", 1000.0, 2000.0, {"ingest": RoleState("writes 9 files of b")}, workers={"b": 2}
)  # fmt: skip


@pytest.fixture
def config(tmp_path: Path, valkey_url: str) -> str:
    file = tmp_path / "site.yaml"
    file.write_text(yaml.safe_dump({"buckets": ["b"], "redis": {"url": valkey_url}, "ingest": {"repo": "r"}}))
    return str(file)


async def _in_thread(*words: str) -> tuple[int, str]:
    result = await asyncio.to_thread(run, *words)
    return result.exit_code, result.output


async def test_no_process(redis_client: Redis, config: str) -> None:
    code, output = await _in_thread("status", "--config", config)
    assert code == 1
    assert "No process is alive" in output


async def test_process_queue_and_outage(redis_client: Redis, config: str) -> None:
    await beat(redis_client, ONE)
    await redis_client.lpush(keys.queue("b"), "b/x")
    code, output = await _in_thread("status", "--config", config)
    assert code == 0, output
    assert "host-1" in output
    assert "writes 9 files of b" in output
    code, output = await _in_thread("pause", "b", "--why", "upgrade", "--config", config)
    assert (code, output) == (0, f"site {config}: b paused\n")
    assert "upgrade" in (await _in_thread("status", "--config", config))[1]
    assert (await _in_thread("resume", "b", "--config", config))[1] == f"site {config}: b resumed\n"
    assert "paused in b: upgrade" in (await _in_thread("log", "--config", config))[1]
    troubled = Heartbeat(
        "two", "host-2", 18, "1.2.3", 1000.0, 2000.0, {"ingest": RoleState("", (Trouble("the store is away", 1.0),))}
    )  # fmt: skip
    await beat(redis_client, troubled)
    code, output = await _in_thread("status", "--config", config, "--json")
    assert code == 1
    found = json.loads(output)
    assert found["outages"] == [{"text": "ingest: the store is away", "since": 1.0, "processes": 1}]
    assert found["queues"]["b"]["depth"] == 1
    assert found["queues"]["b"]["workers"] == 2


async def test_silent_process_is_shown(redis_client: Redis, config: str) -> None:
    await beat(redis_client, ONE)
    await redis_client.zadd(keys.HEARTBEAT_TIMES, {"one": (await redis_client.time())[0] - 60})
    code, output = await _in_thread("status", "--config", config)
    assert code == 1
    assert "SILENT" in output
