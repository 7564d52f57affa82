# ruff: noqa: D102  (the library says what each property means)
"""Header translation that the cameras of the Rubin Observatory share: what a file is, and when it was taken."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, MutableMapping
from datetime import date, datetime
from typing import Any, ClassVar

import astropy.units as u
from astro_metadata_translator import FitsTranslator, MetadataTranslator, cache_translation
from astropy.io.fits.card import Undefined
from astropy.time import ScaleValueError, Time, TimeDelta

from ...model.cameras import CAMERAS
from .. import cards, corrections, dates, identity
from ..camera import load

_GROUP = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)\.(\d{3})(?:[+#](\d+))?")
_GROUP_EPOCH = datetime(2015, 1, 1)
_PACKER_EPOCH = date(2010, 1, 1)
_SIMULATORS = "HPQS"
_ORDER = ("LSSTCam", "LSST-TS8", "LATISS", "LSSTComCam", "LSSTComCamSim", "LSSTCamSim")
"""Cameras in the order in which they are asked whether a header is theirs; any others come after them."""


class HeaderTranslator(identity.Rules, FitsTranslator):
    """Translates the cards that every image of the observatory has, those of calibrations included.

    What raises `MetadataError` refuses the file where the Butler needs it, and is None elsewhere.
    The subclass of a camera names its instrument; the metadata library then knows it, unless a translator of that name
    is registered already: a site that has the Science Pipelines' own keeps them.
    """

    own: ClassVar[dict[str, type[HeaderTranslator]]] = {}
    """The cameras' classes, by instrument."""
    registered_name: ClassVar[str]
    """Name by which the metadata library knows the translator, be it ours or the site's."""

    @classmethod
    def __init_subclass__(
        cls, *, instrument: str | None = None, registered_name: str | None = None, **kwargs: Any
    ) -> None:
        """Register the class of a camera.

        Parameters
        ----------
        instrument
            Canonical instrument name; None for a class that cameras share.
        registered_name
            The translator's name in the Science Pipelines, where it isn't the instrument's.
        **kwargs
            For the library.
        """
        if instrument is not None:
            cls.camera = load(instrument)
            cls.instrume = CAMERAS[instrument].instrume
            cls.supported_instrument = instrument
            cls.registered_name = registered_name or instrument
            cls.name = None if cls.registered_name in MetadataTranslator.translators else cls.registered_name
            HeaderTranslator.own[instrument] = cls
        super().__init_subclass__(**kwargs)

    @classmethod
    def can_translate(cls, header: Mapping[str, object], filename: str | None = None) -> bool:
        """Tell whether a header is this camera's: the first in order that accepts it."""
        return next((rules for rules in in_order() if rules.accepts(header)), None) is cls

    def resource_root(self) -> tuple[None, None]:
        """Correct the header by what comes with the program.

        The library asks for this where it has found no file of corrections in any folder.
        """
        if isinstance(self._header, MutableMapping):
            self._header.update(corrections.shipped(self.to_instrument(), self.to_observation_id()))
        return None, None

    @classmethod
    def fix_header(
        cls, header: MutableMapping[str, object], instrument: str, obsid: str, filename: str | None = None
    ) -> bool:
        """Repair in place what is known to be wrong; return whether anything was."""
        before = {card: None if isinstance(value, Undefined) else value for card, value in header.items()}
        repaired = dict(before)
        try:
            cls.repair(repaired)
        finally:
            changes = {card: value for card, value in repaired.items()
                       if card not in before or value is not before[card]}  # fmt: skip
            header.update(changes)
        return bool(changes)

    def _first(self, *names: str) -> str | None:
        """Return the first of these cards that is defined."""
        name = cards.first(self._header, *names)
        if name is not None:
            self._used_these_cards(name)
        return name

    def _text(self, default: str, *names: str) -> str:
        """Return the first of these cards that is defined, a number as text."""
        name = self._first(*names)
        return default if name is None else str(self._header[name])

    def _number(self, name: str) -> float:
        self._used_these_cards(name)
        return cards.number(self._header, name, self.filename)

    def _optional(self, name: str) -> float | None:
        return self._number(name) if self._first(name) else None

    # What and who

    def to_instrument(self) -> str:
        return self.camera.name

    @cache_translation
    def to_exposure_id(self) -> int:
        self._used_these_cards("DAYOBS", "SEQNUM", "CONTRLLR")
        return self.read_exposure_id(self._header, self.filename)

    @cache_translation
    def to_observation_id(self) -> str:
        self._used_these_cards("OBSID")
        return self.read_obs_id(self._header, self.filename)

    @cache_translation
    def to_exposure_group(self) -> str:
        self._used_these_cards("GROUPID")
        return identity.group(self._header, self.to_exposure_id(), self.filename)

    @cache_translation
    def to_visit_id(self) -> int:
        """Make a number of the group: its time since 2015 in milliseconds and four digits more, or a hash."""
        name = self.to_exposure_group()
        if name.isascii() and name.isdigit():
            return int(name)
        match = _GROUP.fullmatch(name)
        if match:
            elapsed = datetime.fromisoformat(match[1]) - _GROUP_EPOCH
            return int(f"{int(elapsed.total_seconds())}{match[2]}{int(match[3] or 0):04d}")
        number = int(hashlib.blake2b(name.encode()).hexdigest()[:14], 16)
        return int(f"{number}{len(name):02d}")

    @cache_translation
    def to_observation_counter(self) -> int:
        return cards.integer(self._header, "SEQNUM", self.filename) if self._first("SEQNUM") else 0

    @cache_translation
    def to_group_counter_start(self) -> int:
        if not self._first("CURINDEX"):
            return self.to_observation_counter() or self.to_exposure_id()
        return self.to_observation_counter() - cards.integer(self._header, "CURINDEX", self.filename) + 1

    @cache_translation
    def to_group_counter_end(self) -> int:
        if not (self._first("CURINDEX") and self._first("MAXINDEX")):
            return self.to_observation_counter() or self.to_exposure_id()
        return self.to_group_counter_start() + cards.integer(self._header, "MAXINDEX", self.filename) - 1

    @cache_translation
    def to_observation_type(self) -> str:
        self._used_these_cards("IMGTYPE")
        kind = cards.text(self._header, "IMGTYPE", self.filename).lower()
        return "science" if kind in ("skyexp", "object") else kind

    @cache_translation
    def to_observation_reason(self) -> str:
        name = self._first("REASON", "TESTTYPE")
        if name is None:
            return "science" if self.to_observation_type() == "science" else "unknown"
        return cards.text(self._header, name, self.filename).lower()

    @cache_translation
    def to_object(self) -> str:
        return self._text("UNKNOWN", "OBJECT")

    @cache_translation
    def to_science_program(self) -> str:
        return self._text("unknown", "PROGRAM", "RUNNUM")

    @cache_translation
    def to_has_simulated_content(self) -> bool:
        self._used_these_cards("CONTRLLR")
        return self._header.get("CONTRLLR") in tuple(_SIMULATORS) or any(
            "SIMULATE" in name and bool(cards.defined(self._header, name)) for name in self._header
        )

    @cache_translation
    def to_physical_filter(self) -> str:
        """Join what lies in the beam."""
        joined = "~".join(self._text("", name) for name in ("FILTER", "FILTER1", "FILTER2") if self._first(name))
        return joined.replace("NONE", "none") or "unknown"

    # Detector

    @cache_translation
    def to_detector_num(self) -> int:
        self._used_these_cards("RAFTBAY", "CCDSLOT")
        return self.read_detector(self._header, self.filename)

    @cache_translation
    def to_detector_exposure_id(self) -> int:
        """Pack controller, day, sequence number and detector into 3, 14, 15 and 8 bits."""
        moved, sequence = divmod(self.to_exposure_id(), 100_000)
        day = identity.exposure_day(self._header, self.filename)
        elapsed = (datetime.strptime(str(day), "%Y%m%d").date() - _PACKER_EPOCH).days
        millennia = (moved - day) // 1000_00_00
        return ((((millennia << 14) + elapsed) << 15) + sequence << 8) + self.to_detector_num()

    # Times

    @cache_translation
    def to_observing_day(self) -> int:
        self._used_these_cards("DAYOBS")
        return self.read_day_obs(self._header, self.filename)

    @classmethod
    def observing_date_to_offset(cls, observing_date: Time) -> TimeDelta:
        """Return the hours after midnight at which an observing day begins: twelve."""
        return TimeDelta(43200, format="sec", scale="tai")

    @cache_translation
    def to_datetime_begin(self) -> Time:
        return self._time(self._first(*cards.BEGIN) or "MJD-BEG", "tai")

    @cache_translation
    def to_datetime_end(self) -> Time:
        if self._first("DATE-END"):
            return self._time("DATE-END", self._text("utc", "TIMESYS").lower())
        return self.to_datetime_begin() + max(self.to_exposure_time(), 0.0 * u.s)

    def _time(self, name: str, scale: str) -> Time:
        """Return the time that a card tells, in TAI only if its scale is.

        Raises
        ------
        MetadataError
            If it is no time, or none that the Butler knows.
        """
        if scale not in Time.SCALES:
            raise cards.unusable(self._header, "TIMESYS", self.filename, "is no time scale")
        try:
            value = cards.defined(self._header, name)
            if isinstance(value, str) and not name.startswith("MJD"):
                time = Time(value, format="isot", scale=scale)
            else:
                time = Time(self._number(name), format="mjd", scale=scale)
            in_range = dates.is_storable(time.tai.mjd)
        except (ValueError, ArithmeticError, ScaleValueError):
            raise cards.unusable(self._header, name, self.filename, f"is not a time in scale {scale}") from None
        if not in_range:
            raise cards.unusable(self._header, name, self.filename, "is no time from 1970 to 2099")
        return time

    @cache_translation
    def to_exposure_time_requested(self) -> u.Quantity:
        return self._number("EXPTIME") * u.s

    @cache_translation
    def to_exposure_time(self) -> u.Quantity:
        return self.to_exposure_time_requested()

    @cache_translation
    def to_dark_time(self) -> u.Quantity:
        elapsed = self._optional("DARKTIME")
        return self.to_exposure_time() if elapsed is None else elapsed * u.s


def in_order() -> list[type[HeaderTranslator]]:
    """Return the classes of the cameras whose modules are imported, in the order in which they are asked."""
    rank = {name: number for number, name in enumerate(_ORDER)}
    return sorted(HeaderTranslator.own.values(), key=lambda rules: rank.get(rules.camera.name, len(rank)))
