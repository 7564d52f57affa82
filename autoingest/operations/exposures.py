"""The store's objects, exposure by exposure."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from ..errors import UnknownObjectError
from ..model.objects import ExposureObject, parse
from ..store.listing import Listing, StoredObject
from .selection import Candidate, Sieve

_EXPECTED = "_expectedSensors.json"


@dataclass(slots=True)
class StoredExposure:
    """An exposure as the store has it."""

    instrument: str
    day_obs: str
    obs_id: str
    images: list[Candidate] = field(default_factory=list)
    """Objects that are to be ingested."""
    expected_key: str | None = None
    """Key of the list of its sensors, if there is one."""
    newest: float = 0.0
    """Epoch seconds at which its latest object was written, of whatever kind."""

    @property
    def detectors(self) -> set[str]:
        """Names of the detectors of which there are images."""
        return {
            candidate.obj.raft_sensor
            for candidate in self.images
            if isinstance(candidate.obj, ExposureObject) and candidate.obj.raft_sensor
        }


async def stored_exposures(listing: Listing, prefix: str, sieve: Sieve) -> AsyncIterator[list[StoredExposure]]:
    """Yield whole exposures, some at a time, in order of their keys.

    A listing is in order, so the objects of an exposure come one after the other, and no more than one page and one
    exposure are held.
    """
    exposures: dict[str, StoredExposure] = {}
    async for page in listing.objects(prefix):
        for stored in page:
            _sort(stored, exposures, sieve)
        # The last one may go on.
        if whole := list(exposures)[:-1]:
            yield [exposures.pop(obs_id) for obs_id in whole]
    yield list(exposures.values())


def _sort(stored: StoredObject, exposures: dict[str, StoredExposure], sieve: Sieve) -> None:
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
    exposure.images += sieve([stored]).candidates
