"""Objects of the store that are to be ingested."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ..errors import UnknownObjectError
from ..model.notices import CANARY_FOLDER, Notice
from ..model.objects import ExposureObject, LfaObject, parse
from ..store.listing import StoredObject


@dataclass(frozen=True, slots=True)
class Candidate:
    """An object that the filter lets through and whose key is understood."""

    stored: StoredObject
    obj: ExposureObject | LfaObject

    def notice(self) -> Notice:
        """Return the notice that has it queued whatever became of it before."""
        bucket, _, key = self.stored.path.partition("/")
        return Notice(
            bucket=bucket,
            key=key,
            path=self.stored.path,
            event_id=None,
            etag=self.stored.etag,
            size=self.stored.size,
            # The time from an object's creation to its ingest is no measure of this program where it was called later.
            created=None,
            demanded=True,
        )


@dataclass(slots=True)
class Sifted:
    """What a page of a listing holds."""

    candidates: list[Candidate] = field(default_factory=list)
    ignored: int = 0
    """Objects that the filter leaves out."""
    unknown: int = 0
    """Objects whose keys fit no known shape."""


class Sieve:
    """Takes the same objects as the enqueue role.

    Parameters
    ----------
    pattern
        Regular expression searched in the key.
    raft_sensor
        Only the images of this detector, if given.
    """

    def __init__(self, pattern: str, raft_sensor: str | None = None) -> None:
        self._search = re.compile(pattern).search
        self._raft_sensor = raft_sensor

    def __call__(self, page: Iterable[StoredObject]) -> Sifted:
        """Sift a page."""
        sifted = Sifted()
        for stored in page:
            key = stored.path.partition("/")[2]
            if CANARY_FOLDER in key or not self._search(key):
                sifted.ignored += 1
                continue
            try:
                obj = parse(stored.path)
            except UnknownObjectError:
                sifted.unknown += 1
                continue
            if self._raft_sensor and not (isinstance(obj, ExposureObject) and obj.raft_sensor == self._raft_sensor):
                sifted.ignored += 1
                continue
            sifted.candidates.append(Candidate(stored, obj))
        return sifted


def by_exposure(candidates: Sequence[Candidate]) -> dict[str, set[str]]:
    """Return the obs_ids of exposures' objects, by instrument."""
    found: dict[str, set[str]] = {}
    for candidate in candidates:
        if isinstance(candidate.obj, ExposureObject):
            found.setdefault(candidate.obj.instrument, set()).add(candidate.obj.obs_id)
    return found
