"""What the header of a described instrument tells, field by field."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from ...errors import MetadataError
from .. import cards, identity
from .description import DETECTOR, Generator, Source


class Found(NamedTuple):
    """A card that tells a field."""

    card: str
    header: Mapping[str, object]
    """The header in which the card holds the field's value alone."""


class DescribedHeader:
    """Reads a header by an instrument's description.

    Parameters
    ----------
    generator
        The instrument.
    header
        Cards of the file, None where a card is undefined.
    url
        The file, for messages.

    Notes
    -----
    Every method raises `MetadataError`, naming card, value and file, if the card makes no sense.
    """

    def __init__(self, generator: Generator, header: Mapping[str, object], url: str | None) -> None:
        self._generator = generator
        self._header = header
        self._url = url

    def find(self, field: str) -> Found | None:
        """Return the card that tells a field; None where there is no such card, or it is undefined."""
        source = self._source(field)
        card = cards.first(self._header, *source.cards)
        if card is None:
            return None
        if source.pattern is None:
            return Found(card, self._header)
        match = re.fullmatch(source.pattern, str(cards.defined(self._header, card)))
        if match is None or not match[1]:
            raise cards.unusable(self._header, card, self._url, f"does not match {source.pattern}")
        return Found(card, {card: match[1]})

    def text(self, field: str) -> str | None:
        """Return a field's text, its default where no card tells it. A blank card tells that it is blank."""
        source = self._source(field)
        if found := self.find(field):
            text = str(cards.defined(found.header, found.card))
            return text.lower() if source.lower else text
        return None if source.default is None else str(source.default)

    def number(self, field: str) -> float | None:
        """Return a field's finite number, its default where no card tells it."""
        if found := self.find(field):
            return cards.number(found.header, found.card, self._url)
        default = self._source(field).default
        return None if default is None else float(default)

    def flag(self, field: str) -> bool | None:
        """Return a field's truth, its default where no card tells it."""
        found = self.find(field)
        value = self._source(field).default if found is None else cards.defined(found.header, found.card)
        if value is None or isinstance(value, bool):
            return value
        assert found is not None
        raise cards.unusable(self._header, found.card, self._url, "is neither T nor F")

    def needed_text(self, field: str) -> str:
        """Return a field's text; raise if nothing tells it."""
        text = self.text(field)
        if text is None:
            raise self._missing(field)
        return text

    def needed_number(self, field: str) -> float:
        """Return a field's number; raise if nothing tells it."""
        number = self.number(field)
        if number is None:
            raise self._missing(field)
        return number

    def needed(self, field: str) -> Found:
        """Return the card that tells a field; raise if there is none."""
        found = self.find(field)
        if found is None:
            raise self._missing(field)
        return found

    def is_described(self, field: str) -> bool:
        """Tell whether the description says where a field comes from; else it is as the observatory has it."""
        return getattr(self._generator.header, field) is not None

    def obs_id(self) -> str:
        """Return the observation id."""
        found = self.needed("obs_id")
        return cards.as_text(found.header, found.card, self._url)

    def day_obs(self) -> int:
        """Return the observing day, YYYYMMDD."""
        found = self.needed("day_obs")
        return identity.day_obs(found.header, self._url, found.card)

    def seq_num(self) -> int:
        """Return the number of the exposure in its day."""
        found = self.needed("seq_num")
        return identity.seq_num(found.header, self._url, found.card)

    def exposure_id(self) -> int:
        """Return the exposure id, from day and number and, if it depends on that, controller."""
        found = self.needed("day_obs")
        values: dict[str, object] = {
            "DAYOBS": identity.exposure_day(found.header, self._url, found.card), "SEQNUM": self.seq_num(),
        }  # fmt: skip
        if controller := self.find("controller"):
            values["CONTRLLR"] = controller.header[controller.card]
        if "CALIB_ID" in self._header:
            values["CALIB_ID"] = self._header["CALIB_ID"]
        return identity.exposure_id(values, self._url)

    def group(self) -> str:
        """Return the group's name, the exposure id as text where no card tells it."""
        found = self.find("group")
        return str(self.exposure_id()) if found is None else cards.text(found.header, found.card, self._url)

    def identity(self) -> identity.Identity:
        """Return which exposure the file holds."""
        return identity.Identity(
            instrument=self._generator.name,
            exposure_id=self.exposure_id(),
            obs_id=self.obs_id(),
            detector=DETECTOR,
            group=self.group(),
            day_obs=self.day_obs(),
        )

    def _missing(self, field: str) -> MetadataError:
        return cards.unusable(self._header, self._source(field).cards[0], self._url, f"tells no {field}")

    def _source(self, field: str) -> Source:
        source: Source = getattr(self._generator.header, field)
        return source
