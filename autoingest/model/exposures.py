"""What is told of an exposure's record in the Butler."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

import orjson

VisitState = Literal["none", "owed", "defined", ""]
"""State of an exposure's visit: ``none`` if it is not to be one; empty if it has not been looked at."""


@dataclass(frozen=True, slots=True)
class Span:
    """A timespan of the Butler; TAI in ISO form, None if it is unbounded."""

    begin: str | None
    end: str | None
    scale: str = "tai"


@dataclass(frozen=True, slots=True)
class ExposureSummary:
    """What is told of an exposure's record; fields are named as those of the Butler."""

    instrument: str
    obs_id: str
    exposure: int
    day_obs: int
    """YYYYMMDD."""
    seq_num: int | None
    group: str
    snap: int
    """Number of the exposure in its group, from 0."""
    observation_type: str
    observation_reason: str | None
    science_program: str | None
    target_name: str | None
    physical_filter: str
    can_see_sky: bool | None
    timespan: Span
    visits: tuple[int, ...]
    """Ids of the visits that it belongs to, or is to belong to."""
    repo: str
    """The repository, as it is configured."""
    collections: tuple[str, ...]
    """Runs of its datasets."""
    visit: VisitState

    @property
    def json(self) -> str:
        """The record without the state of its visit, as JSON."""
        fields = asdict(self)
        del fields["visit"]
        return orjson.dumps(fields).decode()
