"""What Redis knows of files: their status, by path."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import redis.asyncio

from .places import Locator, Place


@dataclass(frozen=True, slots=True)
class FileStatus:
    """What Redis knows of a file."""

    place: Place | None
    """None if it is nowhere, or on several lists."""
    on_the_way: bool
    """Whether it is going to be ingested: it is on a list."""
    etag: str | None
    """Version that the record is about."""

    @property
    def stopped(self) -> bool:
        """Whether it is a dead letter, or an operator has dropped it."""
        return self.place in ("dead", "dropped")


async def file_statuses(client: redis.asyncio.Redis, bucket: str, paths: Sequence[str]) -> list[FileStatus]:
    """Look up files of one bucket, in their order."""
    locator = Locator(client)
    found = dict(zip(paths, await locator.locate(bucket, paths), strict=True))
    # The search for the lists of old workers takes a while.
    if missing := [path for path, located in found.items() if not located.places and not located.is_at_rest]:
        again = await locator.locate(bucket, missing, await locator.workers(bucket))
        found |= dict(zip(missing, again, strict=True))
    return [
        FileStatus(
            place=located.place,
            on_the_way=any(place != "dead" for place in located.places),
            etag=located.record.etag or None,
        )
        for located in (found[path] for path in paths)
    ]


async def replaced(client: redis.asyncio.Redis, etags: Mapping[str, str | None]) -> dict[str, str]:
    """Find the files of which the Butler has another version than the store.

    Parameters
    ----------
    client
        Redis client.
    etags
        eTags in the store, by path; None if unknown.

    Returns
    -------
    versions
        eTags that were ingested, by path, where they differ.
    """
    found = {}
    for path, record in zip(etags, await Locator(client).records(list(etags)), strict=True):
        known = record.etag if record.state == "ingested" else record.butler_etag
        if known and etags[path] not in (None, known):
            found[path] = known
    return found
