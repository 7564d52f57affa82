"""Finds the objects of the store that are to be ingested."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ..errors import UnknownObjectError
from ..model.notices import CANARY_FOLDER, Notice
from ..model.objects import ExposureObject, LfaObject, parse
from ..store.listing import StoredObject


@dataclass(frozen=True, slots=True)
class StoredFile:
    """An object that passes the filter and whose key is understood."""

    stored: StoredObject
    obj: ExposureObject | LfaObject

    def notice(self) -> Notice:
        """Return a notice that queues the object whatever happened to it before."""
        bucket, _, key = self.stored.path.partition("/")
        return Notice(
            bucket=bucket,
            key=key,
            path=self.stored.path,
            event_id=None,
            etag=self.stored.etag,
            size=self.stored.size,
            # Left out, as the delay since the object was created says nothing about this program.
            created=None,
            demanded=True,
        )


@dataclass(slots=True)
class FilteredPage:
    """What the filter made of a page of a listing."""

    files: list[StoredFile] = field(default_factory=list)
    ignored: int = 0
    """Objects that the filter leaves out."""
    unknown: int = 0
    """Objects whose keys fit no known shape."""


class ObjectFilter:
    """Selects the same objects as the enqueue role.

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

    def __call__(self, page: Iterable[StoredObject]) -> FilteredPage:
        """Filter a page."""
        filtered = FilteredPage()
        for stored in page:
            key = stored.path.partition("/")[2]
            if CANARY_FOLDER in key or not self._search(key):
                filtered.ignored += 1
                continue
            try:
                obj = parse(stored.path)
            except UnknownObjectError:
                filtered.unknown += 1
                continue
            if self._raft_sensor and not (isinstance(obj, ExposureObject) and obj.raft_sensor == self._raft_sensor):
                filtered.ignored += 1
                continue
            filtered.files.append(StoredFile(stored, obj))
        return filtered


def obs_ids_by_instrument(files: Sequence[StoredFile]) -> dict[str, set[str]]:
    """Return the obs_ids of exposures' objects, by instrument."""
    found: dict[str, set[str]] = {}
    for file in files:
        if isinstance(file.obj, ExposureObject):
            found.setdefault(file.obj.instrument, set()).add(file.obj.obs_id)
    return found
