"""Grouping a listing by exposures, whatever page they are on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from autoingest.operations.exposures import stored_exposures
from autoingest.operations.object_filter import ObjectFilter
from autoingest.store.listing import StoredObject

OBS_IDS = [f"MC_O_20251231_{number:06d}" for number in range(1, 4)]
KEYS = [
    f"LSSTCam/20251231/{obs_id}/{obs_id}{end}"
    for obs_id in OBS_IDS
    for end in ("_R22_S10.fits", "_R22_S10.json", "_R22_S11.fits", "_expectedSensors.json")
]


class Pages:
    """A listing that gives pages of a size."""

    def __init__(self, size: int) -> None:
        self.size = size

    async def objects(self, prefix: str) -> AsyncIterator[list[StoredObject]]:
        for first in range(0, len(KEYS), self.size):
            yield [StoredObject(f"b/{key}", 1, None, 5.0) for key in KEYS[first : first + self.size]]


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 12, 100])
async def test_exposures_are_whole_on_pages_of_any_size(size: int) -> None:
    listing: Any = Pages(size)
    found = [item async for group in stored_exposures(listing, "", ObjectFilter(r"\.fits$")) for item in group]
    assert [item.obs_id for item in found] == OBS_IDS
    assert {frozenset(item.detectors) for item in found} == {frozenset({"R22_S10", "R22_S11"})}
    assert [item.expected_key for item in found] == [key for key in KEYS if "expected" in key]
    assert {item.newest for item in found} == {5.0}
