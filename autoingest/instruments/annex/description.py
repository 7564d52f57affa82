"""Instruments that a file describes: the generators of images of the Large File Annex.

Such an instrument has one detector and no visits. Its description says which headers are its own, what it is in the
Butler, and which cards tell the fields of its records. Those that come with the program are in the folder
``data/annex``; a site adds files of its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Field,
    StringConstraints,
    field_validator,
    model_validator,
)

from ...app.documents import Block
from .. import camera, cards

EXPOSURE_MAX = 2050_12_31_99999
"""Largest exposure id where nobody counts apart: last day, last sequence number."""

EXPOSURE_MAX_CONTROLLERS = 7050_12_31_99999
"""The same where each controller may count apart, by whole millennia."""

TIME_SCALES = ("tai", "utc", "tt")
"""Time scales that convert to TAI without tables or a place."""

DETECTOR = 0
"""Id of the one detector."""

VISIT_SYSTEM = 2
"""The instrument record's default visit system, as the Science Pipelines register such instruments."""

_INSTRUMENT = "{instrument}"


def _expression(text: str) -> str:
    try:
        re.compile(text)
    except re.error as err:
        raise ValueError(f"not a regular expression: {err}") from err
    return text


Card = Annotated[str, StringConstraints(pattern=r"^[A-Z0-9_-]{1,8}$")]
Expression = Annotated[str, StringConstraints(min_length=1), AfterValidator(_expression)]
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_.-]*$", max_length=32)]
Dotted = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)+$", max_length=128)]


class Source(Block):
    """Where a value comes from. A card's name alone, a list of cards, or null stand for such a block."""

    cards: tuple[Card, ...] = ()
    """Cards in the order of preference; the first one that is defined counts."""

    pattern: Expression | None = None
    """Regular expression that the card's whole text must match; its first group is the value."""

    lower: bool = False
    """Whether text is written in lower case."""

    default: bool | int | float | str | None = None
    """The value where none of the cards is defined; without cards, always."""

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: object) -> object:
        if value is None:
            return {}
        if isinstance(value, str):
            return {"cards": (value,)}
        return {"cards": value} if isinstance(value, list | tuple) else value

    @field_validator("pattern")
    @classmethod
    def _has_group(cls, value: str | None) -> str | None:
        if value is not None and re.compile(value).groups < 1:
            raise ValueError("the expression has no group that would be the value")
        return value


def _from(*cards: str, **more: Any) -> Source:
    return Source(cards=cards, **more)


def _recorded(source: Source) -> Source:
    if not source.cards:
        raise ValueError("a card must tell it")
    return source


def _needed(source: Source) -> Source:
    if not source.cards and source.default is None:
        raise ValueError("neither a card nor a default tells it")
    return source


def _plain(source: Source) -> Source:
    if source.pattern is not None:
        raise ValueError("a time is the whole card, without pattern")
    return source


def _scale(source: Source) -> Source:
    if source.default is not None and str(source.default).lower() not in TIME_SCALES:
        raise ValueError(f"{source.default!r} is none of {', '.join(TIME_SCALES)}")
    return source


Recorded = Annotated[Source, AfterValidator(_recorded)]
Needed = Annotated[Source, AfterValidator(_needed)]
Moment = Annotated[Source, AfterValidator(_plain)]


class HeaderCards(Block):
    """Which cards tell the fields of the exposure record. What is left out is as the observatory's headers have it.

    None stands for a rule of the observatory that a `Source` can't express: see `translators.rubin`.
    """

    obs_id: Recorded = _from("OBSID")
    day_obs: Recorded = _from("DAYOBS")
    """Observing day, ``YYYYMMDD`` or ``YYYY-MM-DD``."""

    seq_num: Recorded = _from("SEQNUM")
    """Number of the exposure in its day; day and number make the exposure id."""

    controller: Source = Source()
    """Who ran the instrument, one letter of ``OCHPQS``, if exposure ids depend on it."""

    group: Source = _from("GROUPID")
    """The exposure id where no card tells it."""

    begin: Annotated[Recorded, AfterValidator(_plain)] = _from("MJD-BEG", "DATE-BEG", "MJD-OBS", "DATE-OBS")
    """A number is a modified Julian date, a text an ISO 8601 time."""

    end: Moment | None = None
    """As `begin`; where no card tells it, the begin and the exposure time."""

    time_system: Annotated[Needed, AfterValidator(_scale)] | None = None
    """``TAI``, ``UTC`` or ``TT``, of begin and end."""

    exposure_time: Needed = _from("EXPTIME")
    """Seconds."""

    dark_time: Source = _from("DARKTIME")
    """Seconds; the exposure time where no card tells it."""

    observation_type: Needed = _from("IMGTYPE")
    observation_reason: Needed | None = None
    science_program: Needed = _from("PROGRAM", default="unknown")
    target_name: Source = _from("OBJECT", default="UNKNOWN")
    physical_filter: Needed = Source(default="empty")
    can_see_sky: Source | None = None
    """Where no card tells it, as the observatory's cards and the type have it."""

    telescope: Source = _from("TELESCOP")
    detector_serial: Source = Source()

    def all_cards(self) -> tuple[str, ...]:
        """Return every card that is mentioned."""
        sources = [getattr(self, name) for name in type(self).model_fields]
        return tuple(sorted({card for source in sources if source is not None for card in source.cards}))


