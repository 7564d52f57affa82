"""Statistics by day and instrument.

The keys never expire, so a sender must not be able to create an unlimited number of them: only plausible days and known
instruments are counted.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta

from ..model.objects import ExposureObject, LfaObject

FIRST_DAY = date(2014, 1, 1)
"""Earlier days are not counted, as no camera of the observatory existed."""

AHEAD = timedelta(days=5 * 365)
"""How far a day may be in the future and still be counted, for simulated exposures."""

MAX_ANNEX_INSTRUMENTS = 100
"""Maximum number of instruments of the Large File Annex counted per bucket, as their names come from keys."""

_ANNEX_NAME = re.compile(r"[A-Za-z0-9_.:-]{1,64}(/[A-Za-z0-9_.:-]{1,64})?")
_YYYYMMDD = re.compile(r"[0-9]{8}")


def counted_as(obj: ExposureObject | LfaObject) -> tuple[str, str]:
    """Return instrument and day under which an object is counted.

    Instruments have the names that the replaced services use: the first component of the key.

    Returns
    -------
    instrument
        Empty if it is not counted by instrument.
    day
        ``YYYYMMDD``; empty if it is not counted at all.
    """
    instrument, day = obj.counted_as
    if not _is_plausible(day):
        return "", ""
    known = isinstance(obj, ExposureObject) or _ANNEX_NAME.fullmatch(instrument)
    return instrument if known else "", day


def _is_plausible(day: str) -> bool:
    if not _YYYYMMDD.fullmatch(day):
        return False
    try:
        found = date(int(day[:4]), int(day[4:6]), int(day[6:]))
    except ValueError:
        return False
    return FIRST_DAY <= found <= datetime.now(UTC).date() + AHEAD
