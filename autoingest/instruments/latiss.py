# ruff: noqa: D102  (the library says what each property means)
"""Header translation of LATISS, the auxiliary telescope's spectrograph, with the repairs that its headers need."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import astropy.units as u
from astro_metadata_translator import cache_translation

from ..errors import MetadataError
from . import cards
from .rubin import RubinTranslator


def _since(date: str) -> float:
    """Return the MJD (TAI) of a date in UTC from 2017 on, when they were 37 s apart."""
    return ((datetime.fromisoformat(date) - datetime(1858, 11, 17)).total_seconds() + 37) / 86400


_SENSOR_CHANGED = _since("2019-06-24T00:00")
_GROUP_IS_TYPE_UNTIL = _since("2019-11-07T00:00")
_ON_TELESCOPE = _since("2020-01-01T00:00")
_OBJECT_IS_TEST_UNTIL = _since("2020-01-27T20:00")
_RADIANS_UNTIL = _since("2020-01-28T22:00")
_END_IS_WRONG_UNTIL = _since("2020-02-01T00:00")
_START_IS_WRONG_UNTIL = _since("2020-05-01T00:00")
_HALF_A_TURN = _since("2020-11-19T00:00"), _since("2021-10-29T00:00")
_HOURS_UNTIL = _since("2021-02-11T18:45")
_SLOW_CLOCK_UNTIL = _since("2021-02-12T00:00")
_SPEC_PREFIX_UNTIL = _since("2022-07-10T00:00")

_SENSOR = "ITL-3800C-068"
_DETECTOR = 0
_CLOCK = 37 / 3600 * 15
"""Degrees by which right ascensions are off that were computed with TAI taken for UTC."""

_OBS_ID = re.compile(r"AT_[A-Z]_(\d{8})_(\d+)")
_EMPTY = re.compile(r"empty_?\d*", re.IGNORECASE)


class LatissTranslator(RubinTranslator, instrument="LATISS", registered_name="LSST_LATISS"):
    """Translates the headers of LATISS."""

    site = (-70.747698, -30.244728, 2663.0)
    tracking_systems = ("RADEC", "SIDEREAL", "")
    unknown_rotation = math.nan

    _const_map: dict[str, Any] = {  # noqa: RUF012
        "telescope": "Rubin Auxiliary Telescope",
        "detector_group": "RXX",
        "detector_name": "S00",
    }
    _trivial_map: dict[str, str | list[str] | tuple[Any, ...]] = {  # noqa: RUF012
        "detector_serial": ["LSST_NUM", "DETSER"],
    }

    @classmethod
    def read_obs_id(cls, header: Mapping[str, object], url: str | None) -> str:
        """Return the observation's name, of which the card was IMGNAME at first."""
        older = cards.defined(header, "OBSID") is None and cards.defined(header, "IMGNAME") is not None
        return cards.text(header, "IMGNAME" if older else "OBSID", url)

    @classmethod
    def read_detector(cls, header: Mapping[str, object], url: str | None) -> int:
        """Return the number of the only detector."""
        return _DETECTOR

    @classmethod
    def identity_repairs(cls, header: Mapping[str, object]) -> dict[str, object]:
        """Return the same as `repairs`."""
        return cls.repairs(header)

    @classmethod
    def repairs(cls, header: Mapping[str, object]) -> dict[str, object]:
        """Return the cards that repair what is known to be wrong in the headers of certain years."""
        repairs = _names(header)
        if str(cards.defined(header, "DATE-OBS")).startswith("1970"):
            repairs |= {"DATE-OBS": header.get("DATE"), "DATE-BEG": header.get("DATE"), "DATE-END": None,
                        "MJD-OBS": header.get("MJD"), "MJD-BEG": header.get("MJD"), "MJD-END": None}  # fmt: skip
        if header.get("SHUTTIME"):
            repairs["SHUTTIME"] = None
        height = cards.defined(header, "OBSGEO-Z")
        if isinstance(height, (int, float)) and height > 0:
            repairs["OBSGEO-Z"] = -height
        begin = cards.moment({**header, **repairs}, *cards.BEGIN)
        if begin is None:
            return repairs  # the translation itself will say so
        return {**repairs, **_repairs_of_type(header, begin), **_repairs_of_pointing(header, begin)}

    def _is_installed(self) -> bool:
        return float(self.to_datetime_begin().tai.mjd) > _ON_TELESCOPE

    @cache_translation
    def to_object(self) -> str:
        if not self._first("OBJECT"):
            self._need("OBJECT")
        return super().to_object()

    @cache_translation
    def to_observation_type(self) -> str:
        """Return the type; where none is told, a bias by its exposure time, else unknown."""
        kind = self._text("", "OBSTYPE", "IMGTYPE").lower()
        if not kind:
            return "bias" if self.to_exposure_time_requested().value == 0 else "unknown"
        if kind == "object" and not self._is_installed():
            return "labobject"
        return "science" if kind in ("skyexp", "object") else kind

    @cache_translation
    def to_exposure_time_requested(self) -> u.Quantity:
        """Return the exposure time, -1 s where none is told."""
        return super().to_exposure_time_requested() if self._first("EXPTIME") else -1.0 * u.s

    @cache_translation
    def to_dark_time(self) -> u.Quantity:
        return max(super().to_dark_time(), self.to_exposure_time())

    @cache_translation
    def to_physical_filter(self) -> str:
        """Join filter and grating, both always named."""
        names = []
        for card in ("FILTER", "GRATING"):
            name = self._text("unknown", card)
            if _EMPTY.fullmatch(name) or (card == "GRATING" and _is_blank(self._cards.get(card))):
                name = "empty"
            names.append("diffuser" if name == "disperser" else name)
        return "~".join(names)


