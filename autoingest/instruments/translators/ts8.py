# ruff: noqa: D102  (the library says what each property means)
"""Header translation of LSST-TS8, the test stand in which single rafts were tried: no telescope, no sky."""

from __future__ import annotations

import re
from collections.abc import Mapping, MutableMapping
from datetime import timedelta
from typing import Any

import astropy.units as u
from astro_metadata_translator import cache_translation
from astropy.time import Time, TimeDelta

from .. import cards, identity
from ..camera import Detector
from ..dates import is_storable, tai
from .base import HeaderTranslator

_NAME = "LSST-TS8"
_STAND = "TS8"
_DAY_BEGINS = 8
"""Hours after midnight TAI at which the stand's observing day begins."""

_COUNTED_AFTER = tai("2023-05-24T23:00")
"""Until then exposure ids were made of the time."""

_DATE_OBS = "HIERARCH LSST-TS8 DATE-OBS"
"""The card in which repaired headers keep the DATE-OBS that they had."""

_RAFT = re.compile(r"RTM-\d{3}")
_FILTERS = {2: "g", 3: "r", 4: "i", 5: "z", 6: "y"}
"""Filter by its position in the wheel, as older headers tell it."""

_CONTROLLERS = frozenset(
    {
        "000018910e0c", "000018ee33b7", "000018ee0f35", "000018ee3b40", "00001891fcc7", "000018edfd65",
        "0000123b5ba8", "000018911b05", "00001891fa3e", "000018910d7f", "000018ed9f12", "000018edf4a7",
        "000018ee34e6", "000018ef1464", "000018eda120", "000018edf8a2", "000018ef3819", "000018ed9486",
        "000018ee02c8", "000018edfb24", "000018ee34c0", "000018edfb51", "0000123b51d1", "0000123b5862",
        "0000123b8ca9", "0000189208fa", "0000189111af", "0000189126e1", "000018ee0618", "000018ee3b78",
        "000018ef1534",
    }
)  # fmt: skip
"""Serial numbers, CONTNUM, of the electronics that were on the stand before headers named it."""


