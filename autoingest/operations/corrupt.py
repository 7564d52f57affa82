"""Images that are in the Butler but can't be read in the store, although their sidecars are intact."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterable

import redis.asyncio

from ..errors import MissingObjectError, PermanentError
from ..model.objects import ExposureObject, parse
from ..queue.audit import Finding
from ..queue.places import Locator
from ..store.fits import BLOCK
from ..store.listing import Listing, StoredObject
from ..store.reader import HeaderReader

AT_ONCE = 256
"""Number of images whose results are awaited together."""


async def corrupt_images(
    client: redis.asyncio.Redis, listing: Listing, folders: Iterable[str], number: int, requests: int
) -> AsyncIterator[Finding]:
    """Yield the ingested images of a random sample whose files are corrupt.

    The beginning of each file is read as if it had no sidecar: its header must be complete and belong to its key. Its
    size must be one that a FITS file can have. Damage of the pixels alone is not found.

    Parameters
    ----------
    client
        Redis client.
    listing
        A bucket.
    folders
        Folders of any buckets, with these, in which ingested files are.
    number
        Size of the sample.
    requests
        Number of images that are read at the same time.

    Raises
    ------
    TransientError, ConfigurationError
        If the store does not answer.
    """
    sample = await _sample(client, listing, folders, number)
    reader = HeaderReader(requests)
    for first in range(0, len(sample), AT_ONCE):
        for finding in await asyncio.gather(*(_check(reader, stored) for stored in sample[first : first + AT_ONCE])):
            if finding is not None:
                yield finding


async def _sample(
    client: redis.asyncio.Redis, listing: Listing, folders: Iterable[str], number: int
) -> list[StoredObject]:
    """Return ingested images, each of which is chosen with the same probability."""
    sample: list[StoredObject] = []
    seen = 0
    for folder in sorted(folders):
        bucket, _, prefix = folder.partition("/")
        if bucket != listing.bucket:
            continue
        async for page in listing.objects(f"{prefix}/"):
            records = await Locator(client).records([stored.path for stored in page])
            for stored, record in zip(page, records, strict=True):
                if record.state != "ingested":
                    continue
                seen += 1
                if len(sample) < number:
                    sample.append(stored)
                elif (place := random.randrange(seen)) < number:  # noqa: S311 - nothing secret
                    sample[place] = stored
    return sample


async def _check(reader: HeaderReader, stored: StoredObject) -> Finding | None:
    obj = parse(stored.path)
    why = ""
    if not isinstance(obj, ExposureObject):
        return None
    try:
        await reader.read(obj, stored.size, use_sidecar=False)
    except MissingObjectError:
        return None  # deleted since it was listed; reconcile finds that
    except PermanentError as err:
        why = str(err)
    if not why and stored.size % BLOCK:
        why = f"its size, {stored.size} bytes, is not a multiple of {BLOCK}: it is truncated"
    return Finding(stored.path, "corrupt", "ingested", [why]) if why else None