def _is_blank(value: object) -> bool:
    return isinstance(value, str) and not value.strip()


def _names(header: Mapping[str, object]) -> dict[str, object]:
    """Return the cards that say which exposure it is, where the first headers lack them."""
    try:
        obs_id = LatissTranslator.read_obs_id(header, None)
    except MetadataError:
        return {}
    told: dict[str, object] = {"OBSID": obs_id}
    if match := _OBS_ID.fullmatch(obs_id):
        told |= {"DAYOBS": match[1], "SEQNUM": int(match[2])}
    return {card: value for card, value in told.items() if cards.defined(header, card) is None}


def _repairs_of_type(header: Mapping[str, object], begin: float) -> dict[str, object]:
    repairs: dict[str, object] = {}
    if begin > _SENSOR_CHANGED:
        repairs["LSST_NUM"] = _SENSOR
    if begin < _END_IS_WRONG_UNTIL:
        repairs |= {"DATE-END": None, "MJD-END": None}
    kind, group = cards.defined(header, "IMGTYPE"), cards.defined(header, "GROUPID")
    if begin < _GROUP_IS_TYPE_UNTIL and isinstance(group, str) and not group.startswith("test"):
        # The type was recorded as the group: bias, dark_0001_0002, FOCUS10.
        if kind is None:
            kind, underscore, _ = group.partition("_")
            if not underscore:
                kind = "FOCUS" if (focus := group.upper() != "FOCUS" and group.upper().startswith("FOCUS")) else group
                if not focus:
                    repairs["GROUPID"] = None
            repairs["IMGTYPE"] = kind
        elif kind == group:
            repairs["GROUPID"] = None
    if kind == "OBJECT":
        if begin < _OBJECT_IS_TEST_UNTIL:
            repairs["IMGTYPE"] = "ENGTEST"
        elif "OBJECT" not in header:
            repairs["OBJECT"] = "NOTSET"
    target = cards.defined(header, "OBJECT")
    if begin < _SPEC_PREFIX_UNTIL and isinstance(target, str):
        repairs["OBJECT"] = target.removeprefix("spec:")
    return repairs


def _repairs_of_pointing(header: Mapping[str, object], begin: float) -> dict[str, object]:
    values = {card: value for card in ("RA", "DEC", "RASTART", "RAEND", "ROTPA")
              if isinstance(value := cards.defined(header, card), (int, float))}  # fmt: skip
    repairs: dict[str, object] = {}
    if begin < _RADIANS_UNTIL:
        repairs |= {card: value * 180 / math.pi for card, value in values.items() if card in ("RA", "DEC")}
    if begin < _START_IS_WRONG_UNTIL:
        repairs |= dict.fromkeys(("RASTART", "DECSTART", "RAEND", "DECEND"))
    else:
        for card in values.keys() & {"RASTART", "RAEND"}:
            degrees = values[card] * (15.0 if begin < _HOURS_UNTIL else 1.0)
            repairs[card] = degrees + (_CLOCK if degrees and begin < _SLOW_CLOCK_UNTIL else 0.0)
    if "ROTPA" in values and _HALF_A_TURN[0] < begin < _HALF_A_TURN[1]:
        repairs["ROTPA"] = values["ROTPA"] - 180
    return repairs
