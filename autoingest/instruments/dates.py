"""Dates at which cameras and their headers changed."""

from __future__ import annotations

from datetime import datetime, timedelta

from . import cards

_TAI_MINUS_UTC = timedelta(seconds=37)
"""Since 2017; no date here is earlier."""


def utc(date: str) -> float:
    """Return the MJD (TAI) of a date in UTC, ISO 8601."""
    return cards.mjd_of(datetime.fromisoformat(date) + _TAI_MINUS_UTC)


def tai(date: str) -> float:
    """Return the MJD (TAI) of a date in TAI, ISO 8601."""
    return cards.mjd_of(datetime.fromisoformat(date))
