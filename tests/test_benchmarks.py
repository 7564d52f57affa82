"""The measuring tools of `benchmarks`, without a program to measure."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from benchmarks.bench import Store
from benchmarks.load import get, load, percentile
from benchmarks.report import Row, save, show
from testing.s3server import S3Server, Stored


@pytest.mark.parametrize("keep_alive", [True, False])
async def test_load_sends_every_request_once(keep_alive: bool) -> None:
    server = S3Server()
    server.buckets["b"] = {"key": Stored(b"body", "etag", 0.0)}
    async with server.run() as url:
        requests = [get("/b/key", keep_alive=keep_alive)] * 20
        await load(int(url.rpartition(":")[2]), requests, connections=4, keep_alive=keep_alive)
    assert server.counts["GET"] == 20


async def test_store_is_controlled() -> None:
    server = S3Server()
    server.buckets["b"] = {"old/key": Stored(b"body", "etag", 0.0), "new/key": Stored(b"body", "etag", 0.0)}
    async with server.run() as url:
        store = Store(url)
        await load(int(url.rpartition(":")[2]), [get("/b/old/key")] * 3, connections=1)
        assert [await asyncio.to_thread(store.requests) for _ in range(2)] == [3, 0]
        await asyncio.to_thread(store.forget, "old/")
        await asyncio.to_thread(store.delay, 10)
    assert list(server.buckets["b"]) == ["new/key"]
    assert server.delay == 0.01


async def test_load_accepts_no_error() -> None:
    async with S3Server().run() as url:
        with pytest.raises(RuntimeError, match="404"):
            await load(int(url.rpartition(":")[2]), [get("/b/key")], connections=1)


def test_percentile() -> None:
    assert percentile([3, 1, 2], 0.99) == 3
    assert percentile(range(1000), 0.99) == 990


def test_earlier_run_is_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    earlier = tmp_path / "earlier.json"
    save([Row("ingest", "images/s", [100.0, 300.0, 200.0]), Row("absent", "", [])], {"cores": "2"}, earlier)
    assert json.loads(earlier.read_text())["machine"] == {"cores": "2"}
    show([Row("ingest", "images/s", [500.0], 117), Row("absent", "", [])], {"cores": "2"}, earlier)
    (line,) = (line for line in capsys.readouterr().out.splitlines() if "images/s" in line)
    assert [cell.strip() for cell in line.split("│")[3:-1]] == ["500", "500", "500", "117", "2.50"]
