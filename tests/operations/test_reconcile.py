"""Reconcile: store against Butler against Redis, exposure by exposure, and what it heals."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from redis.asyncio import Redis

from autoingest.app.config import Config, LoggingConfig
from autoingest.app.metrics import REGISTRY
from autoingest.butler.reader import open_reader
from autoingest.errors import ConfigurationError
from autoingest.operations.reconcile import last_days
from autoingest.roles.reconcile import ReconcileRole
from testing.exposures import DAY_OBS, exposure_id, obs_id

from .conftest import Site

DAY = str(DAY_OBS)


def expect(site: Site, seq_num: int, detectors: list[str]) -> None:
    """Write the list of an exposure's sensors."""
    content = {"expectedSensors": dict.fromkeys(detectors, "SCIENCE")}
    site.put_text(f"LSSTCam/{DAY}/{obs_id(seq_num)}/{obs_id(seq_num)}_expectedSensors.json", json.dumps(content))


def names(files: list[Any]) -> list[str]:
    return [file.path.rsplit("/", 1)[1].removesuffix(".fits").removesuffix("_guider")[-7:] for file in files]


def by_obs_id(report: Any) -> dict[str, Any]:
    return {exposure["obs_id"]: exposure for exposure in report["exposures"]}


def test_every_verdict(site: Site) -> None:
    exposures = {number: site.files(number, range(4)) for number in range(1, 10)}
    for number, files in exposures.items():
        expect(site, number, names(files))
        site.put(files)
    for number in (1, 3, 4, 5, 7, 8):
        site.ingest(exposures[number][: {3: 3, 4: 3, 5: 3}.get(number, 4)])
    site.ingest(exposures[6], visits="none")
    # 1 is complete, and 2 never came. Of 3 one file is dead, of 4 one waits, of 5 one is unknown. 6 lacks its visit.
    site.redis.hset(f"DEAD:{site.bucket}", exposures[3][3].path, "{}")
    site.redis.hset(f"FILE:{exposures[4][3].path}", "state", "waiting")
    site.redis.zadd(f"WAITING:{site.bucket}", {exposures[4][3].path: 9e9})
    # 7 should have one more detector, 8 is gone from the store, 9 has no list: all of the camera are expected.
    expect(site, 7, [*names(exposures[7]), "R44_SG1"])
    for file in [*exposures[8], *exposures[9]]:
        site.s3.delete_object(Bucket=site.bucket, Key=file.path.partition("/")[2])
    for number in (8, 9):
        key = f"LSSTCam/{DAY}/{obs_id(number)}/{obs_id(number)}_expectedSensors.json"
        site.s3.delete_object(Bucket=site.bucket, Key=key)
    site.put(exposures[9][:1])
    site.ingest(exposures[9][:1])

    young = by_obs_id(site.json("reconcile", "--day", DAY, "--all", code=1))
    assert young[obs_id(2)]["verdict"] == "arriving", "their notifications may be under way"
    assert young[obs_id(2)]["young"] == 4
    assert young[obs_id(7)]["verdict"] == "arriving", "more may come to the store"

    report = site.json("reconcile", "--day", DAY, "--grace", "0s", "--all", code=1)
    found = by_obs_id(report)
    assert {number: found[obs_id(number)]["verdict"] for number in exposures} == {
        1: "complete", 2: "missing", 3: "dead", 4: "arriving", 5: "missing", 6: "visit-owed", 7: "incomplete",
        8: "not-in-store", 9: "incomplete",
    }  # fmt: skip
    assert found[obs_id(7)]["absent"] == ["R44_SG1"]
    assert (found[obs_id(9)]["expected"], found[obs_id(9)]["in_store"]) == (205, 1)
    assert (found[obs_id(5)]["in_butler"], found[obs_id(5)]["missing"]) == (3, 1)
    assert found[obs_id(1)]["visit"] == "defined"
    assert report["verdicts"]["missing"] == 2
    assert site.queued == []

    healed = site.json("reconcile", "--day", DAY, "--grace", "0s", "--heal", code=1)
    assert obs_id(1) not in by_obs_id(healed), "complete ones are shown on demand"
    assert healed["verdicts"]["complete"] == 1
    assert sorted(site.queued) == sorted(file.path for file in [*exposures[2], exposures[5][3]])
    assert site.redis.hkeys(f"OWED:{site.bucket}") == [f"LSSTCam/{exposure_id(6)}"]
    again = by_obs_id(site.json("reconcile", "--day", DAY, "--grace", "0s", "--heal", code=1))
    assert again[obs_id(2)]["verdict"] == again[obs_id(5)]["verdict"] == "arriving"
    assert len(site.queued) == 5
    text = site.run("reconcile", "--day", DAY, "--grace", "0s", code=1)
    assert f"{obs_id(3)}" in text
    assert "files were given up" in text
    site.run("queue drop", "--obs-id", obs_id(3), "--yes")
    dropped = by_obs_id(site.json("reconcile", "--day", DAY, "--grace", "0s", code=1))[obs_id(3)]
    assert (dropped["verdict"], dropped["dropped"], dropped["dead"]) == ("dropped", 1, 0)
    assert "dropped 1 in" in site.run("log")


