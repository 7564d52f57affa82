from __future__ import annotations

import asyncio
import json
import struct
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from click.testing import CliRunner
from pydantic import SecretStr

from autoingest.cli import cli
from autoingest.dev.environment import DEVELOPMENT_DATA, NOTIFY_URL
from autoingest.dev.setup import BUCKET
from autoingest.dev.simulator import (
    BucketSink,
    DirectorySink,
    Event,
    Notifier,
    SentFile,
    Simulator,
    notification,
    sensors,
)
from autoingest.errors import ConfigurationError, TransientError
from autoingest.notify.records import RecordParser

FILE = SentFile("embargo@rubin-summit/LSSTCam/20300101/o/a b+c.fits", 8640, "0123456789abcdef", 1795166820.697119)


class Receiver:
    """A listener that keeps what it gets."""

    def __init__(self, status: Callable[[str], int] = lambda key: 200) -> None:
        self.records: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self._status = status

    @property
    def keys(self) -> list[str]:
        return [record["s3"]["object"]["key"] for record in self.records]

    async def handle(self, request: web.Request) -> web.Response:
        (record,) = json.loads(await request.read())["Records"]
        self.records.append(record)
        self.headers.append(dict(request.headers))
        return web.Response(status=self._status(record["s3"]["object"]["key"]))

    @asynccontextmanager
    async def run(self) -> AsyncIterator[str]:
        app = web.Application()
        app.router.add_post("/notify", self.handle)
        async with TestServer(app) as server:
            yield str(server.make_url("/notify"))


def structure(value: object) -> object:
    if isinstance(value, dict):
        return {name: structure(item) for name, item in value.items() if name != "metadata"}
    return [structure(item) for item in value] if isinstance(value, list) else type(value)


def test_notification_is_like_a_real_one(shared_data: Path) -> None:
    real = json.loads((shared_data / "notifications/ceph-16.2.15/013-put-guider.json").read_bytes())
    ours = json.loads(notification(FILE, "secret"))
    assert structure(ours) == structure(real)
    assert list(ours["Records"][0]) == list(real["Records"][0])
    (record,), (like,) = ours["Records"], real["Records"]
    for one in (record, like):
        words = struct.unpack("<II", bytes.fromhex(one["s3"]["object"]["sequencer"]))
        assert one["eventId"] == f"{words[0]}.{words[1] // 1000:06d}.{one['s3']['object']['eTag']}"
    assert record["eventTime"] == "2026-11-20T09:27:00.697119Z"
    assert record["s3"]["object"]["key"] == "LSSTCam/20300101/o/a b+c.fits"


def test_notification_of_another_tenant(shared_data: Path) -> None:
    real = json.loads((shared_data / "notifications/ceph-16.2.15/101-tenant-user-put.json").read_bytes())
    file = SentFile("p@ten1:x9bucket/tk", 1, "e", 0.0)
    bucket = json.loads(notification(file))["Records"][0]["s3"]["bucket"]
    assert (bucket["name"], bucket["arn"]) == (
        real["Records"][0]["s3"]["bucket"]["name"], real["Records"][0]["s3"]["bucket"]["arn"],
    )  # fmt: skip


async def test_exposure_to_bucket_and_listener(s3_client: Any, s3_bucket: str) -> None:
    events: list[Event] = []
    receiver = Receiver()
    async with receiver.run() as url, Notifier.open(url, SecretStr("opaque")) as notifier:
        simulator = Simulator(BucketSink(s3_bucket), notifier, on_event=events.append, duplicates=0.1, seed=1)
        result = await simulator.run(day_obs=20300101)
    pages = s3_client.get_paginator("list_objects_v2").paginate(Bucket=s3_bucket)
    stored = {item["Key"]: item for page in pages for item in page["Contents"]}
    (exposure,) = result.exposures
    assert len(stored) == 411
    assert Counter(key.rpartition(".")[2] for key in stored) == {"fits": 205, "json": 206}
    assert exposure.expected_sensors_key in stored

    for file in result.images:
        item = stored[file.path.partition("/")[2]]
        assert (file.size, f'"{file.etag}"') == (item["Size"], item["ETag"])
        assert file.notified_time is not None
        assert file.put_time <= file.notified_time
    assert Counter(event.kind for event in events) == {"written": 205, "notified": 205}

    assert (result.duplicates, len(receiver.records)) == (20, 225)
    assert len(set(receiver.keys)) == len({record["eventId"] for record in receiver.records}) == 205
    assert {record["opaqueData"] for record in receiver.records} == {"opaque"}
    assert not {"User-Agent", "Accept-Encoding", "Authorization"} & set(receiver.headers[0])
    parsed = await RecordParser([s3_bucket], r"\.fits$", "auto", [SecretStr("opaque")]).parse(
        json.dumps({"Records": receiver.records}).encode()
    )
    assert (len(parsed.notices), parsed.rejected, parsed.ignored) == (225, [], [])
    assert {(notice.path, notice.size, notice.etag) for notice, _ in parsed.notices} == {
        (file.path, file.size, file.etag) for file in result.images
    }


