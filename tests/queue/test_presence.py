from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from redis.asyncio import Redis

from autoingest.model.objects import parse
from autoingest.queue.presence import Arrival, GroupKeys, arrival

GROUP = "2025-04-16T00:25:46.032"


def header(shared_data: Path, name: str) -> dict[str, object]:
    loaded: dict[str, object] = json.loads((shared_data / "headers" / f"{name}.json").read_text())["header"]
    return loaded


@pytest.mark.parametrize(
    ("name", "path", "expected"),
    [
        (
            "lsstCam-MC_O_20251121_000156_R44_SW0",
            "embargo@rubin-summit/LSSTCam/20251121/MC_O_20251121_000156/MC_O_20251121_000156_R44_SW0.fits",
            ("LSSTCam", "2025-11-22T03:25:16.951", 0, "R44_SW0"),
        ),
        (
            "lsstCam-MC_O_20250415_000228_R10_S20",
            "rubin-summit/LSSTCam/20250415/MC_O_20250415_000228/MC_O_20250415_000228_R10_S20.fits",
            ("LSSTCam", "2025-04-16T07:03:14.565#1", 0, "R10_S20"),
        ),
        (
            "comCam-CC_O_20241108_000266_R22_S00",
            "rubin-summit/ComCam/20241108/CC_O_20241108_000266/CC_O_20241108_000266_R22_S00.fits",
            ("LSSTComCam", "2024-11-09T06:33:55.311", 0, "R22_S00"),
        ),
        (
            "comCamSim-CC_S_20240321_000093_R22_S22",
            "rubin-summit/LSSTComCamSim/20240321/CC_S_20240321_000093/CC_S_20240321_000093_R22_S22.fits",
            ("LSSTComCamSim", "2024-03-22T03:41:54.994", 0, "R22_S22"),
        ),
        (
            "latiss-AT_O_20220405_000348",
            "rubin-summit/LATISS/20220405/AT_O_20220405_000348/AT_O_20220405_000348_R00_S00.fits",
            ("LATISS", "2022-04-06T02:58:07.181", 0, "R00_S00"),
        ),
    ],
)
def test_arrival_of_real_headers(shared_data: Path, name: str, path: str, expected: tuple[str, str, int, str]) -> None:
    assert arrival(header(shared_data, name), parse(path)) == Arrival(
        *expected, "s3://" + path, path.split("/")[3], snaps=2 if "AT_O" in name else 1
    )


@pytest.mark.parametrize(
    ("name", "path"),
    [
        (
            "MC_C_20240918_000013_R00_SG0_guider",
            "rubin-summit/LSSTCam/20240918/MC_C_20240918_000013/MC_C_20240918_000013_R00_SG0_guider.fits",
        ),
        ("lfa-GC101_O_20221208_000211", "rubinobs-lfa-cp/GenericCamera/GC101/2022/12/08/GC101_O_20221208_000211.fits"),
        (
            "ts8-TS_C_20230512_000021_R22_S02",
            "rubin-summit/LSST-TS8/20230512/TS_C_20230512_000021/TS_C_20230512_000021_R22_S02.fits",
        ),
    ],
)
def test_no_arrival_without_group_and_in_the_annex(shared_data: Path, name: str, path: str) -> None:
    assert arrival(header(shared_data, name), parse(path)) is None


def test_instrument_and_detector_of_the_key_where_the_header_has_none() -> None:
    path = "b/TS8/20230512/TS_C_20230512_000021/TS_C_20230512_000021_R22_S02.fits"
    assert arrival({"GROUPID": GROUP, "CURINDEX": 2}, parse(path)) == Arrival(
        "LSST-TS8", GROUP, 1, "R22_S02", "s3://" + path, "TS_C_20230512_000021"
    )


def test_guiders_never_arrive() -> None:
    path = "b/LSSTCam/20250512/MC_O_20250512_000021/MC_O_20250512_000021_R00_SG0_guider.fits"
    cards = {"INSTRUME": "lsstCam", "GROUPID": GROUP, "CURINDEX": 1, "RAFTBAY": "R00", "CCDSLOT": "SG0"}
    assert arrival(cards, parse(path)) is None