def test_what_old_services_took_is_healed_or_left(site: Site) -> None:
    """They leave the state at ``queued``: what is on no list and not in the Butler is queued again."""
    files = site.files(1, range(6))
    site.put(files)
    records = [
        {"ingest_time": "6"}, {"ing_fail_exc": "x", "ing_fail_count": "3"}, {"md_fail_exc": "x"}, {}, {}, {},
    ]  # fmt: skip
    for file, record in zip(files, records, strict=True):
        fields: dict[Any, Any] = {"state": "queued", "recv_time": "5", **record}
        site.redis.hset(f"FILE:{file.path}", mapping=fields)
    site.redis.lpush(f"WORKER:{site.bucket}:old", files[4].path)
    site.redis.lpush(f"QUEUE:{site.bucket}", files[5].path)
    assert site.json("trigger", obs_id(1), "--dry-run")["selected"] == [file.path for file in files[:4]]
    (report,) = site.json("reconcile", "--day", DAY, "--grace", "0s", "--heal")["exposures"]
    assert (report["missing"], report["healed"], report["on_the_way"]) == (4, 4, 2)
    assert sorted(site.queued) == sorted(file.path for file in [*files[:4], files[5]])
    assert site.json("audit", code=1)["consistent"], "only nobody takes from the queue"


def test_an_empty_day_and_the_annex(site: Site) -> None:
    assert "no exposures" in site.run("reconcile", "--last", "1d")
    assert "say when" in site.run("reconcile", code=2)
    site.config.write_text(site.config.read_text().replace(site.bucket, "rubinobs-lfa-cp"))
    assert "trigger --day" in site.run("reconcile", "--last", "1d", code=2)


def test_the_role_runs_where_it_is_configured() -> None:
    plain = {"buckets": ["b"], "ingest": {"repo": "r"}}
    assert "reconcile" not in Config.from_dict(plain, "x").roles
    assert "reconcile" in Config.from_dict({**plain, "reconcile": {"last": 86400}}, "x").roles
    assert Config.from_dict({**plain, "reconcile": {}, "roles": ["idle"]}, "x").roles == ("idle",)


def test_the_last_days_begin_at_noon() -> None:
    assert last_days(3600, datetime(2025, 12, 31, 11, 59, tzinfo=UTC)) == ["20251230"]
    assert last_days(3600, datetime(2025, 12, 31, 12, 1, tzinfo=UTC)) == ["20251230", "20251231"]
    assert last_days(2 * 86400, datetime(2026, 1, 1, 13, tzinfo=UTC)) == ["20251230", "20251231", "20260101"]


async def test_a_repository_that_is_none(site: Site) -> None:
    config = Config.from_file(site.config)
    missing = config.ingest.model_copy(update={"repo": "/nowhere"})
    with pytest.raises(ConfigurationError, match="/nowhere"):
        async with open_reader(missing, LoggingConfig()):
            pass


async def test_the_role_looks_heals_and_tells(site: Site, redis_client: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    files = site.files(1, range(4))
    site.put(files)
    site.ingest(files[:2])
    monkeypatch.setattr("autoingest.roles.reconcile.last_days", lambda seconds: [DAY])
    config = Config.from_file(site.config).model_copy(
        update={"reconcile": Config.from_file(site.config).reconcile.model_copy(update={"grace": 1e-9})}
    )
    role = ReconcileRole(config, redis_client)
    await role.start()
    assert not await role.is_drained()
    stop = asyncio.Event()
    running = asyncio.create_task(role.run(stop))
    async with asyncio.timeout(60):
        while not await role.is_drained():
            await asyncio.sleep(0.02)
        stop.set()
        await running
    await role.close()
    assert sorted(site.queued) == sorted(file.path for file in files[2:])
    labels = {"bucket": site.bucket}
    assert REGISTRY.get_sample_value("autoingest_reconcile_exposures", {**labels, "verdict": "missing"}) == 1
    assert REGISTRY.get_sample_value("autoingest_reconcile_exposures", {**labels, "verdict": "complete"}) == 0
    assert REGISTRY.get_sample_value("autoingest_reconcile_healed_total", labels) == 2


async def test_the_role_goes_on_when_the_store_is_away(
    site: Site, redis_client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("S3_ENDPOINT_URL", "http://127.0.0.1:9")
    before = REGISTRY.get_sample_value("autoingest_reconcile_failed_total")
    role = ReconcileRole(Config.from_file(site.config), redis_client)
    stop = asyncio.Event()
    running = asyncio.create_task(role.run(stop))
    async with asyncio.timeout(60):
        while REGISTRY.get_sample_value("autoingest_reconcile_failed_total") == before:
            await asyncio.sleep(0.02)
    assert not running.done()
    stop.set()
    async with asyncio.timeout(60):
        await running
    await role.close()
