"""Reading single cards of a header, with errors that name the card, its value and the file.

A card is *defined* if it is there and has a value. Blank text is a value, and so is NaN.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime, timedelta

from ..errors import MetadataError

BEGIN = ("MJD-BEG", "DATE-BEG", "MJD-OBS", "DATE-OBS")
"""Cards that tell when an exposure began, the first that is defined counts; in TAI."""

LIBRARY = "HIERARCH ASTRO METADATA FIX"
"""Beginning of the cards that the metadata library adds to a header that it has repaired."""

REPAIRED = f"{LIBRARY} MODIFIED"
"""The card by which the metadata library marks a header that it has repaired."""

_MJD_EPOCH = datetime(1858, 11, 17)
_LARGEST = 10**18


def is_repaired(header: Mapping[str, object]) -> bool:
    """Tell whether a header was repaired before it was written, so that nothing is to be repaired again."""
    return REPAIRED in header or REPAIRED.removeprefix("HIERARCH ") in header


def defined(header: Mapping[str, object], card: str) -> str | int | float | None:
    """Return a card's value; None where the card is missing or undefined."""
    value = header.get(card)
    return value if isinstance(value, (str, int, float)) else None


def first(header: Mapping[str, object], *names: str) -> str | None:
    """Return the name of the first of these cards that is defined; None if none is."""
    return next((name for name in names if defined(header, name) is not None), None)


def unusable(header: Mapping[str, object], card: str, url: str | None, problem: str) -> MetadataError:
    """Return the error that says what is wrong with a card."""
    if card in header:
        return MetadataError(f"{card} = {header[card]!r} {problem} ({url})", card=card, value=header[card], path=url)
    return MetadataError(f"{card} is missing ({url})", card=card, value=None, path=url)


def text(header: Mapping[str, object], card: str, url: str | None) -> str:
    """Return a card that must hold text.

    Raises
    ------
    MetadataError
        If there is no such card, or it holds no text.
    """
    value = defined(header, card)
    if not isinstance(value, str):
        raise unusable(header, card, url, "is not text")
    return value


def as_text(header: Mapping[str, object], card: str, url: str | None) -> str:
    """Return a card that must be defined, a number as text.

    Raises
    ------
    MetadataError
        If the card is missing or undefined.
    """
    value = defined(header, card)
    if value is None:
        raise unusable(header, card, url, "is undefined")
    return str(value)


def number(header: Mapping[str, object], card: str, url: str | None) -> float:
    """Return a card that must hold a number, even if written as text; it may be NaN.

    Raises
    ------
    MetadataError
        If there is no such card, or it holds no number.
    """
    value = defined(header, card)
    if value is not None and not isinstance(value, bool):
        try:
            return float(value)
        except (ValueError, OverflowError):
            pass
    raise unusable(header, card, url, "is not a number")


def whole(value: object) -> int | None:
    """Return a whole number, also one written as a float (218.0) or as digits; None for anything else."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 18:
        return int(value)
    if isinstance(value, float) and value.is_integer() and abs(value) < _LARGEST:
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < _LARGEST:
        return value
    return None


def integer(header: Mapping[str, object], card: str, url: str | None) -> int:
    """Return a card that must hold a whole number, even if written as a float or as digits.

    Raises
    ------
    MetadataError
        If there is no such card, or it holds no whole number.
    """
    result = whole(defined(header, card))
    if result is None:
        raise unusable(header, card, url, "is not a whole number")
    return result


def mjd_of(moment: datetime) -> float:
    """Return the modified Julian date of a time, in its own scale."""
    return (moment - _MJD_EPOCH).total_seconds() / 86400


def moment_of(mjd: float) -> datetime:
    """Return the time of a modified Julian date, in its own scale."""
    return _MJD_EPOCH + timedelta(days=mjd)


def moment(header: Mapping[str, object], *names: str) -> float | None:
    """Return the time that the first of these cards that is defined tells, a date or a modified Julian date.

    Returns
    -------
    mjd
        In the scale of the card; None if none is defined, or the first makes no sense.
    """
    name = first(header, *names)
    value = None if name is None else defined(header, name)
    if isinstance(value, str) and name is not None and name.startswith("DATE"):
        try:
            return mjd_of(datetime.fromisoformat(value).replace(tzinfo=None))
        except ValueError:
            return None
    try:
        result = math.nan if value is None or isinstance(value, bool) else float(value)
    except (ValueError, OverflowError):
        return None
    return result if math.isfinite(result) else None
