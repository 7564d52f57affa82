"""The state of an exposure, judged from the store, the Butler and Redis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["complete", "arriving", "missing", "dead", "dropped", "visit-owed", "incomplete", "not-in-store"]
VERDICTS: dict[Verdict, str] = {
    "complete": "everything is in the Butler",
    "arriving": "some files are on the way, or so young that they may be",
    "missing": "files are in the store, but neither in the Butler nor on the way",
    "dead": "files were given up; `autoingest queue dead` tells why",
    "dropped": "files were given up, and an operator has dropped them",
    "visit-owed": "all files are in the Butler, but not the visit",
    "incomplete": "expected images have not come to the store",
    "not-in-store": "the Butler holds files that the store does not list",
}
"""Every verdict with its meaning."""

NEEDS_ATTENTION: tuple[Verdict, ...] = ("missing", "dead", "visit-owed", "incomplete", "not-in-store")
"""Verdicts that an operator should look at."""


@dataclass(slots=True)
class ExposureReport:
    """The state of one exposure; counts are of image files."""

    bucket: str
    instrument: str
    day_obs: str
    obs_id: str
    expected: int | None = None
    """Images that it should have; None if neither the store nor this program knows."""
    in_store: int = 0
    in_butler: int = 0
    on_the_way: int = 0
    dead: int = 0
    dropped: int = 0
    """Given up, and dropped by an operator."""
    young: int = 0
    """Neither in the Butler nor on the way, but so recent that their notifications may still arrive."""
    missing: int = 0
    """In the store, but not in the Butler, on the way, dead, dropped or young."""
    absent: tuple[str, ...] = ()
    """Expected detectors without an image in the store or in the Butler."""
    recent: bool = False
    """Whether more files may still arrive in the store."""
    visit: Literal["defined", "owed", "none", "unknown"] = "unknown"
    """``none``: the exposure is not to be a visit; ``unknown``: the Butler does not know the exposure."""
    healed: int = 0
    """Files queued again, and owed visits recorded."""

    @property
    def verdict(self) -> Verdict:
        """The most serious verdict that applies."""
        if self.missing:
            return "missing"
        if self.dead:
            return "dead"
        if self.on_the_way or self.young or (self.absent and self.recent):
            return "arriving"
        if not self.in_store and self.in_butler:
            return "not-in-store"
        if self.visit == "owed":
            return "visit-owed"
        if self.absent:
            return "incomplete"
        return "dropped" if self.dropped else "complete"
