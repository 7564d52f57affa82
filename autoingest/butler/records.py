"""The rows of an exposure in the Butler's dimension tables."""

from __future__ import annotations

from datetime import date
from typing import Any

from astropy.time import Time, TimeDelta
from lsst.daf.butler import Timespan

from ..errors import MetadataError
from ..instruments import ExposureRecord

_PLAIN = (
    "instrument", "id", "obs_id", "day_obs", "group", "physical_filter", "exposure_time", "dark_time",
    "observation_type", "observation_reason", "seq_num", "seq_start", "seq_end", "target_name", "science_program",
    "tracking_ra", "tracking_dec", "sky_angle", "azimuth", "zenith_angle", "has_simulated", "can_see_sky",
)  # fmt: skip
"""Fields that are stored as they were translated."""


def rows(record: ExposureRecord) -> dict[str, dict[str, Any]]:
    """Return the rows to insert for an exposure, by dimension, each after those it refers to.

    Raises
    ------
    MetadataError
        If its observing day is not in the calendar.
    """
    instrument = record.instrument
    return {
        "group": {"instrument": instrument, "name": record.group},
        "day_obs": {"instrument": instrument, "id": record.day_obs, "timespan": _day_span(record)},
        "exposure": {name: getattr(record, name) for name in _PLAIN} | {"timespan": Timespan(record.begin, record.end)},
    }


def _day_span(record: ExposureRecord) -> Timespan | None:
    try:
        day = date(record.day_obs // 10000, record.day_obs // 100 % 100, record.day_obs % 100)
        if record.day_obs_offset is None:
            return None
        begin = Time(day.isoformat(), scale="tai") + TimeDelta(record.day_obs_offset, format="sec", scale="tai")
        return Timespan(begin, begin + TimeDelta(1, format="jd", scale="tai"))
    except ValueError:
        raise MetadataError(
            f"DAYOBS = {record.day_obs} is not a day from 1970 to 2099", card="DAYOBS", value=record.day_obs
        ) from None
