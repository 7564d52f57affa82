# ruff: noqa: D102  (the library says what each property means)
"""Header translation of the instruments that a file describes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, ClassVar

import astropy.units as u
from astro_metadata_translator import MetadataTranslator, cache_translation
from astropy.coordinates import AltAz, Angle, SkyCoord
from astropy.time import Time

from . import cards
from .described import DescribedHeader
from .description import DETECTOR, TIME_SCALES, Generator
from .rubin import RubinTranslator

_TIMES = (40587, 70172)
"""Modified Julian dates of the begin of 1970 and the end of 2050: exposure ids were laid out for no more."""


class DescribedTranslator(RubinTranslator):
    """Translates by a description; each instrument has a subclass, see `translator`."""

    generator: ClassVar[Generator]

    _const_map: dict[str, Any] = {  # noqa: RUF012
        "detector_group": None, "detector_num": DETECTOR, "focus_z": None, "pressure": None, "relative_humidity": None,
        "temperature": None,
    }  # fmt: skip

    @classmethod
    def can_translate(cls, header: Mapping[str, object], filename: str | None = None) -> bool:
        """Tell whether a header matches the description."""
        return not cls.generator.mismatches(header)

    @property
    def _described(self) -> DescribedHeader:
        return DescribedHeader(self.generator, self._cards, self.filename)

    def _is_installed(self) -> bool:
        # Images of a test stand name it, if only by a blank card.
        return "TSTAND" not in self._cards

    def _has_pointing(self) -> bool:
        return self.generator.pointing == "telescope"

    def _controller(self) -> str:
        return self._described.controller()

    @cache_translation
    def to_instrument(self) -> str:
        return self.generator.name

    @cache_translation
    def to_telescope(self) -> str | None:  # type: ignore[override]
        return self._described.text("telescope")

    @cache_translation
    def to_detector_name(self) -> str:
        return self.generator.detector

    @cache_translation
    def to_detector_serial(self) -> str | None:  # type: ignore[override]
        return self._described.text("detector_serial")

    @cache_translation
    def to_exposure_id(self) -> int:
        return self._described.exposure_id()

    @cache_translation
    def to_observation_id(self) -> str:
        return self._described.obs_id()

    @cache_translation
    def to_exposure_group(self) -> str:
        return self._described.group()

    @cache_translation
    def to_observation_counter(self) -> int:
        return self._described.seq_num()

    @cache_translation
    def to_observing_day(self) -> int:
        return self._described.day_obs()

    @cache_translation
    def to_observation_type(self) -> str:
        return self._described.needed_text("observation_type")

    @cache_translation
    def to_observation_reason(self) -> str:
        return self._described.needed_text("observation_reason")

    @cache_translation
    def to_science_program(self) -> str:
        return self._described.needed_text("science_program")

    @cache_translation
    def to_object(self) -> str | None:  # type: ignore[override]
        return self._described.text("target_name")

    @cache_translation
    def to_physical_filter(self) -> str:
        return self._described.needed_text("physical_filter")

    @cache_translation
    def to_can_see_sky(self) -> bool | None:
        told = self._described.flag("can_see_sky")
        kind = self.to_observation_type().lower()
        return {"science": True, "object": True, "bias": False, "dark": False}.get(kind) if told is None else told

    # Times

    @cache_translation
    def to_datetime_begin(self) -> Time:
        return self._moment(*self._described.needed("begin"))

    @cache_translation
    def to_datetime_end(self) -> Time:
        if found := self._described.find("end"):
            return self._moment(*found)
        return self.to_datetime_begin() + max(self.to_exposure_time(), 0 * u.s)

    def _moment(self, card: str, values: Mapping[str, object]) -> Time:
        scale, value = self._described.needed_text("time_system").lower(), cards.defined(values, card)
        if scale not in TIME_SCALES:
            system = self._described.needed("time_system").card
            raise cards.unusable(self._cards, system, self.filename, f"is none of {', '.join(TIME_SCALES)}")
        try:
            time = Time(value, format="isot" if isinstance(value, str) else "mjd", scale=scale)
        except ValueError:
            raise cards.unusable(self._cards, card, self.filename, "is not a time") from None
        if not _TIMES[0] <= time.mjd < _TIMES[1]:
            raise cards.unusable(self._cards, card, self.filename, "is not a time from 1970 to 2050")
        return time

    @cache_translation
    def to_exposure_time_requested(self) -> u.Quantity:
        return self._described.needed_number("exposure_time") * u.s

    @cache_translation
    def to_exposure_time(self) -> u.Quantity:
        return self.to_exposure_time_requested()

    @cache_translation
    def to_dark_time(self) -> u.Quantity:
        seconds = self._described.number("dark_time")
        return self.to_exposure_time() if seconds is None else seconds * u.s

    # Pointing

    @cache_translation
    def to_tracking_radec(self) -> SkyCoord | None:
        return super().to_tracking_radec() if self._has_pointing() else None

    @cache_translation
    def to_altaz_begin(self) -> AltAz | None:
        return super().to_altaz_begin() if self._has_pointing() else None

    @cache_translation
    def to_boresight_airmass(self) -> float | None:
        return super().to_boresight_airmass() if self._has_pointing() else None

    @cache_translation
    def to_boresight_rotation_angle(self) -> Angle | None:
        if not (self._has_pointing() and self._first("ROTPA", "ROTANGLE")):
            return None
        return super().to_boresight_rotation_angle()

    @cache_translation
    def to_boresight_rotation_coord(self) -> str:
        return "unknown" if self.to_boresight_rotation_angle() is None else "sky"


@cache
def translator_of(generator: Generator) -> type[MetadataTranslator]:
    """Return the class that translates an instrument's headers: one that is installed under its name, else ours."""
    name = generator.translator or generator.name
    installed = MetadataTranslator.translators.get(name)
    if installed is not None and not issubclass(installed, DescribedTranslator):
        return installed
    namespace = {
        "__doc__": f"Translates the headers of {generator.name}.",
        "name": name if installed is None else None,
        "supported_instrument": generator.name,
        "generator": generator,
    }
    return type(f"{generator.name}Translator", (DescribedTranslator,), namespace)
