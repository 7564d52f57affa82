"""Versions in the store that are not the ones that were ingested."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable

import redis.asyncio

from ..queue.audit import Finding
from ..queue.places import Locator
from ..store.listing import Listing


async def other_versions(
    client: redis.asyncio.Redis, listing: Listing, folders: Iterable[str], grace: float
) -> AsyncIterator[Finding]:
    """Yield the ingested files of which the store has another version.

    Parameters
    ----------
    client
        Redis client.
    listing
        A bucket.
    folders
        Folders of any buckets, with these, in which ingested files are.
    grace
        Seconds for which a new version is left alone: its notification may be under way.

    Raises
    ------
    TransientError, ConfigurationError
        If the store does not answer.
    """
    for folder in sorted(folders):
        bucket, _, prefix = folder.partition("/")
        if bucket != listing.bucket:
            continue
        async for page in listing.objects(f"{prefix}/"):
            etags = {stored.path: stored.etag for stored in page if time.time() - stored.modified > grace}
            for path, record in zip(etags, await Locator(client).records(list(etags)), strict=True):
                if record.state == "ingested" and record.etag and etags[path] not in (None, record.etag):
                    where = [f"ingested with eTag {record.etag}", f"in the store with eTag {etags[path]}"]
                    yield Finding(path, "other-version", record.state, where)