@pytest.mark.parametrize(
    ("group", "index", "expected"),
    [
        (5, 1, ("5", 0)),
        (20250416.0, 2.0, ("20250416", 1)),
        ("a", "3", ("a", 2)),
        ("a", "1.0", ("a", 0)),
        ("a", 1.5, None),
        ("a", "", None),
        ("a", "one", None),
        ("a", float("nan"), None),
        ("a", float("inf"), None),
        ("a", True, None),
        ("a", 0, None),
        (True, 1, None),
        (1.5, 1, None),
        (None, 1, None),
        ("", 1, None),
    ],
)
def test_numbers_as_headers_have_them(group: object, index: object, expected: tuple[str, int] | None) -> None:
    path = "b/LSSTCam/20250512/MC_O_20250512_000021/MC_O_20250512_000021_R22_S11.fits"
    found = arrival({"GROUPID": group, "CURINDEX": index}, parse(path))
    assert (found and (found.group, found.snap)) == expected


def at(obs_id: str, bucket: str = "p@b") -> Arrival:
    return Arrival(
        "LSSTCam", GROUP, 0, "R22_S11", f"s3://{bucket}/LSSTCam/{obs_id[5:13]}/{obs_id}/{obs_id}_R22_S11.fits"
    )


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ("MC_O_20250415_000054", "MC_O_20250415_000055"),
        ("MC_O_20250415_000999", "MC_O_20250416_000001"),
        ("MC_O_20250415_99999", "MC_O_20250415_100000"),
        ("MC_O_20250415_000054", "MC_C_20250415_000054"),
        ("MC_S_20250415_000053", "MC_O_20250415_000054"),
    ],
)
async def test_newest_exposure_wins(redis_client: Redis, older: str, newer: str) -> None:
    groups = GroupKeys(redis_client, 86400)
    for order in ([older, newer], [newer, older], [newer, newer, older]):
        await redis_client.flushdb()
        for obs_id in order:
            await groups.record([at(obs_id)])
        assert await groups.lookup("LSSTCam", GROUP, 0, "R22_S11") == at(newer).url, order
        await redis_client.flushdb()
        await groups.record([at(obs_id) for obs_id in order])
        assert await groups.lookup("LSSTCam", GROUP, 0, "R22_S11") == at(newer).url, order


@pytest.mark.parametrize("before", ["s3://nonsense", "", "s3://p@b/LSSTCam/x"])
async def test_what_others_have_written_is_replaced(redis_client: Redis, before: str) -> None:
    groups = GroupKeys(redis_client, 86400)
    await groups.record([at("MC_O_20250415_000054")])
    (key,) = await redis_client.keys("GROUP:*")
    await redis_client.set(key, before)
    await groups.record([at("MC_O_20250415_000054")])
    assert await redis_client.get(key) == at("MC_O_20250415_000054").url
    await redis_client.delete(key)
    await redis_client.lpush(key, "another type")
    await groups.record([at("MC_O_20250415_000054")])
    assert await redis_client.get(key) == at("MC_O_20250415_000054").url
    await groups.record([])


async def test_recorded_under_the_shared_name_for_a_day(redis_client: Redis) -> None:
    groups = GroupKeys(redis_client, 86400)
    await groups.record([Arrival("LSSTCam", GROUP + " +3", 0, "R22_S11", "s3://b/x")])
    (key,) = await redis_client.keys("GROUP:*")
    assert key == f"GROUP:LSSTCam:{GROUP} +3:0:R22_S11"
    assert await redis_client.get(key) == "s3://b/x"
    assert 86000 < await redis_client.ttl(key) <= 86400


async def test_lookups_at_the_same_instant_share_round_trips(redis_client: Redis) -> None:
    groups = GroupKeys(redis_client, 60)
    await groups.record([Arrival("LSSTCam", GROUP, 0, f"R22_S{n:02d}", f"s3://b/{n}") for n in range(0, 100, 2)])
    before = (await redis_client.info("commandstats"))["cmdstat_mget"]["calls"] if await redis_client.mget("x") else 0
    found = await asyncio.gather(*(groups.lookup("LSSTCam", GROUP, 0, f"R22_S{n:02d}") for n in range(100)))
    assert found == [None if n % 2 else f"s3://b/{n}" for n in range(100)]
    assert (await redis_client.info("commandstats"))["cmdstat_mget"]["calls"] - before == 1


async def test_deletion_on_sight_tells_one_asker(redis_client: Redis) -> None:
    groups = GroupKeys(redis_client, 60, delete_on_sight=True)
    await groups.record([Arrival("LSSTCam", GROUP, 0, "R22_S11", "s3://b/x")])
    found = await asyncio.gather(*(groups.lookup("LSSTCam", GROUP, 0, "R22_S11") for _ in range(5)))
    assert sorted(found, key=str) == [None] * 4 + ["s3://b/x"]
