"""Listing a bucket, page by page.

A prefix may end within a name, and keys are taken literally: one object with an unusual key (``a//b``) must not hide
its neighbours, as it does in clients that treat keys as paths.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import aiohttp
import structlog
from botocore.exceptions import BotoCoreError, ClientError

from ..errors import ConfigurationError, TransientError
from ..model.objects import CAMERA_CODES, INSTRUMENT_ALIASES, bare_etag
from .failure import in_words, one_line
from .profiles import open_client, resolve

T = TypeVar("T")

PAGE = 1000
"""Objects per request, the maximum of S3."""

LARGEST_CONTENT = 2**20
"""Maximum size in bytes of an object whose content is read."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object as the store lists it."""

    path: str
    """``{bucket}/{key}``, the bucket with its profile."""
    size: int
    """Bytes."""
    etag: str | None
    """Without quotes."""
    modified: float
    """When it was written, in epoch seconds."""


class Listing:
    """Lists one bucket.

    Parameters
    ----------
    client
        S3 client of the bucket's server.
    bucket
        Bucket with its profile.
    name
        Its name on the server.
    """

    def __init__(self, client: Any, bucket: str, name: str) -> None:
        self._client = client
        self._name = name
        self.bucket = bucket
        """Bucket with its profile."""

    async def objects(self, prefix: str) -> AsyncIterator[list[StoredObject]]:
        """Yield the objects whose keys begin with a prefix, in order of their keys, a page at a time.

        Raises
        ------
        TransientError
            If the store is away, or refuses.
        ConfigurationError
            If there is no such bucket.
        """
        async for page in self._pages(Prefix=prefix):
            yield [
                StoredObject(
                    path=f"{self.bucket}/{item['Key']}",
                    size=item["Size"],
                    etag=bare_etag(item.get("ETag", "")),
                    modified=item["LastModified"].timestamp(),
                )
                for item in page.get("Contents", ())
            ]

    async def folders(self, prefix: str) -> list[str]:
        """Return the prefixes, ending in a slash, one step below a prefix; raises as `objects` does."""
        return [
            item["Prefix"]
            async for page in self._pages(Prefix=prefix, Delimiter="/")
            for item in page.get("CommonPrefixes", ())
        ]

    async def read(self, key: str) -> bytes | None:
        """Return an object's content, or None if it does not exist or is too large; raises as `objects` does."""
        try:
            answer = await self._call(self._client.get_object(Bucket=self._name, Key=key))
        except _MissingError:
            return None
        if (size := answer["ContentLength"]) > LARGEST_CONTENT:
            log.warning("object is too large to be read", path=f"{self.bucket}/{key}", bytes=size)
            answer["Body"].close()
            return None
        body: bytes = await self._call(answer["Body"].read())
        return body

    async def _pages(self, **arguments: str) -> AsyncIterator[dict[str, Any]]:
        arguments |= {"Bucket": self._name}
        while True:
            try:
                page = await self._call(self._client.list_objects_v2(MaxKeys=PAGE, **arguments))
            except _MissingError:
                raise ConfigurationError(
                    f"the store has no bucket {self._name!r} (buckets: {self.bucket})", bucket=self.bucket
                ) from None
            yield page
            if not page.get("IsTruncated"):
                return
            arguments["ContinuationToken"] = page["NextContinuationToken"]

    async def _call(self, request: Awaitable[T]) -> T:
        try:
            return await request
        except ClientError as err:
            status = err.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
            if status == 404:
                raise _MissingError from None
            said = in_words(status, err.response.get("Error", {}).get("Code", ""))
            needs = "; s3:ListBucket and s3:GetObject are needed" if status in (401, 403) else ""
            raise TransientError(f"bucket {self.bucket}: {said}{needs}", bucket=self.bucket) from err
        except (BotoCoreError, aiohttp.ClientError, OSError) as err:
            raise TransientError(
                f"bucket {self.bucket}: the store is away: {one_line(err)}", bucket=self.bucket
            ) from err


@asynccontextmanager
async def open_listing(bucket: str) -> AsyncIterator[Listing]:
    """Open a bucket for listing.

    Parameters
    ----------
    bucket
        ``bucket`` or ``profile@bucket``.

    Raises
    ------
    ConfigurationError
        If the environment lacks the bucket's endpoint or credentials.
    """
    async with open_client(bucket) as client:
        yield Listing(client, bucket, resolve(bucket).bucket)


def is_lfa(bucket: str) -> bool:
    """Return whether a bucket belongs to the Large File Annex, whose keys name no exposure."""
    return "rubinobs-lfa-" in bucket


def exposure_prefixes(code: str | None, rest: str) -> list[str]:
    """Return the prefixes that keys of exposures may have.

    Parameters
    ----------
    code
        Camera code of the obs_id, ``MC``; None stands for all cameras.
    rest
        What follows the instrument's folder, ``20251231/``.

    Returns
    -------
    prefixes
        One for each folder that the camera's instruments may have; most are empty.
    """
    names = [name for name, own in CAMERA_CODES.items() if code in (None, own)]
    names += [alias for alias, name in INSTRUMENT_ALIASES.items() if name in names]
    return [f"{name}/{rest}" for name in names]


async def day_prefixes(listing: Listing, day_obs: str) -> list[str]:
    """Return the prefixes that contain everything of a day.

    In the Large File Annex the day follows one or two components, which must be listed first: one request for each
    CSC and each generator.
    """
    if not is_lfa(listing.bucket):
        return exposure_prefixes(None, f"{day_obs}/")
    year, month, day = day_obs[:4], day_obs[4:6], day_obs[6:]
    found = []
    for first in await listing.folders(""):
        below = await listing.folders(first)
        if f"{first}{year}/" in below:
            found.append(f"{first}{year}/{month}/{day}/")
        found += [f"{second}{year}/{month}/{day}/" for second in below if not _is_year(second)]
    return found


def _is_year(prefix: str) -> bool:
    name = prefix.rstrip("/").rpartition("/")[2]
    return len(name) == 4 and name.isdigit()


class _MissingError(Exception):
    """The store answered 404."""
