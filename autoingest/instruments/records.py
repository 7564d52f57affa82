"""What the Butler's `group`, `day_obs` and `exposure` records hold, from a whole header."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog

from ..errors import MetadataError
from . import base, catalogue, recognition, translation

if TYPE_CHECKING:
    from astro_metadata_translator import MetadataTranslator
    from astropy.time import Time

log = structlog.get_logger(__name__)

_REQUIRED = {
    "dark_time", "datetime_begin", "datetime_end", "exposure_group", "exposure_id", "exposure_time_requested",
    "group_counter_end", "group_counter_start", "has_simulated_content", "instrument",
    "observation_counter", "observation_id", "observation_reason", "observation_type", "observing_day",
    "observing_day_offset", "physical_filter", "science_program",
}  # fmt: skip
_OPTIONAL = {
    "altaz_begin",
    "boresight_rotation_angle",
    "boresight_rotation_coord",
    "can_see_sky",
    "object",
    "tracking_radec",
}


@dataclass(frozen=True, slots=True)
class ExposureRecord:
    """Values of an exposure's record, named as the Butler names them, and those of its group and day."""

    instrument: str
    id: int
    obs_id: str
    day_obs: int
    """YYYYMMDD."""
    group: str
    physical_filter: str
    exposure_time: float
    """Seconds asked for."""
    dark_time: float
    """Seconds."""
    observation_type: str
    observation_reason: str
    seq_num: int
    seq_start: int
    seq_end: int
    target_name: str | None
    science_program: str
    tracking_ra: float | None
    """ICRS degrees."""
    tracking_dec: float | None
    """ICRS degrees."""
    sky_angle: float | None
    """Degrees; None unless the rotation is given relative to the sky."""
    azimuth: float | None
    """Degrees."""
    zenith_angle: float | None
    """Degrees."""
    has_simulated: bool
    can_see_sky: bool | None
    begin: Time
    end: Time
    """Not before `begin`."""
    day_obs_offset: int
    """Seconds after midnight TAI at which the observing day begins."""


def exposure_record(header: Mapping[str, object], url: str) -> ExposureRecord:
    """Translate a whole header.

    Parameters
    ----------
    header
        Cards of the file, None where a card is undefined.
    url
        The file, for messages.

    Raises
    ------
    MetadataError
        If a card that is needed is missing or makes no sense.
    """
    from astro_metadata_translator import ObservationInfo

    instrument = recognition.instrument_of(header, url)
    try:
        info: Any = ObservationInfo(
            dict(header),
            filename=url,
            translator_class=translator(instrument),
            pedantic=True,
            required=_REQUIRED,
            subset=_REQUIRED | _OPTIONAL,
        )
    except (KeyError, TypeError) as error:
        if isinstance(error.__cause__, MetadataError):
            raise error.__cause__ from None
        raise MetadataError(f"{error.args[0]}: {error.__cause__!r} ({url})", path=url) from error
    return _record(info, url)


def _record(info: Any, url: str) -> ExposureRecord:
    tracking, altaz = info.tracking_radec, info.altaz_begin
    tracked = tracking is not None
    begin, end = info.datetime_begin, info.datetime_end
    if end < begin:
        log.warning(
            "exposure ends before it begins", url=url, begin_mjd=float(begin.tai.mjd), end_mjd=float(end.tai.mjd)
        )
        end = begin
    angle = info.boresight_rotation_angle
    on_sky = tracked and info.boresight_rotation_coord == "sky" and math.isfinite(angle.degree)
    return ExposureRecord(
        instrument=info.instrument,
        id=info.exposure_id,
        obs_id=info.observation_id,
        day_obs=info.observing_day,
        group=info.exposure_group,
        physical_filter=info.physical_filter,
        exposure_time=float(info.exposure_time_requested.to_value("s")),
        dark_time=float(info.dark_time.to_value("s")),
        observation_type=info.observation_type,
        observation_reason=info.observation_reason,
        seq_num=info.observation_counter,
        seq_start=info.group_counter_start,
        seq_end=info.group_counter_end,
        target_name=info.object,
        science_program=info.science_program,
        tracking_ra=float(tracking.icrs.ra.degree) if tracked else None,
        tracking_dec=float(tracking.icrs.dec.degree) if tracked else None,
        sky_angle=float(angle.degree) if on_sky else None,
        azimuth=float(altaz.az.degree) if altaz is not None else None,
        zenith_angle=float(altaz.zen.degree) if altaz is not None else None,
        has_simulated=info.has_simulated_content,
        can_see_sky=info.can_see_sky,
        begin=begin,
        end=end,
        day_obs_offset=round(info.observing_day_offset.to_value("s")),
    )


def translator(instrument: str) -> type[MetadataTranslator]:
    """Return the class that translates an instrument's headers: the site's own, else ours."""
    if (generator := catalogue.generators().get(instrument)) is not None:
        from .described_translator import translator_of

        if generator.translator_module is not None:
            translation.import_site(generator.translator_module)
        return translator_of(generator)
    return translation.chosen(instrument)


def translators() -> list[str]:
    """Register all translators; the entry point by which the metadata library finds them.

    Returns
    -------
    list of str
        The instruments' names.
    """
    names = [*base.names(), *catalogue.generators()]
    for name in names:
        translator(name)
    return names
