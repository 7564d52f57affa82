# ruff: noqa: D102  (the library says what each property means)
"""Header translation of LATISS, the auxiliary telescope's spectrograph, with the repairs that its headers need."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, MutableMapping
from typing import Any

import astropy.units as u
from astro_metadata_translator import cache_translation
from astropy.coordinates import AltAz

from .. import cards
from ..dates import utc
from .rubin import RubinTranslator

_SENSOR_CHANGED = utc("2019-06-24")
_GROUP_IS_TYPE_UNTIL = utc("2019-11-07")
_ON_TELESCOPE = utc("2020-01-01")
_OBJECT_IS_TEST_UNTIL = utc("2020-01-27T20:00")
_RADIANS_UNTIL = utc("2020-01-28T22:00")
_END_IS_WRONG_UNTIL = utc("2020-02-01")
_START_IS_WRONG_UNTIL = utc("2020-05-01")
_HALF_A_TURN = utc("2020-11-19"), utc("2021-10-29")
_HOURS_UNTIL = utc("2021-02-11T18:45")
_SLOW_CLOCK_UNTIL = utc("2021-02-12")
_SPEC_PREFIX_UNTIL = utc("2022-07-10")

_SENSOR = "ITL-3800C-068"
_DETECTOR = 0
_DETECTOR_NAME = "RXX_S00"
_CLOCK = 37 / 3600 * 15
"""Degrees by which right ascensions are off that were computed with TAI taken for UTC."""

_EMPTY = re.compile(r"empty(_?\d+)?", re.IGNORECASE)


class LatissTranslator(RubinTranslator, instrument="LATISS", registered_name="LSST_LATISS"):
    """Translates the headers of LATISS."""

    site = (-70.747698, -30.244728, 2663.0)
    unknown_rotation = math.nan
    identity_needs_repairs = True

    _const_map: dict[str, Any] = {  # noqa: RUF012
        "telescope": "Rubin Auxiliary Telescope",
        "detector_group": "RXX",
        "detector_name": "S00",
    }
    _trivial_map: dict[str, str | list[str] | tuple[Any, ...]] = {  # noqa: RUF012
        "detector_serial": ["LSST_NUM", "DETSER"],
    }

    @classmethod
    def accepts(cls, header: Mapping[str, object]) -> bool:
        """Tell whether a header is this camera's: capitals count."""
        return header.get("INSTRUME") in ("LATISS", "LSST_ATISS") or header.get("DETNAME") == _DETECTOR_NAME

    @classmethod
    def read_obs_id(cls, header: Mapping[str, object], url: str | None) -> str:
        """Return the observation's name, of which the card was IMGNAME at first."""
        return cards.as_text(header, cards.first(header, "OBSID", "IMGNAME") or "OBSID", url)

    @classmethod
    def read_detector(cls, header: Mapping[str, object], url: str | None) -> int:
        """Return the number of the only detector."""
        return _DETECTOR

    @classmethod
    def repair(cls, header: MutableMapping[str, Any]) -> None:
        """Repair what is known to be wrong in the headers of certain years."""
        _repair_names(header, cls.read_obs_id(header, None))
        if "DATE-OBS" in header and header["DATE-OBS"].startswith("1970"):
            header["DATE-OBS"] = header["DATE-BEG"] = header["DATE"]
            header["MJD-OBS"] = header["MJD-BEG"] = header["MJD"]
            header["DATE-END"] = header["MJD-END"] = None
        begin = cards.moment(header, *cards.BEGIN)
        if begin is None:
            raise cards.unusable(header, cards.first(header, *cards.BEGIN) or "MJD-BEG", None, "is not a time")
        if begin > _SENSOR_CHANGED:
            header["LSST_NUM"] = _SENSOR
        if begin < _END_IS_WRONG_UNTIL and header.get("DATE-END"):
            header["DATE-END"] = header["MJD-END"] = None
        _repair_type(header, begin)
        if begin < _RADIANS_UNTIL:
            for card in ("RA", "DEC"):
                if header.get(card) is not None:
                    header[card] = math.degrees(header[card])
        if header.get("SHUTTIME"):
            header["SHUTTIME"] = None
        if "OBJECT" not in header and header.get("IMGTYPE") == "OBJECT":
            header["OBJECT"] = "NOTSET"
        if begin < _SPEC_PREFIX_UNTIL and header.get("OBJECT") is not None:
            header["OBJECT"] = header["OBJECT"].replace("spec:", "")
        if header.get("RADESYS") == "":
            header["RADESYS"] = "ICRS"
        if header.get("TRACKSYS") == "":
            header["TRACKSYS"] = None
        elif header.get("TRACKSYS") == "SIDEREAL":
            header["TRACKSYS"] = "RADEC"
        _repair_pointing(header, begin)

    def _is_installed(self) -> bool:
        return bool(self.to_datetime_begin().tai.mjd > _ON_TELESCOPE)

    @cache_translation
    def to_object(self) -> str:
        if not self._first("OBJECT") and self._is_installed():
            self._need("OBJECT")
        return super().to_object()

    @cache_translation
    def to_science_program(self) -> str:
        return self._text("unknown", "PROGRAM")

    @cache_translation
    def to_observation_type(self) -> str:
        """Return the type; where none is told, a bias by its exposure time, else unknown."""
        card = self._first("OBSTYPE", "IMGTYPE")
        if card is None:
            return "bias" if self.to_exposure_time().value == 0 else "unknown"
        kind = cards.text(self._header, card, self.filename).lower()
        if kind == "object" and not self._is_installed():
            return "labobject"
        return "science" if kind in ("skyexp", "object") else kind

    @cache_translation
    def to_exposure_time_requested(self) -> u.Quantity:
        """Return the exposure time, -1 s where none is told."""
        return super().to_exposure_time_requested() if self._first("EXPTIME") else -1.0 * u.s

    @cache_translation
    def to_dark_time(self) -> u.Quantity:
        elapsed, exposure = super().to_dark_time(), self.to_exposure_time()
        return elapsed if elapsed >= exposure else exposure

    @cache_translation
    def to_altaz_end(self) -> AltAz | None:
        return None if "AELEND" in self._header and "ELEND" not in self._header else super().to_altaz_end()

    @cache_translation
    def to_physical_filter(self) -> str:
        """Join filter and grating, both always named."""
        name, grating = self._text("unknown", "FILTER"), self._text("unknown", "GRATING")
        if _EMPTY.fullmatch(name):
            name = "empty"
        if not grating or grating.lower().startswith("empty"):
            grating = "empty"
        return f"{name}~{grating}"