async def test_notifications_are_repeated_until_acknowledged(tmp_path: Path, s3_bucket: str) -> None:
    seen: Counter[str] = Counter()

    def twice_unavailable(key: str) -> int:
        seen[key] += 1
        return 503 if seen[key] < 3 else 200

    receiver = Receiver(twice_unavailable)
    async with receiver.run() as url, Notifier.open(url) as notifier:
        result = await Simulator(BucketSink(s3_bucket), notifier, sidecars=False).run()
    assert set(seen.values()) == {3}
    assert len({record["eventId"] for record in receiver.records}) == len(result.images) == 205


async def test_listener_that_never_acknowledges() -> None:
    receiver = Receiver(lambda key: 401)
    async with receiver.run() as url, Notifier.open(url, patience=0.2) as notifier:
        with pytest.raises(TransientError, match="401"):
            await notifier.post(FILE)
    assert len(receiver.records) > 1


@pytest.mark.parametrize("order", ["natural", "shuffled", "guiders-first"])
async def test_order(tmp_path: Path, order: Any) -> None:
    written: list[str] = []
    simulator = Simulator(DirectorySink(tmp_path), order=order, on_event=lambda event: written.append(event.file.path))
    result = await simulator.run(2, first_seq=5)
    assert [exposure.seq_num for exposure in result.exposures] == [5, 6]
    first = written[:205]
    assert order == "shuffled" or all("_guider" in path for path in first[:8]) == (order == "guiders-first")
    places = [first.index(str(tmp_path / result.exposures[0].key(sensor))) for sensor in sensors()[:189]]
    displacement = sum(abs(place - index) for index, place in enumerate(places)) / len(places)
    assert (displacement > 32) == (order == "shuffled")
    assert not list(tmp_path.rglob("*.partial"))


async def test_cadence(tmp_path: Path) -> None:
    result = await Simulator(DirectorySink(tmp_path), sidecars=False).run(2, cadence=0.5)
    first, second = (exposure.begin.timestamp() for exposure in result.exposures)
    assert second - first >= 0.49
    assert len({exposure.exposure_id for exposure in result.exposures}) == 2


@pytest.mark.parametrize("place", ["bucket", "directory"])
async def test_two_simulators_take_different_exposures(place: str, tmp_path: Path, s3_bucket: str) -> None:
    sinks = [BucketSink(s3_bucket) if place == "bucket" else DirectorySink(tmp_path) for _ in range(2)]
    runs = [Simulator(sink, sidecars=False).run(2, day_obs=20300101) for sink in sinks]
    taken = [exposure.obs_id for result in await asyncio.gather(*runs) for exposure in result.exposures]
    assert sorted(taken) == [f"MC_O_20300101_{number:06d}" for number in range(1, 5)]
    again = await Simulator(sinks[0], sidecars=False).run(1, day_obs=20300101, first_seq=2)
    assert [exposure.obs_id for exposure in again.exposures] == ["MC_O_20300101_000002"], "as it was asked for"


async def test_no_such_bucket(s3_environment: str) -> None:
    with pytest.raises(ConfigurationError, match="no-such-bucket"):
        await Simulator(BucketSink("no-such-bucket")).run()


def test_command(tmp_path: Path) -> None:
    command = ["simulate", "--directory", str(tmp_path), "--no-sidecars", "--day-obs", "20300101", "--json"]
    result = CliRunner().invoke(cli, command, catch_exceptions=False)
    summary = json.loads(result.stdout)
    assert summary["obs_ids"] == ["MC_O_20300101_000001"]
    assert (summary["images"], summary["notified"]) == (205, 0)
    assert len(list((tmp_path / "LSSTCam/20300101/MC_O_20300101_000001").iterdir())) == 206


async def test_command_takes_the_secret_from_the_environment(s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOINGEST_NOTIFICATION_SECRETS", "first second")
    receiver = Receiver()
    async with receiver.run() as url:
        command = ["simulate", "--bucket", s3_bucket, "--notify", url, "--no-sidecars"]
        result = await asyncio.to_thread(CliRunner().invoke, cli, command, catch_exceptions=False)
    assert result.exit_code == 0
    assert {record["opaqueData"] for record in receiver.records} == {"first"}
    assert "first" not in result.output
    assert "205 notified" in result.output


async def test_command_finds_the_development_set_up(
    tmp_path: Path, s3_client: Any, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3_client.create_bucket(Bucket=BUCKET)
    (tmp_path / DEVELOPMENT_DATA / "s3").mkdir(parents=True)
    (tmp_path / DEVELOPMENT_DATA / "s3" / "url").write_text(s3_endpoint)
    monkeypatch.chdir(tmp_path)
    receiver = Receiver()
    async with receiver.run() as url:
        (tmp_path / DEVELOPMENT_DATA / NOTIFY_URL).write_text(url)
        result = await asyncio.to_thread(CliRunner().invoke, cli, ["simulate", "--json"], catch_exceptions=False)
    assert json.loads(result.stdout)["notified"] == 205
    assert {record["s3"]["bucket"]["name"] for record in receiver.records} == {BUCKET}


@pytest.mark.parametrize(
    "options",
    [["--directory", "d", "--bucket", "b"], ["--directory", "d", "--notify", "http://h"], []],
    ids=["two places", "notify of a folder", "no development set-up"],
)
def test_command_says_what_is_wrong(options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(cli, ["simulate", *options])
    assert result.exit_code == 2
    assert "--bucket" in result.stderr
