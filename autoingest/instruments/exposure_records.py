"""What the Butler's `group`, `day_obs` and `exposure` records hold, from a whole header."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog

from ..errors import MetadataError, PermanentError
from . import camera, cards, corrections, dates, identification, registry, translator_classes
from .corrected_header import prepared

if TYPE_CHECKING:
    from astro_metadata_translator import MetadataTranslator
    from astropy.time import Time

log = structlog.get_logger(__name__)

_REQUIRED = {
    "datetime_begin", "datetime_end", "detector_num", "exposure_group", "exposure_id", "exposure_time_requested",
    "group_counter_end", "group_counter_start", "has_simulated_content", "instrument", "observation_id",
    "observation_type", "observing_day", "physical_filter",
}  # fmt: skip
"""What raises or is None here refuses the file."""

_OPTIONAL = {
    "altaz_begin", "boresight_rotation_angle", "boresight_rotation_coord", "can_see_sky", "dark_time", "object",
    "observation_counter", "observation_reason", "observing_day_offset", "science_program", "tracking_radec",
}  # fmt: skip
"""What raises here is None."""


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
    dark_time: float | None
    """Seconds."""
    observation_type: str
    observation_reason: str | None
    seq_num: int | None
    seq_start: int
    seq_end: int
    target_name: str | None
    science_program: str | None
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
    day_obs_offset: int | None
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
    from astropy.utils import iers

    try:
        translator_class = translator_classes.translator(identification.instrument_of(header, url))
        with iers.conf.set_temp("auto_download", False):
            info: Any = ObservationInfo(
                _prepared(header, url, translator_class),
                filename=url,
                translator_class=translator_class,
                pedantic=False,
                required=_REQUIRED,
                subset=_REQUIRED | _OPTIONAL,
            )
            return _record(info, url)
    except PermanentError:
        raise
    except Exception as error:
        if isinstance(error.__cause__, PermanentError):
            raise error.__cause__ from None
        cause = f": {error.__cause__!r}" if error.__cause__ else ""
        raise MetadataError(f"{error.args[0] if error.args else error!r}{cause} ({url})", path=url) from error


def _prepared(header: Mapping[str, object], url: str, translator_class: type[MetadataTranslator]) -> dict[str, object]:
    """Return a copy of a header, corrected and repaired if the translator is ours; others do that themselves."""
    from .translators.base import HeaderTranslator

    if not issubclass(translator_class, HeaderTranslator):
        return dict(header)
    if cards.is_repaired(header):
        return {**header, cards.REPAIRED: True}
    obs_id = translator_class.read_obs_id(header, url)
    return prepared(translator_class, header, corrections.find(translator_class.camera.name, obs_id))


def _record(info: Any, url: str) -> ExposureRecord:
    tracking, altaz, angle = info.tracking_radec, info.altaz_begin, info.boresight_rotation_angle
    tracked = tracking is not None
    turned = tracked and info.boresight_rotation_coord == "sky"
    if turned and angle is None:
        raise MetadataError(f"ROTPA is missing or no number, though the boresight is known ({url})",
                            card="ROTPA", value=None, path=url)  # fmt: skip
    begin, end = info.datetime_begin, info.datetime_end
    if not dates.is_storable(end.tai.mjd):
        raise MetadataError(f"the exposure ends at {end.tai.mjd}, no time from 1970 to 2099 ({url})", path=url)
    if end < begin:
        log.warning(
            "exposure ends before it begins", url=url, begin_mjd=float(begin.tai.mjd), end_mjd=float(end.tai.mjd)
        )
        end = begin
    position = tracking.icrs if tracked else None
    offset = info.observing_day_offset
    return ExposureRecord(
        instrument=info.instrument,
        id=info.exposure_id,
        obs_id=info.observation_id,
        day_obs=info.observing_day,
        group=info.exposure_group,
        physical_filter=info.physical_filter,
        exposure_time=float(info.exposure_time_requested.to_value("s")),
        dark_time=None if info.dark_time is None else float(info.dark_time.to_value("s")),
        observation_type=info.observation_type,
        observation_reason=info.observation_reason,
        seq_num=info.observation_counter,
        seq_start=info.group_counter_start,
        seq_end=info.group_counter_end,
        target_name=info.object,
        science_program=info.science_program,
        tracking_ra=None if position is None else float(position.ra.degree),
        tracking_dec=None if position is None else float(position.dec.degree),
        sky_angle=float(angle.degree) if turned else None,
        azimuth=float(altaz.az.degree) if altaz is not None else None,
        zenith_angle=float(altaz.zen.degree) if altaz is not None else None,
        has_simulated=info.has_simulated_content,
        can_see_sky=info.can_see_sky,
        begin=begin,
        end=end,
        day_obs_offset=None if offset is None else round(offset.to_value("s")),
    )


def register_translators() -> list[str]:
    """Register all translators; the entry point by which the metadata library finds them.

    Returns
    -------
    list of str
        The instruments' names.
    """
    names = [*camera.names(), *registry.generators()]
    for name in names:
        translator_classes.translator(name)
    return names
