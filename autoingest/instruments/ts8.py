# ruff: noqa: D102  (the library says what each property means)
"""Header translation of LSST-TS8, the test stand in which single rafts were tried: no telescope, no sky."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from fractions import Fraction
from typing import Any

import astropy.units as u
from astro_metadata_translator import cache_translation
from astropy.time import Time, TimeDelta

from ..errors import MetadataError
from ..objects import CAMERA_CODES, INSTRUMENT_ALIASES
from . import cards, identity
from .base import Detector
from .header import HeaderTranslator

_NAME = "LSST-TS8"
_STAND = "TS8"
_DAY_BEGINS = 8
"""Hours after midnight UTC at which the stand's observing day begins."""

_COUNTED_SINCE = (20230524, 906)
"""Day and sequence number of the first exposure whose id comes from them; before, ids were made of the time."""

_DATE_OBS = "HIERARCH LSST-TS8 DATE-OBS"
"""The card in which repaired headers keep the DATE-OBS that they had."""

_OBS_ID = re.compile(r"TS_[A-Z]_(\d{8})_(\d+)")
_FILE = re.compile(rf"({_OBS_ID.pattern})_R\d\d_S\d\d\.")
_RAFT = re.compile(r"RTM-\d{3}")
_FILTERS = {2: "g", 3: "r", 4: "i", 5: "z", 6: "y"}
"""Filter by its position in the wheel, as older headers tell it."""


