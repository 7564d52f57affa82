"""Header translation of LSSTCam, with the repairs that its headers need."""

from __future__ import annotations

from collections.abc import Mapping

from ..errors import MetadataError
from . import cards, identity
from .simonyi import SimonyiTranslator

_FILTERS: dict[int, dict[object, str]] = {20250609: {"y_10": "z_20"}, 20260315: {"r_57": "i_39"}}
"""Filters that were recorded under another filter's name, by day."""

_PROGRAMS: dict[int, dict[object, str]] = {20250415: {"BLOCK-417": "BLOCK-T417"}}
"""Programmes that were recorded under another's name, by day."""

_CLOSED_DOME = {
    20250518: ((0, 99999),),
    20250703: ((743, 745),),
    20250704: ((832, 834),),
    20250705: ((1, 736),),
    20250707: ((744, 823), (864, 943)),
    20250714: ((258, 781),),
    20250715: ((205, 1218),),
    20250819: ((4, 1052),),
}
"""Sequence numbers, first and last, taken in a closed dome though VIGN_MIN says otherwise, by day.

The observatory's data curation lists them (DM-51847, DM-52249).
"""


class LsstCamTranslator(SimonyiTranslator, instrument="LSSTCam"):
    """Translates the headers of LSSTCam."""

    on_telescope = 60735.0  # 2025-03-01
    in_chile = 60431.0  # 2024-05-01

    @classmethod
    def repairs(cls, header: Mapping[str, object]) -> dict[str, object]:
        """Return the cards that repair what is known to be wrong in the headers of certain days."""
        try:
            day, seq_num = identity.day_obs(header, None), identity.seq_num(header, None)
        except MetadataError:
            return {}  # the translation itself will say so
        return {**_camera_repairs(header, day), **_telescope_repairs(header, day, seq_num)}


def _camera_repairs(header: Mapping[str, object], day: int) -> dict[str, object]:
    repairs: dict[str, object] = {}
    for card, names in (("FILTER", _FILTERS), ("PROGRAM", _PROGRAMS)):
        value = cards.defined(header, card)
        if value in names.get(day, {}):
            repairs[card] = names[day][value]
    if cards.defined(header, "FILTER") == "ph_05":
        repairs["FILTER"] = "ph_5"
    if "FILTER" not in header and cards.defined(header, "FILTER2") is not None:
        repairs["FILTER2"] = None
    return repairs


def _telescope_repairs(header: Mapping[str, object], day: int, seq_num: int) -> dict[str, object]:
    repairs: dict[str, object] = {}
    angle = cards.defined(header, "ROTPA")
    if isinstance(angle, (int, float)) and angle != 0:
        if 20250301 < day < 20250422:
            repairs["ROTPA"] = angle - 90.0  # the commissioning camera's orientation was recorded
        elif day == 20250422 and seq_num < 251:
            repairs["ROTPA"] = angle % 360.0 - 180.0  # half a turn off, half a night
    if any(first <= seq_num <= last for first, last in _CLOSED_DOME.get(day, ())):
        repairs["VIGN_MIN"] = "FULLY"
    return repairs
