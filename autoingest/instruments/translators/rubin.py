# ruff: noqa: D102  (the library says what each property means)
"""Header translation that the cameras of the Rubin Observatory share: where the telescope pointed."""

from __future__ import annotations

import math
from functools import cache
from typing import ClassVar

import astropy.units as u
from astro_metadata_translator import cache_translation
from astropy.coordinates import ICRS, AltAz, Angle, EarthLocation, SkyCoord
from astropy.utils import iers

from .. import cards
from .base import HeaderTranslator

DARK_TYPES = ("bias", "dark", "flat")
"""Types of observation that don't look at the sky."""

_ALTITUDES = (-5.55, 90.0)
"""Degrees to which altitudes are clipped: the telescope leans that low; the coordinates end at the zenith."""


class RubinTranslator(HeaderTranslator):
    """Translates the headers that the observatory's camera control and header service write."""

    site: ClassVar[tuple[float, float, float]] = (-70.749417, -30.244639, 2663.0)
    """Longitude and latitude in degrees, height in metres, where the header doesn't tell them: Simonyi's."""
    unknown_rotation: ClassVar[float] = 0.0
    """Degrees, where the header doesn't tell."""

    def _is_installed(self) -> bool:
        """Tell whether the camera was on its telescope (or simulated to be)."""
        return "TSTAND" not in self._header

    def _is_on_sky(self) -> bool:
        tracking = self._text("", "TRACKSYS").lower()
        return tracking != "local" and self.to_observation_type() not in DARK_TYPES and self._is_installed()

    def _need(self, *names: str) -> None:
        """Raise if this is a science observation: it can't do without these cards."""
        if self.to_observation_type() == "science":
            missing = next((name for name in names if cards.defined(self._header, name) is None), names[0])
            raise cards.unusable(self._header, missing, self.filename, "is needed by a science observation")

    @cache_translation
    def to_location(self) -> EarthLocation | None:
        if not self._is_installed():
            return None
        position = [self._optional(f"OBSGEO-{axis}") for axis in "XYZ"]
        return _geodetic(*self.site) if None in position else EarthLocation.from_geocentric(*position, unit=u.m)

    # Boresight

    @cache_translation
    def to_tracking_radec(self) -> SkyCoord | None:
        """Return the boresight where the telescope follows the sky, which it may do in darks too.

        The header service computed RA and DEC for the time at which an exposure began. Where that time is a stand-in,
        the time at which the file was written, they mean nothing; azimuth and altitude are as measured.
        """
        if self.to_observation_type() in ("bias", "flat"):
            return None
        if self._text("RADEC", "TRACKSYS") != "RADEC":
            return None
        try:
            if "DATE" not in self._header:
                raise cards.unusable(self._header, "DATE", self.filename, "")
            if self._header["DATE"] == self._header.get("DATE-OBS"):
                return self._boresight_measured()
            return self._boresight()
        except Exception:
            if self._is_on_sky():
                raise
            return None

    def _boresight_measured(self) -> SkyCoord:
        altaz = self.to_altaz_begin()
        if altaz is None:
            raise cards.unusable(self._header, "AZSTART", self.filename, "tells no pointing")
        with iers.conf.set_temp("auto_download", False):
            return SkyCoord(altaz.transform_to(ICRS()), obstime=altaz.obstime, location=altaz.location)

    def _boresight(self) -> SkyCoord | None:
        frame = self._text("icrs", "RADESYS").strip().lower()
        if frame == "gappt":
            return None
        for names in (("RASTART", "DECSTART"), ("RA", "DEC")):
            if all(self._first(name) for name in names):
                degrees = [self._number(name) for name in names]
                when, where = self.to_datetime_begin(), self.to_location()
                try:
                    return SkyCoord(*degrees, unit=u.deg, frame=frame, obstime=when, location=where)
                except (ValueError, TypeError) as err:
                    reason = str(err).partition("\n")[0]
                    raise cards.unusable(
                        self._header, names[1], self.filename, f"is no pointing in frame {frame!r}: {reason}"
                    ) from None
        self._need("RASTART", "DECSTART")
        return None

    @cache_translation
    def to_altaz_begin(self) -> AltAz | None:
        return self._altaz("ELSTART", "AZSTART")

    @cache_translation
    def to_altaz_end(self) -> AltAz | None:
        return self._altaz("ELEND", "AZEND")

    def _altaz(self, *names: str) -> AltAz | None:
        """Return where the telescope pointed, altitude clipped to what it reaches."""
        if not self._is_installed():
            return None
        if all(self._first(name) for name in names):
            altitude, azimuth = (self._number(name) for name in names)
            if not (azimuth < -360 or altitude < -90):
                if not math.isnan(altitude):
                    altitude = min(max(altitude, _ALTITUDES[0]), _ALTITUDES[1])
                when, where = self.to_datetime_begin(), self.to_location()
                return AltAz(azimuth * u.deg, altitude * u.deg, obstime=when, location=where)
        elif self._header.get("CONTRLLR") == "H":
            return None
        self._need(*names)
        return None

    # Rotation

    @cache_translation
    def to_boresight_rotation_angle(self) -> Angle:
        name = self._first("ROTPA", "ROTANGLE")
        if name is None and self._is_installed():
            self._need("ROTPA")
        degrees = math.nan if name is None else self._number(name)
        return Angle((self.unknown_rotation if math.isnan(degrees) else degrees) * u.deg)

    @cache_translation
    def to_boresight_rotation_coord(self) -> str:
        return self._text("unknown", "ROTCOORD") if self._is_on_sky() else "unknown"

    # Sky and air

    @cache_translation
    def to_boresight_airmass(self) -> float | None:
        if not self._is_on_sky():
            return None
        if self._first("AMSTART"):
            return self._number("AMSTART")
        altaz = self.to_altaz_begin()
        return 1.0 if altaz is None else float(altaz.secz.to_value())

    @cache_translation
    def to_can_see_sky(self) -> bool | None:
        """Tell whether the sky was seen: the shutter opened and the dome wasn't in the way.

        None if neither those cards nor the type of observation tell.
        """
        if self._first("SHUTTIME") and self._header["SHUTTIME"] == 0:
            return False
        if self._first("VIGN_MIN"):
            return {"FULLY": False, "UNKNOWN": None}.get(str(self._header["VIGN_MIN"]), True)
        return self._sees_sky_by_type()

    def _sees_sky_by_type(self) -> bool | None:
        kind = self.to_observation_type().lower()
        return False if kind in DARK_TYPES else True if kind in ("science", "object") else None

    @cache_translation
    def to_focus_z(self) -> u.Quantity:
        return (self._optional("FOCUSZ") or 0.0) * u.mm

    @cache_translation
    def to_temperature(self) -> u.Quantity | None:
        value = self._optional("AIRTEMP")
        return None if value is None else value * u.deg_C

    @cache_translation
    def to_pressure(self) -> u.Quantity | None:
        """Return the pressure; the card was in hectopascals once, in pascals later."""
        value = self._optional("PRESSURE")
        return None if value is None else value * (u.Pa if value > 10_000 else u.hPa)

    @cache_translation
    def to_relative_humidity(self) -> float | None:  # type: ignore[override]
        return self._optional("HUMIDITY")


@cache
def _geodetic(longitude: float, latitude: float, height: float) -> EarthLocation:
    return EarthLocation.from_geodetic(longitude, latitude, height)