class Ts8Translator(HeaderTranslator, instrument=_NAME):
    """Translates the headers of LSST-TS8."""

    _const_map: dict[str, Any] = {  # noqa: RUF012
        **dict.fromkeys(("telescope", "location", "boresight_rotation_coord", "boresight_rotation_angle",
                         "boresight_airmass", "tracking_radec", "altaz_begin", "relative_humidity", "temperature",
                         "pressure")),
        "object": "UNKNOWN",
        "can_see_sky": False,
        "focus_z": 0.0 * u.mm,
    }  # fmt: skip

    @classmethod
    def recognises(cls, header: Mapping[str, object], url: str | None) -> bool:
        """Tell whether a header without INSTRUME is the test stand's.

        By the stand's name; or by one of its rafts, for the first files are named after their sensor; or by the
        file's place.
        """
        obs_id = cards.defined(header, "OBSID")
        if cards.defined(header, "INSTRUME") is not None or not (obs_id is None or str(obs_id).startswith("TS_")):
            return False
        folder = _folder(url)
        stand = cards.defined(header, "TSTAND")
        if stand is not None or folder is not None:
            return stand in (None, _STAND) and folder in (None, _NAME)
        serial = str(cards.defined(header, "LSST_NUM"))
        try:
            return obs_id is None and cls.read_obs_id(header, url).startswith(serial) and bool(_detector(header, url))
        except MetadataError:
            return False

    @classmethod
    def read_obs_id(cls, header: Mapping[str, object], url: str | None) -> str:
        """Return the observation's name; in older headers only the file's name tells it."""
        if cards.defined(header, "OBSID") is not None:
            obs_id = cards.text(header, "OBSID", url)
            if not _OBS_ID.fullmatch(obs_id):
                raise cards.unusable(header, "OBSID", url, "is not of the form TS_C_yyyymmdd_number")
            return obs_id
        name = cards.text(header, "FILENAME", url)
        match = _FILE.match(name)
        obs_id = match[1] if match else name.rpartition(".")[0]
        if not obs_id:
            raise cards.unusable(header, "FILENAME", url, "names no observation")
        return obs_id

    @classmethod
    def read_day_obs(cls, header: Mapping[str, object], url: str | None) -> int:
        """Return the observing day, in older headers that of the time at which the exposure began."""
        if cards.defined(header, "DAYOBS") is not None:
            return identity.day_obs(header, url)
        begin = cards.moment(header, *cards.BEGIN)
        if begin is None or not 40587 < begin < 70171:  # 1970 to 2050
            raise cards.unusable(header, "MJD-OBS", url, "tells no day")
        day = datetime(1858, 11, 17) + timedelta(days=begin, hours=-_DAY_BEGINS)
        return int(f"{day:%Y%m%d}")

    @classmethod
    def read_exposure_id(cls, header: Mapping[str, object], url: str | None) -> int:
        """Return the exposure id: from day and number as other cameras have it, before 2023-05-24 from DATE-OBS.

        Then it is the time to a tenth of a second.
        """
        obs_id = cls.read_obs_id(header, url)
        match = _OBS_ID.fullmatch(obs_id)
        if match and (int(match[1]), int(match[2])) >= _COUNTED_SINCE:
            return identity.exposure_id({**header, "OBSID": obs_id}, url)
        card = _DATE_OBS if _DATE_OBS in header else "DATE-OBS"
        digits = re.sub(r"\D", "", cards.text(header, card, url)[:21])
        if len(digits) != 15 or cards.moment(header, card) is None:
            raise cards.unusable(header, card, url, "is not a time to a tenth of a second")
        return int(digits)

    @classmethod
    def read_detector(cls, header: Mapping[str, object], url: str | None) -> int:
        """Return the number of the sensor in its raft."""
        return _detector(header, url).id

    @classmethod
    def identity_repairs(cls, header: Mapping[str, object]) -> dict[str, object]:
        """Return the same as `repairs`, if the day depends on it."""
        return {} if cards.defined(header, "DAYOBS") is not None else cls.repairs(header)

    @classmethod
    def repairs(cls, header: Mapping[str, object]) -> dict[str, object]:
        """Return the times of begin and end, where DATE-OBS is the end: the time at which the readout was triggered."""
        end, exposure = cards.defined(header, "DATE-OBS"), cards.defined(header, "EXPTIME")
        if end is None or end != cards.defined(header, "DATE-TRG") or not isinstance(exposure, (int, float)):
            return {}
        mjd = cards.moment(header, "MJD-OBS", "DATE-OBS")
        if mjd is None:
            return {}
        begin = float(Fraction(mjd) - Fraction(exposure) / 86400)
        ending = {} if "DATE-END" in header else {"DATE-END": end, "MJD-END": mjd}
        return {"MJD-OBS": begin, "MJD-BEG": begin, _DATE_OBS: end, **ending}

    @classmethod
    def observing_date_to_offset(cls, observing_date: Time) -> TimeDelta:
        """Return the hours after midnight at which an observing day begins."""
        return TimeDelta(_DAY_BEGINS * 3600, format="sec", scale="tai")

    @cache_translation
    def to_science_program(self) -> str:
        if not self._first("RUNNUM"):
            raise cards.unusable(self._cards, "RUNNUM", self.filename, "names no run")
        return self._text("", "RUNNUM")

    @cache_translation
    def to_visit_id(self) -> int:
        return self.to_exposure_id()

    @cache_translation
    def to_detector_serial(self) -> str:
        return _serial(self._cards, self.filename)

    @cache_translation
    def to_detector_group(self) -> str:
        return str(_detector(self._cards, self.filename).raft)

    @cache_translation
    def to_detector_name(self) -> str:
        return str(_detector(self._cards, self.filename).name_in_raft)

    @cache_translation
    def to_detector_exposure_id(self) -> int:
        return self.to_exposure_id() * self.camera.detector_max + self.to_detector_num()

    @cache_translation
    def to_physical_filter(self) -> str:
        if self._first("FILTPOS"):
            return _FILTERS.get(int(self._number("FILTPOS")), "unknown")
        joined = super().to_physical_filter()
        return "unknown" if "unspecified" in joined else joined


def _folder(url: str | None) -> str | None:
    """Return the camera in whose folder a file lies; None where it lies in no folder of an exposure."""
    parts = (url or "").split("/")
    name = INSTRUMENT_ALIASES.get(parts[-4], parts[-4]) if len(parts) > 4 else ""
    return name if name in CAMERA_CODES else None


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