def _repair_names(header: MutableMapping[str, Any], obs_id: str) -> None:
    """Tell which exposure it is by cards that the first headers lack."""
    parts = obs_id.split("_")
    if "OBSID" not in header:
        header["OBSID"] = header["IMGNAME"]
    if "DAYOBS" not in header:
        header["DAYOBS"] = parts[2] if len(parts[2]) == 8 else header["OBS-NITE"]
    if "SEQNUM" not in header:
        header["SEQNUM"] = int(parts[3])


def _repair_type(header: MutableMapping[str, Any], begin: float) -> None:
    """Tell the type of the observation, which was recorded as the group: bias, dark_0001_0002, FOCUS10."""
    group, kind = header.get("GROUPID"), header.get("IMGTYPE")
    if begin < _GROUP_IS_TYPE_UNTIL and group and not group.startswith("test"):
        if kind:
            if kind == group:
                header["GROUPID"] = None
        elif "_" in group:
            header["IMGTYPE"] = group.partition("_")[0]
        elif group.lower().startswith("focus") and len(group) > len("focus"):
            header["IMGTYPE"] = "FOCUS"
        else:
            header["IMGTYPE"], header["GROUPID"] = group, None
    if begin < _OBJECT_IS_TEST_UNTIL and header.get("IMGTYPE") == "OBJECT":
        header["IMGTYPE"] = "ENGTEST"


def _repair_pointing(header: MutableMapping[str, Any], begin: float) -> None:
    if begin < _START_IS_WRONG_UNTIL:
        header.update(dict.fromkeys(("RASTART", "DECSTART", "RAEND", "DECEND")))
    elif begin < _HOURS_UNTIL:
        for card in ("RASTART", "RAEND"):
            if header[card]:
                header[card] *= 15.0
    if _START_IS_WRONG_UNTIL < begin < _SLOW_CLOCK_UNTIL:
        for card in ("RASTART", "RAEND"):
            if header[card]:
                header[card] += _CLOCK
    if _HALF_A_TURN[0] < begin < _HALF_A_TURN[1]:
        header["ROTPA"] -= 180
    if header["OBSGEO-Z"] > 0:
        header["OBSGEO-Z"] *= -1
