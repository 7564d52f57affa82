# ruff: noqa: D102  (the library says what each property means)
"""Header translation that the cameras of the Simonyi Survey Telescope share: where they were when."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, ClassVar

import astropy.units as u
from astro_metadata_translator import cache_translation
from astropy.time import Time, TimeDelta

from .rubin import RubinTranslator

TELESCOPES = ("Simonyi Survey Telescope", "LSST")
"""Values of TELESCOP."""


class SimonyiTranslator(RubinTranslator):
    """Translates the headers of a camera that came from California to Chile, and there onto the telescope."""

    on_telescope_after: ClassVar[float]
    """MJD (TAI): after that the camera is on the telescope."""
    in_chile_since: ClassVar[float]
    """MJD (TAI): from then on its days begin at noon UTC-12, before at midnight in California."""

    _const_map: dict[str, Any] = {"telescope": "Simonyi Survey Telescope"}  # noqa: RUF012
    _trivial_map: dict[str, str | list[str] | tuple[Any, ...]] = {  # noqa: RUF012
        "detector_group": "RAFTBAY",
        "detector_name": "CCDSLOT",
        "detector_serial": "LSST_NUM",
    }

    @classmethod
    def observing_date_to_offset(cls, observing_date: Time) -> TimeDelta:
        """Return the hours after midnight at which an observing day begins: California's offset until it moved."""
        if observing_date.tai.mjd >= cls.in_chile_since:
            return super().observing_date_to_offset(observing_date)
        hours = 7 if _is_summer_in_california(observing_date.utc.to_datetime()) else 8
        return TimeDelta(hours * 3600, format="sec", scale="tai")

    def _is_installed(self) -> bool:
        return self._header.get("CONTRLLR") == "H" or self.to_datetime_begin().tai.mjd > self.on_telescope_after

    @cache_translation
    def to_exposure_time(self) -> u.Quantity:
        """Return how long the shutter was open; as long as requested where it never was, as in a dark."""
        open_for = self._optional("SHUTTIME") or 0.0
        return open_for * u.s if open_for > 0 else self.to_exposure_time_requested()

    @cache_translation
    def to_physical_filter(self) -> str:
        """Join what lies in the beam, leaving out empty slots at the end."""
        joined = super().to_physical_filter()
        while joined.endswith("~empty"):
            joined = joined.removesuffix("~empty")
        return joined

    @cache_translation
    def to_can_see_sky(self) -> bool | None:
        return super().to_can_see_sky() if self._is_installed() else False

    def _sees_sky_by_type(self) -> bool | None:
        return super()._sees_sky_by_type() if self._header.get("CONTRLLR") == "H" else None


def _is_summer_in_california(time: datetime) -> bool:
    """Tell whether daylight saving time holds at a time in UTC: second Sunday of March to first of November, 2 h."""
    march, november = datetime(time.year, 3, 8, 10), datetime(time.year, 11, 1, 9)
    return march + timedelta(6 - march.weekday()) <= time < november + timedelta(6 - november.weekday())
