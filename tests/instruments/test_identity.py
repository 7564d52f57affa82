from __future__ import annotations

import os
from pathlib import Path

import pytest

from autoingest import instruments
from autoingest.errors import MetadataError
from autoingest.instruments import identity

from .headers import URL, bench, numbered, science


def test_identify_science() -> None:
    assert instruments.identify(science(), URL) == instruments.Identity(
        instrument="LSSTCam",
        exposure_id=2025052100138,
        obs_id="MC_O_20250521_000138",
        detector=94,
        group="2025-05-22T05:18:32.763",
        day_obs=20250521,
    )


@pytest.mark.parametrize(
    ("controller", "day", "expected"),
    [
        ("O", "20190319", 2019031900001),
        ("C", "20190319", 3019031900001),
        ("C", "20231004", 3023100400001),
        ("C", "20231005", 2023100500001),
        ("H", "20100217", 4010021700001),
        ("H", "20260101", 4026010100001),
        ("P", "20250417", 5025041700001),
        ("P", "20250418", 2025041800001),
        ("Q", "20250417", 6025041700001),
        ("S", "20250417", 7025041700001),
        ("S", "20250418", 2025041800001),
    ],
)
def test_exposure_id_by_controller_and_day(controller: str, day: str, expected: int) -> None:
    header = science(**numbered(day, 1, controller))
    assert instruments.identify(header, URL).exposure_id == expected
    del header["CONTRLLR"]
    assert instruments.identify(header, URL).exposure_id == expected


@pytest.mark.parametrize("value", ["2019-03-19", "2019-03-19T00:00:00", 20190319])
def test_day_obs_spellings(value: object) -> None:
    assert instruments.identify(bench(DAYOBS=value), URL).day_obs == 20190319


@pytest.mark.parametrize("value", [None, "", "  "])
def test_group_is_the_exposure_where_there_is_none(value: str | None) -> None:
    assert instruments.identify(science(GROUPID=value), URL).group == "2025052100138"


@pytest.mark.parametrize(
    ("card", "value"),
    [
        ("INSTRUME", "OtherCam"),
        ("INSTRUME", None),
        ("OBSID", None),
        ("DAYOBS", None),
        ("DAYOBS", "20250230"),
        ("DAYOBS", "20510101"),
        ("DAYOBS", 2025.0),
        ("SEQNUM", None),
        ("SEQNUM", -1),
        ("SEQNUM", 100_000),
        ("SEQNUM", 1.5),
        ("SEQNUM", True),
        ("SEQNUM", 139),  # contradicts OBSID
        ("CONTRLLR", "C"),
        ("CONTRLLR", "X"),
        ("CONTRLLR", "OC"),
        ("GROUPID", 7),
        ("RAFTBAY", None),
        ("CALIB_ID", "x"),
    ],
)
def test_unusable_cards_are_named(card: str, value: object) -> None:
    with pytest.raises(MetadataError) as caught:
        instruments.identify(science(**{card: value}), URL)
    assert card in str(caught.value)
    assert repr(value) in str(caught.value)
    assert URL in str(caught.value)
    assert caught.value.context == {"card": card, "value": value, "path": URL}


def test_unknown_detector_is_named() -> None:
    with pytest.raises(MetadataError, match="R22_S33"):
        instruments.identify(science(CCDSLOT="S33"), URL)


def test_guider() -> None:
    header = {"INSTRUME": "lsstCam", "OBSID": "MC_O_20250521_000138", "RAFTBAY": "R00", "CCDSLOT": "SG0"}
    assert instruments.identify_guider(header, URL) == instruments.GuiderIdentity(
        "LSSTCam", "MC_O_20250521_000138", 189
    )


@pytest.mark.parametrize("slot", ["SW0", "S00"])
def test_only_guide_detectors_guide(slot: str) -> None:
    raft = "R00" if slot == "SW0" else "R22"
    with pytest.raises(MetadataError, match="not a guide detector"):
        instruments.identify_guider(science(RAFTBAY=raft, CCDSLOT=slot), URL)


def test_a_sites_correction_file_counts_for_the_identity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "LSSTCam-MC_O_20250521_000139.yaml").write_text("GROUPID: corrected\n")
    monkeypatch.setenv("METADATA_CORRECTIONS_PATH", os.fspath(tmp_path))
    identity._corrections.cache_clear()
    header = science(OBSID="MC_O_20250521_000139", SEQNUM=139)
    assert instruments.identify(header, URL).group == "corrected"
    assert instruments.exposure_record(header, URL).group == "corrected"
    identity._corrections.cache_clear()
