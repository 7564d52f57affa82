"""The repairs of LSSTCam's headers, against the list of days and numbers written down once more."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from autoingest.instruments.corrected_header import prepared
from autoingest.instruments.translators.comcam import ComCamTranslator
from autoingest.instruments.translators.latiss import LatissTranslator
from autoingest.instruments.translators.lsstcam import LsstCamTranslator
from testing.headers import comcam, latiss_at, science

DOME = """20250703 743-745; 20250704 832-834; 20250705 1-736; 20250707 744-783; 20250707 784-823; 20250707 864-903;
20250707 904-943; 20250714 258-781; 20250715 205-1218; 20250819 4-1052; 20250518 0-99999"""
CLOSED = {
    (int(day), number)
    for day, numbers in (item.split() for item in DOME.split(";"))
    for number in range(int(numbers.partition("-")[0]), int(numbers.partition("-")[2]) + 1)
}
BLOCK = [20250415, 20250416, 20250417, 20250418, 20250421, 20250423, 20250424, 20250425, 20250503, 20250504, 20250512,
         20250522, 20250524, 20250826, 20250827, 20250828]  # fmt: skip
PINHOLE = [20231107, 20231108, 20241015, 20241016]
_SPECIAL = {20250609, 20260315, 20250301, 20250422, *BLOCK, *PINHOLE, *(day for day, _ in CLOSED)}
DAYS = sorted({day + shift for day in _SPECIAL for shift in (-1, 0, 1)})
EDGES = sorted({edge + shift for item in DOME.split(";") for edge in map(int, item.split()[1].split("-"))
                for shift in (-1, 0, 1)} | {48, 49, 75, 76, 109, 110, 250, 251, 578, 579})  # fmt: skip
NUMBERS = st.sampled_from([edge for edge in EDGES if 0 <= edge < 100_000]) | st.integers(0, 2000)


def expected(day: int, number: int, header: dict[str, Any]) -> dict[str, Any]:
    """Return the cards after the repairs; all cards that matter are there."""
    found = {card: header[card] for card in ("FILTER", "VIGN_MIN", "PROGRAM", "ROTPA")}
    if day in PINHOLE and found["FILTER"] == "ph_05":
        found["FILTER"] = "ph_5"
    if found["ROTPA"] is not None and found["ROTPA"] != 0:
        if day in range(20250302, 20250422):
            found["ROTPA"] = header["ROTPA"] - 90
        if day == 20250422 and number <= 250:
            found["ROTPA"] = math.remainder(header["ROTPA"] - 180, 360)
            if found["ROTPA"] == 180:
                found["ROTPA"] = -180.0
    if (day, number) in CLOSED:
        found["VIGN_MIN"] = "FULLY"
    if day == 20250609 and 76 <= number <= 578:
        found["FILTER"] = "z_20"
    if day == 20260315 and 49 <= number <= 109:
        found["FILTER"] = "i_39"
    if day in BLOCK and header["PROGRAM"] == "BLOCK-417":
        found["PROGRAM"] = "BLOCK-T417"
    return found


@settings(max_examples=1500, deadline=None)
@given(
    day=st.sampled_from(DAYS),
    number=NUMBERS,
    cards=st.fixed_dictionaries(
        {
            "FILTER": st.sampled_from(["y_10", "r_57", "ph_05", "ph_5", "", None]),
            "VIGN_MIN": st.sampled_from(["NO", "FULLY", "UNKNOWN", "", None]),
            "PROGRAM": st.sampled_from(["BLOCK-417", "BLOCK-T417", "BLOCK-41", "", None]),
            "ROTPA": st.sampled_from([None, 0, 0.0, 0.25, 90.0, 180.0, 359.0, 360.0, -180.0]),
        }
    ),
)
def test_days_and_numbers(day: int, number: int, cards: dict[str, Any]) -> None:
    header = science(DAYOBS=str(day), SEQNUM=number, **cards)
    before = dict(header)
    repaired = prepared(LsstCamTranslator, header, {})
    assert header == before
    assert {card: repaired[card] for card in cards} == pytest.approx(expected(day, number, header))


def test_every_number_of_the_days_with_a_closed_dome() -> None:
    for day in {day for day, _ in CLOSED} - {20250518}:
        for number in range(1300):
            found = prepared(LsstCamTranslator, science(DAYOBS=str(day), SEQNUM=number, VIGN_MIN=None), {})
            assert (found["VIGN_MIN"] == "FULLY") == ((day, number) in CLOSED)


@pytest.mark.parametrize(
    ("changes", "absent", "repaired"),
    [
        # What comes after the missing card is not done, what came before stays.
        ({"DAYOBS": "20250518", "FILTER2": "red"}, ["FILTER", "VIGN_MIN"], {"FILTER2": None}),
        ({"DAYOBS": "20231107", "FILTER2": "red"}, ["FILTER"], {"FILTER2": None}),
        ({"DAYOBS": "20250415", "ROTPA": 100.0}, ["PROGRAM"], {"ROTPA": 10.0}),
        ({"DAYOBS": "2025-04-15", "ROTPA": 100.0, "FILTER2": "red"}, ["FILTER"], {"ROTPA": 100.0, "FILTER2": None}),
        ({"DAYOBS": "20250415", "ROTPA": "x", "PROGRAM": "BLOCK-417"}, [], {"PROGRAM": "BLOCK-417"}),
    ],
)
def test_what_a_missing_card_ends(changes: dict[str, Any], absent: list[str], repaired: dict[str, Any]) -> None:
    header = {card: value for card, value in science(**changes).items() if card not in absent}
    with capture_logs() as logs:
        found = prepared(LsstCamTranslator, header, {})
    assert {card: found[card] for card in repaired} == repaired
    assert [entry["event"] for entry in logs] == ["repairs of a header ended early"]


@pytest.mark.parametrize(
    ("date", "absent", "unrepaired"),
    [
        ("2020-06-01T12:00", "RASTART", {"ROTPA": 218.0, "OBSGEO-Z": 3195186.45}),
        ("2020-12-01T12:00", "ROTPA", {"RASTART": 272.081 * 15 + 37 / 240, "OBSGEO-Z": 3195186.45}),
    ],
)
def test_what_a_missing_card_ends_for_latiss(date: str, absent: str, unrepaired: dict[str, float]) -> None:
    header = latiss_at(date)
    del header[absent]
    found = prepared(LatissTranslator, header, {})
    assert {card: found[card] for card in unrepaired} == pytest.approx(unrepaired)


def test_repairs_are_made_to_the_corrected_header() -> None:
    header = science(DAYOBS="20250609", SEQNUM=100)
    assert prepared(LsstCamTranslator, header, {"FILTER": "g_6"})["FILTER"] == "z_20"
    assert prepared(LsstCamTranslator, header, {"SEQNUM": 600, "FILTER": "u_24"})["FILTER"] == "u_24"
    assert prepared(ComCamTranslator, comcam(FILTER=None), {"FILTER": "i_06"})["FILTER"] == "i_06"
