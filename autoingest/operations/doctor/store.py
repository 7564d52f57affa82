"""Looks at a bucket of the object store."""

from __future__ import annotations

import time
from email.utils import parsedate_to_datetime

import aiohttp
import obstore
from obstore.exceptions import BaseError

from ...errors import ConfigurationError, TransientError
from ...model.checks import Check, clock, fail, ok
from ...store.failure import explain
from ...store.listing import StoredObject, open_listing
from ...store.profiles import Location, open_store, resolve

FIRST_BYTES = 2880
"""Bytes that are read of an object, a block of FITS."""


async def check_bucket(bucket: str) -> list[Check]:
    """List a bucket, read one of its objects, and compare the server's clock."""
    try:
        location = resolve(bucket)
    except ConfigurationError as err:
        return [fail(f"store {bucket}", str(err), "see the section on secrets in README.md")]
    return [*await _content(bucket), *await _clock(bucket, location)]


async def _content(bucket: str) -> list[Check]:
    listing = f"store {bucket} list"
    try:
        async with open_listing(bucket) as opened:
            objects: list[StoredObject] = await anext(opened.objects(""), [])
    except ConfigurationError as err:
        return [fail(listing, str(err), "correct buckets in the configuration, or the S3 profile")]
    except TransientError as err:
        return [fail(listing, str(err), "check the store, its URL, the keys and the bucket's policy")]
    found = [ok(listing, "works")]
    name = f"store {bucket} read"
    item = next((item for item in objects if item.size), None)
    if item is None:
        return [*found, ok(name, "not tried: the bucket is empty")]
    key = item.path.removeprefix(f"{bucket}/")
    try:
        await obstore.get_range_async(open_store(bucket), key, start=0, length=min(item.size, FIRST_BYTES))
    except (BaseError, FileNotFoundError, ValueError) as err:
        text = f"{item.path}: {explain(err).text}"
        return [*found, fail(name, text, "the keys need s3:GetObject on all objects of the bucket")]
    return [*found, ok(name, "works")]


async def _clock(bucket: str, location: Location) -> list[Check]:
    """Compare the clock of a server; nothing is told of one that does not answer, or gives no date."""
    if location.endpoint is None:
        return []
    try:
        timeout = aiohttp.ClientTimeout(total=10)
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(
                location.endpoint, ssl=location.tls() if location.endpoint.startswith("https") else True
            ) as answer,
        ):
            date = parsedate_to_datetime(answer.headers["Date"]).timestamp()
    except (aiohttp.ClientError, OSError, TimeoutError, KeyError, ValueError):
        return []
    return [clock(f"clock of store {bucket}", date - time.time(), uncertain=1.0)]
