# ruff: noqa: D102  (the library says what each property means)
"""Header translation of the instruments that a file describes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, ClassVar

import astropy.units as u
from astro_metadata_translator import MetadataTranslator, cache_translation
from astropy.coordinates import Angle, SkyCoord
from astropy.time import Time

from .. import cards
from ..translators.rubin import RubinTranslator
from .description import DETECTOR, TIME_SCALES, Generator
from .headers import DescribedHeader


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

    @classmethod
    def read_obs_id(cls, header: Mapping[str, object], url: str | None) -> str:
        """Return the observation's name."""
        return DescribedHeader(cls.generator, header, url).obs_id()

    @property
    def _fields(self) -> DescribedHeader:
        return DescribedHeader(self.generator, self._header, self.filename)

    def _has_pointing(self) -> bool:
        return self.generator.pointing == "telescope"

    @cache_translation
    def to_instrument(self) -> str:
        return self.generator.name

    @cache_translation
    def to_telescope(self) -> str | None:  # type: ignore[override]
        return self._fields.text("telescope")

    @cache_translation
    def to_detector_name(self) -> str:
        return self.generator.detector

    @cache_translation
    def to_detector_serial(self) -> str | None:  # type: ignore[override]
        return self._fields.text("detector_serial")

    @cache_translation
    def to_exposure_id(self) -> int:
        return self._fields.exposure_id()

    @cache_translation
    def to_observation_id(self) -> str:
        return self._fields.obs_id()

    @cache_translation
    def to_exposure_group(self) -> str:
        return self._fields.group()

    @cache_translation
    def to_observation_counter(self) -> int:
        return self._fields.seq_num()

    @cache_translation
    def to_observing_day(self) -> int:
        return self._fields.day_obs()

    @cache_translation
    def to_observation_type(self) -> str:
        return self._fields.needed_text("observation_type")

    @cache_translation
    def to_observation_reason(self) -> str:
        if self._fields.is_described("observation_reason"):
            return self._fields.needed_text("observation_reason")
        return super().to_observation_reason()

    @cache_translation
    def to_science_program(self) -> str:
        return self._fields.needed_text("science_program")

    @cache_translation
    def to_object(self) -> str | None:  # type: ignore[override]
        return self._fields.text("target_name")

    @cache_translation
    def to_physical_filter(self) -> str:
        return self._fields.needed_text("physical_filter")

    @cache_translation
    def to_can_see_sky(self) -> bool | None:
        flag = self._fields.flag("can_see_sky") if self._fields.is_described("can_see_sky") else None
        return super().to_can_see_sky() if flag is None else flag

    # Times

    @cache_translation
    def to_datetime_begin(self) -> Time:
        return self._moment(self._fields.needed("begin").card)

    @cache_translation
    def to_datetime_end(self) -> Time:
        if not self._fields.is_described("end"):
            if not (self._fields.is_described("time_system") and self._first("DATE-END")):
                return super().to_datetime_end()
            return self._moment("DATE-END")
        if found := self._fields.find("end"):
            return self._moment(found.card)
        return self.to_datetime_begin() + max(self.to_exposure_time(), 0 * u.s)

    def _moment(self, card: str) -> Time:
        scale = self._fields.needed_text("time_system").lower() if self._fields.is_described("time_system") else "tai"
        if scale not in TIME_SCALES:
            system = self._fields.needed("time_system").card
            raise cards.unusable(self._header, system, self.filename, f"is none of {', '.join(TIME_SCALES)}")
        return self._time(card, scale)

    @cache_translation
    def to_exposure_time_requested(self) -> u.Quantity:
        return self._fields.needed_number("exposure_time") * u.s

    @cache_translation
    def to_dark_time(self) -> u.Quantity:
        seconds = self._fields.number("dark_time")
        return self.to_exposure_time() if seconds is None else seconds * u.s

    # Pointing

    @cache_translation
    def to_tracking_radec(self) -> SkyCoord | None:
        return super().to_tracking_radec() if self._has_pointing() else None

    @cache_translation
    def to_boresight_rotation_angle(self) -> Angle | None:
        name = self._first("ROTPA", "ROTANGLE") if self._has_pointing() else None
        return None if name is None else Angle(self._number(name) * u.deg)

    @cache_translation
    def to_boresight_rotation_coord(self) -> str:
        return "sky" if self._has_pointing() else super().to_boresight_rotation_coord()


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
        "camera": generator.camera(),
    }
    return type(f"{generator.name}Translator", (DescribedTranslator,), namespace)
