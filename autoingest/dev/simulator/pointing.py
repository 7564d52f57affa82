"""Where the simulated telescope points, and when."""

from __future__ import annotations

import math
from datetime import datetime, timedelta

from ...instruments import cards

TAI_MINUS_UTC = timedelta(seconds=37)
"""Since 2017 (IERS Bulletin C)."""

_LATITUDE = math.radians(-30.244639)
_LONGITUDE = -70.749417


def pointing(seq_num: int, begin: datetime, end: datetime) -> dict[str, object]:
    """Return pointing cards: a field within 20 degrees of the meridian, another one each sequence number, tracked.

    Coordinates of date stand for ICRS ones, from which they differ by a third of a degree. Sidereal time: Meeus,
    Astronomical Algorithms, 12.4 without the terms below an arcsecond.
    """
    hour_angle = (seq_num * 7 % 40 - 20) * 1.0
    dec = -20.0 - seq_num * 11 % 40
    ra = (_sidereal_time(begin) - hour_angle) % 360
    cards: dict[str, object] = {
        "RA": ra, "DEC": dec, "RASTART": ra, "DECSTART": dec, "RAEND": ra, "DECEND": dec,
        "ROTPA": seq_num * 53.5 % 360,
    }  # fmt: skip
    for name, time in (("START", begin), ("END", end)):
        angle = (_sidereal_time(time) - ra + 180) % 360 - 180
        azimuth, elevation = _horizontal(math.radians(angle), math.radians(dec))
        cards |= {
            f"HA{name}": angle / 15,
            f"AZ{name}": azimuth,
            f"EL{name}": elevation,
            f"AM{name}": 1 / math.sin(math.radians(elevation)),
        }
    return cards


def _sidereal_time(tai: datetime) -> float:
    days = mjd(tai - TAI_MINUS_UTC) - 51544.5
    return (280.46061837 + 360.98564736629 * days + _LONGITUDE) % 360


def _horizontal(hour_angle: float, dec: float) -> tuple[float, float]:
    """Azimuth from north through east and elevation, degrees, of an hour angle and declination in radians."""
    sin_el = math.sin(_LATITUDE) * math.sin(dec) + math.cos(_LATITUDE) * math.cos(dec) * math.cos(hour_angle)
    azimuth = math.atan2(
        -math.cos(dec) * math.sin(hour_angle),
        math.sin(dec) * math.cos(_LATITUDE) - math.cos(dec) * math.cos(hour_angle) * math.sin(_LATITUDE),
    )
    return math.degrees(azimuth) % 360, math.degrees(math.asin(sin_el))


def mjd(time: datetime) -> float:
    """Return the Modified Julian Date of a time, on its own scale."""
    return cards.mjd_of(time.replace(tzinfo=None))


def iso(time: datetime) -> str:
    """Return a time to the millisecond as headers have it."""
    return time.strftime("%Y-%m-%dT%H:%M:%S.") + f"{time.microsecond // 1000:03d}"