class Ts8Translator(HeaderTranslator, instrument=_NAME):
    """Translates the headers of LSST-TS8."""

    identity_needs_repairs = True

    _const_map: dict[str, Any] = {  # noqa: RUF012
        **dict.fromkeys(("telescope", "location", "boresight_rotation_coord", "boresight_rotation_angle",
                         "boresight_airmass", "tracking_radec", "altaz_begin", "relative_humidity", "temperature",
                         "pressure")),
        "object": "UNKNOWN",
        "can_see_sky": False,
        "focus_z": 0.0 * u.mm,
    }  # fmt: skip

    @classmethod
    def accepts(cls, header: Mapping[str, object]) -> bool:
        """Tell whether a header is the stand's: it names the stand, or the first ones its electronics."""
        if "TSTAND" in header:
            return header["TSTAND"] == _STAND
        return "LSST_NUM" in header and "REBNAME" in header and header.get("CONTNUM") in _CONTROLLERS

    @classmethod
    def read_obs_id(cls, header: Mapping[str, object], url: str | None) -> str:
        """Return the observation's name; in older headers only the file's name tells it."""
        if cards.defined(header, "OBSID") is not None:
            return cards.as_text(header, "OBSID", url)
        name = cards.text(header, "FILENAME", url)
        return name.rpartition(".")[0] or name

    @classmethod
    def read_day_obs(cls, header: Mapping[str, object], url: str | None) -> int:
        """Return the observing day, in older headers that of the time at which the exposure began."""
        if cards.defined(header, "DAYOBS") is not None:
            return identity.day_obs(header, url)
        day = cards.moment_of(_begin(header, url)) - timedelta(hours=_DAY_BEGINS)
        return int(f"{day:%Y%m%d}")

    @classmethod
    def read_exposure_id(cls, header: Mapping[str, object], url: str | None) -> int:
        """Return the exposure id: as other cameras have it, before 2023-05-24 the digits of DATE-OBS.

        These are the time to a tenth of a second.
        """
        if _begin(header, url) > _COUNTED_AFTER and cls.read_obs_id(header, url).startswith("TS_C_"):
            return identity.exposure_id(header, url)
        kept = (_DATE_OBS, _DATE_OBS.removeprefix("HIERARCH "))
        card = next((card for card in kept if card in header), "DATE-OBS")
        digits = re.sub(r"[^0-9]", "", cards.text(header, card, url)[:21])
        if not digits:
            raise cards.unusable(header, card, url, "is not a time")
        return int(digits)

    @classmethod
    def read_detector(cls, header: Mapping[str, object], url: str | None) -> int:
        """Return the number of the sensor in its raft."""
        return _detector(header, url).id

    @classmethod
    def repair(cls, header: MutableMapping[str, Any]) -> None:
        """Repair the begin where DATE-OBS is the end: the time at which the readout was triggered."""
        end = header.get("DATE-OBS")
        if end is None or end != header.get("DATE-TRG"):
            return
        if "DATE-END" not in header:
            header["DATE-END"] = end
            header["MJD-END"] = header["MJD-OBS"]
        scale = header["TIMESYS"].lower() if header.get("TIMESYS") is not None else "utc"
        if header.get("MJD-OBS") is not None:
            read_out = Time(header["MJD-OBS"], format="mjd", scale=scale)
        else:
            read_out = Time(end, format="isot", scale=scale)
        begin = read_out - cards.number(header, "EXPTIME", None) * u.s
        header["MJD-OBS"] = header["MJD-BEG"] = float(begin.mjd)
        header["DATE-OBS"] = header["DATE-BEG"] = begin.isot
        header[_DATE_OBS] = end

    @classmethod
    def observing_date_to_offset(cls, observing_date: Time) -> TimeDelta:
        """Return the hours after midnight at which an observing day begins."""
        return TimeDelta(_DAY_BEGINS * 3600, format="sec", scale="tai")

    @cache_translation
    def to_science_program(self) -> str | None:  # type: ignore[override]
        return self._text("", "RUNNUM") if self._first("RUNNUM") else None

    @cache_translation
    def to_visit_id(self) -> int:
        return self.to_exposure_id()

    @cache_translation
    def to_detector_serial(self) -> str:
        return _serial(self._header, self.filename)

    @cache_translation
    def to_detector_group(self) -> str:
        return str(_detector(self._header, self.filename).raft)

    @cache_translation
    def to_detector_name(self) -> str:
        return str(_detector(self._header, self.filename).name_in_raft)

    @cache_translation
    def to_detector_exposure_id(self) -> int:
        return self.to_exposure_id() * self.camera.detector_max + self.to_detector_num()

    @cache_translation
    def to_physical_filter(self) -> str:
        if "FILTPOS" in self._header:
            return _FILTERS.get(self._header["FILTPOS"], "unknown")
        joined = super().to_physical_filter()
        return "unknown" if "unspecified" in joined else joined


def _begin(header: Mapping[str, object], url: str | None) -> float:
    """Return the MJD (TAI) at which an exposure began."""
    begin = cards.moment(header, *cards.BEGIN)
    if begin is None or not is_storable(begin):
        card = cards.first(header, *cards.BEGIN) or "MJD-BEG"
        raise cards.unusable(header, card, url, "is not a start time from 1970 to 2099")
    return begin


def _serial(header: Mapping[str, object], url: str | None) -> str:
    """Return the sensor's serial number; prototypes were marked inconsistently."""
    return cards.text(header, "LSST_NUM", url).removesuffix("-Dev")


def _detector(header: Mapping[str, object], url: str | None) -> Detector:
    """Return the detector: the raft that RAFTNAME tells, and there the place of the sensor."""
    camera = Ts8Translator.camera
    raft = _RAFT.search(cards.text(header, "RAFTNAME", url))
    if raft is None:
        raise cards.unusable(header, "RAFTNAME", url, "names no raft RTM-nnn")
    sensor = camera.by_serial.get(_serial(header, url))
    if sensor is None:
        raise cards.unusable(header, "LSST_NUM", url, f"is no sensor of {_NAME}")
    number = camera.detector_ids.get(f"{raft[0]}_{sensor.name_in_raft}")
    if number is None:
        raise cards.unusable(header, "RAFTNAME", url, f"is no raft of {_NAME}")
    return camera.detectors[number]
