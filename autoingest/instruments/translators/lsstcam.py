"""Header translation of LSSTCam, with the repairs that its headers need."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

from ..dates import tai, utc
from .simonyi import SimonyiTranslator

_PINHOLE_MISNAMED = ("20231107", "20231108", "20241015", "20241016")
"""Days on which the filter ph_5 was recorded as ph_05."""

_TURNED_AFTER, _TURNED_BEFORE = 20250301, 20250422
"""Between these days the commissioning camera's orientation was recorded, a quarter of a turn off."""

_HALF_TURN, _HALF_TURN_UNTIL = 20250422, 251
"""The day on which rotations were half a turn off, and the sequence number at which this ended."""

_DOME_CLOSED = (
    (20250518, 0, 99999),
    (20250703, 743, 745),
    (20250704, 832, 834),
    (20250705, 1, 736),
    (20250707, 744, 823),
    (20250707, 864, 943),
    (20250714, 258, 781),
    (20250715, 205, 1218),
    (20250819, 4, 1052),
)
"""Day, first and last sequence number of exposures taken in a closed dome though VIGN_MIN says otherwise."""

_FILTER_MISNAMED = (
    (20250609, 76, 578, {"FILTER": "z_20", "FILTBAND": "z", "FILTPOS": 201.0, "FILTSLOT": 4}),
    (20260315, 49, 109, {"FILTER": "i_39", "FILTBAND": "i", "FILTPOS": 304.0, "FILTSLOT": 1}),
)
"""Day, first and last sequence number of exposures through another filter than was recorded, and the right cards."""

_TEST_PROGRAM_DAYS = frozenset(
    {
        20250415, 20250416, 20250417, 20250418, 20250421, 20250423, 20250424, 20250425, 20250503, 20250504, 20250512,
        20250522, 20250524, 20250826, 20250827, 20250828,
    }
)  # fmt: skip
"""Days on which BLOCK-417 was a test."""


class LsstCamTranslator(SimonyiTranslator, instrument="LSSTCam"):
    """Translates the headers of LSSTCam."""

    on_telescope_after = utc("2025-03-01")
    in_chile_since = tai("2024-05-01")

    @classmethod
    def repair(cls, header: MutableMapping[str, Any]) -> None:
        """Repair what is known to be wrong in the headers of certain days."""
        if "FILTER" not in header and header.get("FILTER2") is not None:
            header["FILTER2"] = None
        if header["DAYOBS"] in _PINHOLE_MISNAMED and header["FILTER"] == "ph_05":
            header["FILTER"] = "ph_5"
        day, seq_num = int(header["DAYOBS"]), header["SEQNUM"]
        _repair_rotation(header, day, seq_num)
        if _is_in(_DOME_CLOSED, day, seq_num) and header["VIGN_MIN"] != "FULLY":
            header["VIGN_MIN"] = "FULLY"
        for *exposures, replaced in _FILTER_MISNAMED:
            if _is_in((exposures,), day, seq_num):
                header.update(replaced)
        if day in _TEST_PROGRAM_DAYS and header["PROGRAM"] == "BLOCK-417":
            header["PROGRAM"] = "BLOCK-T417"


def _is_in(ranges: Any, day: int, seq_num: Any) -> bool:
    """Tell whether an exposure lies in one of these ranges of day, first and last sequence number."""
    return any(day == at and first <= seq_num <= last for at, first, last in ranges)


def _repair_rotation(header: MutableMapping[str, Any], day: int, seq_num: Any) -> None:
    angle = header.get("ROTPA")
    if not angle:
        return
    if _TURNED_AFTER < day < _TURNED_BEFORE:
        header["ROTPA"] = angle - 90.0
    elif day == _HALF_TURN and seq_num < _HALF_TURN_UNTIL:
        header["ROTPA"] = angle % 360.0 - 180.0
