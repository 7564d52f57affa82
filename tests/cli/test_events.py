"""``autoingest events`` against a real Redis and a receiver."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from redis.asyncio import Redis

from autoingest.model.exposures import ExposureSummary, Span
from autoingest.model.objects import observing_day
from autoingest.queue import keys
from autoingest.queue.operator_log import acts
from autoingest.queue.progress import EventSettings, ExposureFolder, Progress
from testing.command import run
from testing.event_readers import Receiver
from testing.event_schemas import example

DAY = observing_day(datetime.now(UTC))
EVENT = {"specversion": "1.0", "source": "/s", "datacontenttype": "application/json", "time": "2026-01-01T00:00:00Z"}


async def _in_thread(*words: str) -> tuple[int, str]:
    result = await asyncio.to_thread(run, *words)
    return result.exit_code, result.output


def _config(tmp_path: Path, valkey_url: str, url: str = "http://127.0.0.1:1/") -> str:
    file = tmp_path / "site.yaml"
    hook = {"name": "quicklook", "url": url}
    file.write_text(
        yaml.safe_dump(
            {"buckets": ["b"], "redis": {"url": valkey_url}, "ingest": {"repo": "r"}, "events": {"webhooks": [hook]}}
        )
    )
    return str(file)


async def _observe(client: Redis, seq: int, detectors: list[str]) -> str:
    """Record an exposure of which two detectors are expected; return its obs_id."""
    obs_id = f"MC_O_{DAY}_{seq:06d}"
    number = DAY * 100000 + seq
    folder = ExposureFolder("LSSTCam", str(DAY), obs_id, f"b/LSSTCam/{DAY}/{obs_id}/")
    progress = Progress(client, EventSettings("b"), 1.0, 60.0)
    await progress.expect(folder, "file", {"R22_S11": "science", "R22_S12": "science"})
    summary = ExposureSummary(
        "LSSTCam", obs_id, number, DAY, seq, "group", 0, "science", "x", "BLOCK-1", "field", "i_39", True,
        Span(None, None), (number,), "r", ("LSSTCam/raw/all",), "defined",
    )  # fmt: skip
    await progress.observe(folder, number, summary.json, "defined", detectors)
    return obs_id


async def test_exposures(redis_client: Redis, tmp_path: Path, valkey_url: str) -> None:
    config = _config(tmp_path, valkey_url)
    code, output = await _in_thread("events", "exposures", "--config", config)
    assert (code, output) == (0, f"nothing is known of exposures of {DAY}\n")
    complete = await _observe(redis_client, 1, ["R22_S11", "R22_S12"])
    assert (await _in_thread("events", "exposures", "--config", config))[0] == 0
    incomplete = await _observe(redis_client, 2, ["R22_S11"])
    code, output = await _in_thread("events", "exposures", "--config", config)
    assert code == 1
    rows = {words[0]: words[1:] for line in output.splitlines() if (words := line.split())}
    assert rows[complete] == ["complete", "2", "2", "defined"]
    assert rows[incomplete] == ["incomplete", "1", "2", "defined", "R22:", "S12"]
    assert "1 of 2 exposures are complete" in output
    assert max(map(len, output.splitlines())) <= 80
    code, output = await _in_thread("events", "exposures", "--config", config, "--day", str(DAY), "--json")
    assert [item["missing"] for item in json.loads(output)] == [[], ["R22_S12"]]


@pytest.mark.parametrize("day", ["2026", "2026-13-01", "tomorrow"])
def test_day_that_is_none(day: str, tmp_path: Path, valkey_url: str) -> None:
    result = run("events", "exposures", "--config", _config(tmp_path, valkey_url), "--day", day)
    assert result.exit_code == 2
    assert repr(day) in result.output


async def _refuse(client: Redis, *ids: str) -> None:
    """Keep events that the webhook is said to have refused."""
    stored = example("exposure.complete")
    for name in ids:
        event = {
            **EVENT, "id": name, "type": "org.rubinobs.autoingest.exposure.complete", "subject": stored["subject"],
            "data": json.loads(stored["data"]),
        }  # fmt: skip
        await client.hset(keys.undelivered("quicklook"), name, json.dumps({"error": "answers 400", "event": event}))


async def test_undelivered_events_are_shown_and_dropped(redis_client: Redis, tmp_path: Path, valkey_url: str) -> None:
    config = _config(tmp_path, valkey_url)
    await _refuse(redis_client, "one", "two", "three")
    code, output = await _in_thread("events", "undelivered", "--config", config)
    assert (code, output.splitlines()[0]) == (0, "quicklook: one: answers 400")
    found = json.loads((await _in_thread("events", "undelivered", "--config", config, "--json"))[1])
    assert {item["id"] for item in found} == {"one", "two", "three"}
    drop = ("events", "drop", "quicklook", "--config", config)
    assert (await _in_thread(*drop))[0] == 2, "it must be told what to drop"
    assert (await _in_thread(*drop, "one", "--yes", "--json"))[1] == '{"dropped":["one"]}\n'
    assert set(await redis_client.hkeys(keys.undelivered("quicklook"))) == {"two", "three"}
    assert (await _in_thread(*drop, "--all", "--yes"))[0] == 0
    assert not await redis_client.exists(keys.undelivered("quicklook"))


async def test_undelivered_events_are_delivered_again(redis_client: Redis, tmp_path: Path, valkey_url: str) -> None:
    receiver = Receiver()
    async with receiver.run() as url:
        config = _config(tmp_path, valkey_url, url)
        await _refuse(redis_client, "one", "two")
        receiver.statuses = [400, 200]
        again = ("events", "redeliver", "quicklook", "--config", config)
        code, output = await _in_thread(*again, "--json")
        assert code == 1
        assert json.loads(output) == {"taken": ["two"], "left": {"one": "the receiver answers 400"}}
        assert await redis_client.hkeys(keys.undelivered("quicklook")) == ["one"]
        assert (await _in_thread(*again))[:2] == (0, "1 taken, 0 left\n")
    assert [event["id"] for event in receiver.taken] == ["two", "one"]
    assert [(act["act"], act["bucket"], act["paths"]) for act in await acts(redis_client, 9)] == [
        ("redelivered", "quicklook", "two"),
        ("redelivered", "quicklook", "one"),
    ]


async def test_reader_that_is_none(redis_client: Redis, tmp_path: Path, valkey_url: str) -> None:
    code, output = await _in_thread("events", "redeliver", "nobody", "--config", _config(tmp_path, valkey_url))
    assert code == 2
    assert "'nobody' is not a webhook of events; there are: quicklook" in output