class Generator(Block):
    """An instrument that a file describes. ``{instrument}`` stands for its name."""

    name: Name
    """Instrument name in the Butler; in a file it is the key of the block."""

    match: Annotated[dict[Card, Expression], Field(min_length=1)]
    """Cards and the regular expressions that their whole texts match in a header of this instrument."""

    class_name: Annotated[Dotted, StringConstraints(max_length=64)]
    """Its class in the Science Pipelines."""

    formatter: Dotted
    """The class that reads its images."""

    translator: Name | None = None
    """Name of its translator, the instrument's by default."""

    translator_module: Dotted | None = None
    """Module of the Science Pipelines that has a translator of that name; used where it is installed."""

    dataset_type: Name = "raw"
    storage_class: Name = "Exposure"
    run: Annotated[str, StringConstraints(pattern=r"^[\w./-]+$")] = "{instrument}/raw/all"
    """Run that holds its images."""

    detector: Name
    """Full name of its one detector, whose id is 0."""

    filters: Annotated[dict[Name, Name], Field(min_length=1, default_factory=lambda: {"empty": "white"})]
    """Band of each physical filter."""

    pointing: Literal["none", "telescope"] = "none"
    """Whether its header tells where the telescope points, in the observatory's usual cards."""

    header: HeaderCards = HeaderCards()

    def __hash__(self) -> int:
        """Return a hash; the fields themselves have none."""
        return hash(self.name)

    @model_validator(mode="before")
    @classmethod
    def _named(cls, value: object) -> object:
        if isinstance(value, dict) and isinstance(name := value.get("name"), str):
            return {key: text.replace(_INSTRUMENT, name) if isinstance(text, str) else text
                    for key, text in value.items()}  # fmt: skip
        return value

    @model_validator(mode="after")
    def _filter_is_known(self) -> Generator:
        source = self.header.physical_filter
        if not source.cards and source.default not in self.filters:
            raise ValueError(f"header.physicalFilter: {source.default!r} is none of the filters")
        return self

    def mismatches(self, header: Mapping[str, object]) -> list[str]:
        """Return the cards of `match` that a header does not match."""
        texts = {card: cards.defined(header, card) for card in self.match}
        return [card for card, text in texts.items()
                if text is None or not re.fullmatch(self.match[card], str(text))]  # fmt: skip

    def camera(self) -> camera.Camera:
        """Return what the Butler needs of it."""
        detector = camera.Detector(
            id=DETECTOR, name=self.detector, raft=None, name_in_raft=None, purpose="SCIENCE",
            bbox=(0, 0, 0, 0), pixel_size=(0.0, 0.0), ref_pixel=(0.0, 0.0), offset=(0.0, 0.0), yaw=0.0,
        )  # fmt: skip
        largest = EXPOSURE_MAX_CONTROLLERS if self.header.controller.cards else EXPOSURE_MAX
        return camera.Camera(
            name=self.name,
            class_name=self.class_name,
            raw_formatter=self.formatter,
            visit_system=VISIT_SYSTEM,
            visit_max=largest,
            exposure_max=largest,
            detector_max=1,
            plate_scale=0.0,
            radial_coefficients=(),
            detectors=(detector,),
            physical_filters=tuple(camera.PhysicalFilter(*item) for item in self.filters.items()),
            raw_type=self.dataset_type,
            raw_storage_class=self.storage_class,
            raw_run_template=self.run,
            has_visits=False,
            decisive_cards=self.header.all_cards(),
        )
