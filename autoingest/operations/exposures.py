"""The store's objects, exposure by exposure."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from ..errors import UnknownObjectError
from ..model.objects import ExposureObject, parse
from ..store.listing import Listing, StoredObject
from .object_filter import ObjectFilter, StoredFile

_EXPECTED = "_expectedSensors.json"


@dataclass(slots=True)
class StoredExposure:
    """An exposure as the store has it."""

    instrument: str
    day_obs: str
    obs_id: str
    images: list[StoredFile] = field(default_factory=list)
    """Objects that are to be ingested."""
    expected_key: str | None = None
    """Key of the list of its sensors, if there is one."""
    newest: float = 0.0
    """Epoch seconds at which its latest object was written, of whatever kind."""

    @property
    def detectors(self) -> set[str]:
        """Names of the detectors of which there are images."""
        return {
            file.obj.raft_sensor
            for file in self.images
            if isinstance(file.obj, ExposureObject) and file.obj.raft_sensor
        }


async def stored_exposures(
    listing: Listing, prefix: str, object_filter: ObjectFilter
) -> AsyncIterator[list[StoredExposure]]:
    """Yield whole exposures, some at a time, in order of their keys.

    A listing is in order, so the objects of an exposure come one after the other, and no more than one page and one
    exposure are held.
    """
    exposures: dict[str, StoredExposure] = {}
    async for page in listing.objects(prefix):
        for stored in page:
            _sort(stored, exposures, object_filter)
        # The last one may go on.
        if whole := list(exposures)[:-1]:
            yield [exposures.pop(obs_id) for obs_id in whole]
    yield list(exposures.values())


def _sort(stored: StoredObject, exposures: dict[str, StoredExposure], object_filter: ObjectFilter) -> None:
    try:
        obj = parse(stored.path)
    except UnknownObjectError:
        return
    if not isinstance(obj, ExposureObject):
        return
    exposure = exposures.setdefault(obj.obs_id, StoredExposure(obj.instrument, obj.day_obs, obj.obs_id))
    exposure.newest = max(exposure.newest, stored.modified)
    if obj.filename == obj.obs_id + _EXPECTED:
        exposure.expected_key = stored.path.partition("/")[2]
    exposure.images += object_filter([stored]).files
