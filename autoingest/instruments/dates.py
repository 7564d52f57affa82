"""Dates at which cameras and their headers changed."""

from __future__ import annotations

from datetime import datetime, timedelta

from . import cards

_TAI_MINUS_UTC = timedelta(seconds=37)
"""Since 2017; no date here is earlier."""

_FIRST, _END = cards.mjd_of(datetime(1970, 1, 1)), cards.mjd_of(datetime(2100, 1, 1))
"""The Butler knows times between these, as MJD."""


def is_storable(mjd: float) -> bool:
    """Tell whether the Butler can store a time, given as MJD (TAI)."""
    return _FIRST < mjd < _END


def utc(date: str) -> float:
    """Return the MJD (TAI) of a date in UTC, ISO 8601."""
    return cards.mjd_of(datetime.fromisoformat(date) + _TAI_MINUS_UTC)


def tai(date: str) -> float:
    """Return the MJD (TAI) of a date in TAI, ISO 8601."""
    return cards.mjd_of(datetime.fromisoformat(date))
