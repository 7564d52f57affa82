# ruff: noqa: D102  (the library says what each property means)
"""Header translation that the cameras of the Rubin Observatory share: where the telescope pointed."""

from __future__ import annotations

from functools import cache
from typing import ClassVar

import astropy.units as u
from astro_metadata_translator import cache_translation
from astropy.coordinates import ICRS, AltAz, Angle, EarthLocation, SkyCoord
from astropy.utils import iers

from ..errors import MetadataError
from . import cards
from .header import HeaderTranslator

_DARK_TYPES = ("bias", "dark", "flat")
"""Types of observation that don't look at the sky."""

_FRAMES = ("icrs", "fk5", "fk4")

_ALTITUDES = (-5.55, 90.0)
"""Degrees to which altitudes are clipped: the telescope leans that low; the coordinates end at the zenith."""


class RubinTranslator(HeaderTranslator):
    """Translates the headers that the observatory's camera control and header service write."""

    site: ClassVar[tuple[float, float, float]] = (-70.749417, -30.244639, 2663.0)
    """Longitude and latitude in degrees, height in metres, where the header doesn't tell them: Simonyi's."""
    tracking_systems: ClassVar[tuple[str, ...]] = ("RADEC",)
    """Values of TRACKSYS where the telescope follows the sky."""
    unknown_rotation: ClassVar[float] = 0.0
    """Degrees, where the header doesn't tell."""

    def _is_installed(self) -> bool:
        """Tell whether the camera was on its telescope (or simulated to be)."""
        raise NotImplementedError

    def _is_on_sky(self) -> bool:
        tracking = self._text("", "TRACKSYS").lower()
        return self._is_installed() and tracking != "local" and self.to_observation_type() not in _DARK_TYPES

    def _need(self, *names: str) -> None:
        """Raise if an observation that can't do without these cards lacks them."""
        if self.to_observation_type() == "science" and self._is_installed():
            missing = next(name for name in names if cards.defined(self._cards, name) is None)
            raise cards.unusable(self._cards, missing, self.filename, "is needed by a science observation")

    @cache_translation
    def to_location(self) -> EarthLocation | None:
        if not self._is_installed():
            return None
        position = [self._optional(f"OBSGEO-{axis}") for axis in "XYZ"]
        return _geodetic(*self.site) if None in position else EarthLocation.from_geocentric(*position, unit=u.m)

    @cache_translation
    def to_tracking_radec(self) -> SkyCoord | None:
        """Return the boresight where the telescope follows the sky, which it may do in darks too.

        The header service computed RA and DEC for the time at which an exposure began. Where that time is a stand-in,
        the time at which the file was written, they mean nothing; azimuth and altitude are as measured.
        """
        if self.to_observation_type() in ("bias", "flat"):
            return None
        if self.is_key_ok("TRACKSYS") and self._text("", "TRACKSYS") not in self.tracking_systems:
            return None
        try:
            if self._first("DATE-OBS") and self._text("", "DATE-OBS") == self._text("", "DATE"):
                return self._boresight_measured()
            return self._boresight()
        except MetadataError:
            if self._is_on_sky():
                raise
            return None

    def _boresight_measured(self) -> SkyCoord | None:
        altaz = self.to_altaz_begin()
        if altaz is None:
            if self._is_on_sky():
                raise cards.unusable(self._cards, "AZSTART", self.filename, "tells no pointing")
            return None
        with iers.conf.set_temp("auto_download", False):
            return SkyCoord(altaz.transform_to(ICRS()))

    def _boresight(self) -> SkyCoord | None:
        system = self._text("ICRS", "RADESYS").lower()
        if system == "gappt":
            return None
        if system not in _FRAMES:
            raise cards.unusable(self._cards, "RADESYS", self.filename, f"is none of {', '.join(_FRAMES)}")
        for names in (("RASTART", "DECSTART"), ("RA", "DEC")):
            if all(self._first(name) for name in names):
                ra, dec = self._number(names[0]), self._number(names[1])
                if not -90 <= dec <= 90:
                    raise cards.unusable(self._cards, names[1], self.filename, "is no declination")
                return SkyCoord(ra * u.deg, dec * u.deg, frame=system).icrs
        self._need("RASTART", "DECSTART")
        return None

    @cache_translation
    def to_altaz_begin(self) -> AltAz | None:
        if not self._is_installed():
            return None
        names = ("ELSTART", "AZSTART")
        if not all(self._first(name) for name in names):
            if self._controller() != "H":
                self._need(*names)
            return None
        altitude, azimuth = (self._number(name) for name in names)
        if azimuth < -360 or altitude < -90:
            if self.to_observation_type() == "science":
                raise cards.unusable(self._cards, "AZSTART", self.filename, f"is no azimuth at altitude {altitude}")
            return None
        altitude = min(max(altitude, _ALTITUDES[0]), _ALTITUDES[1])
        return AltAz(azimuth * u.deg, altitude * u.deg, obstime=self.to_datetime_begin(), location=self.to_location())

    @cache_translation
    def to_boresight_rotation_angle(self) -> Angle:
        name = self._first("ROTPA", "ROTANGLE")
        if name is None:
            self._need("ROTPA")
        return Angle((self._number(name) if name else self.unknown_rotation) * u.deg)

    @cache_translation
    def to_boresight_rotation_coord(self) -> str:
        return self._text("unknown", "ROTCOORD") if self._is_on_sky() else "unknown"

    @cache_translation
    def to_boresight_airmass(self) -> float | None:
        return self._optional("AMSTART") if self._is_on_sky() else None

    @cache_translation
    def to_can_see_sky(self) -> bool | None:
        """Tell whether the sky was seen: the shutter opened and the dome wasn't in the way.

        None if neither those cards nor the type of observation tell.
        """
        if self._optional("SHUTTIME") == 0:
            return False
        if self._first("VIGN_MIN"):
            return self._text("", "VIGN_MIN") != "FULLY"
        kind = self.to_observation_type()
        return False if kind in _DARK_TYPES else True if kind == "science" else None

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
