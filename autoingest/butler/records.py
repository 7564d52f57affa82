"""An exposure's values as rows of the Butler's dimension tables."""

from __future__ import annotations

from datetime import date
from typing import Any

from astropy.time import Time, TimeDelta
from lsst.daf.butler import Timespan

from ..instruments import ExposureRecord

_PLAIN = (
    "instrument", "id", "obs_id", "day_obs", "group", "physical_filter", "exposure_time", "dark_time",
    "observation_type", "observation_reason", "seq_num", "seq_start", "seq_end", "target_name", "science_program",
    "tracking_ra", "tracking_dec", "sky_angle", "azimuth", "zenith_angle", "has_simulated", "can_see_sky",
)  # fmt: skip
"""Fields that the Butler holds as the translation has them."""


def rows(record: ExposureRecord) -> dict[str, dict[str, Any]]:
    """Return the rows to insert for an exposure, by dimension, each after those it refers to."""
    instrument = record.instrument
    day = Time(
        date(record.day_obs // 10000, record.day_obs // 100 % 100, record.day_obs % 100).isoformat(), scale="tai"
    )
    begin = day + TimeDelta(record.day_obs_offset, format="sec", scale="tai")
    day_span = Timespan(begin, begin + TimeDelta(1, format="jd", scale="tai"))
    return {
        "group": {"instrument": instrument, "name": record.group},
        "day_obs": {"instrument": instrument, "id": record.day_obs, "timespan": day_span},
        "exposure": {name: getattr(record, name) for name in _PLAIN} | {"timespan": Timespan(record.begin, record.end)},
    }
