"""Reading single cards of a header, with errors that name the card, its value and the file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime

from ..errors import MetadataError

BEGIN = ("MJD-BEG", "DATE-BEG", "MJD-OBS", "DATE-OBS")
"""Cards that tell when an exposure began, the first that is defined counts; in TAI."""

REPAIRED = "HIERARCH ASTRO METADATA FIX"
"""Begin of the cards that the metadata library adds to a header that it has repaired."""

_REPAIRED = (f"{REPAIRED} MODIFIED", f"{REPAIRED.removeprefix('HIERARCH ')} MODIFIED")
_EPOCH = datetime(1858, 11, 17)


def is_repaired(header: Mapping[str, object]) -> bool:
    """Tell whether a header was repaired before it was written, so that nothing is to be repaired again."""
    return _REPAIRED[0] in header or _REPAIRED[1] in header


def defined(header: Mapping[str, object], card: str) -> str | int | float | None:
    """Return a card's value, None where the card is missing, undefined, blank or not a number."""
    value = header.get(card)
    if isinstance(value, str):
        return value.strip() or None
    if isinstance(value, float) and math.isnan(value):
        return None
    return value if isinstance(value, (int, float)) else None


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


def number(header: Mapping[str, object], card: str, url: str | None) -> float:
    """Return a card that must hold a finite number, be it written as text.

    Raises
    ------
    MetadataError
        If there is no such card, or it holds no finite number.
    """
    value = defined(header, card)
    if value is not None and not isinstance(value, bool):
        try:
            result = float(value)
        except (ValueError, OverflowError):
            result = math.nan
        if math.isfinite(result):
            return result
    raise unusable(header, card, url, "is not a number")


def integer(header: Mapping[str, object], card: str, url: str | None) -> int:
    """Return a card that must hold a whole number, be it written as digits.

    Raises
    ------
    MetadataError
        If there is no such card, or it holds no whole number.
    """
    value = defined(header, card)
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 18:
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise unusable(header, card, url, "is not a whole number")


def moment(header: Mapping[str, object], *names: str) -> float | None:
    """Return the time that the first of these cards that is defined tells, a date or a modified Julian date.

    Returns
    -------
    mjd
        In the scale of the card; None if none is defined, or the first makes no sense.
    """
    value = next((value for name in names if (value := defined(header, name)) is not None), None)
    if isinstance(value, str):
        try:
            return (datetime.fromisoformat(value).replace(tzinfo=None) - _EPOCH).total_seconds() / 86400
        except ValueError:
            return None
    return None if value is None or isinstance(value, bool) else float(value)
