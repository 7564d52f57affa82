"""Whether anything of a bucket can be read: only if nothing can, its store counts as away."""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from collections.abc import Collection, Sequence
from contextlib import suppress
from datetime import timedelta

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

PATIENCE = timedelta(seconds=4)
"""Time that a look for something readable may take."""

FRESH = timedelta(seconds=2)
"""Time for which a bucket that was found away is not asked again."""

TOLD = timedelta(seconds=60)
"""Time for which `trouble` reports a bucket that was found away."""

SAMPLE = 4
"""Objects that are tried at once."""

LENGTH = 32 * 1024
"""Bytes of each that are read, as of an image: some faults let a few bytes through."""

_LISTED = 1000


class Availability:
    """What is known of one bucket.

    A look costs requests, so it happens only when a read has failed and nothing else has been read since. It reads the
    beginning of objects that were served lately, else of some that lie beside the one that failed, else of any. Without
    the right to list the bucket, only objects that were served before can be tried.

    Parameters
    ----------
    store
        Client of the bucket.
    """

    def __init__(self, store: S3Store) -> None:
        self._store = store
        self._served: deque[str] = deque(maxlen=SAMPLE)
        self._served_at = float("-inf")
        self._look: asyncio.Task[None] | None = None
        self._why = ""
        self._away_at = float("-inf")

    def served(self, key: str) -> None:
        """Note that an object was read."""
        self._served_at = time.monotonic()
        self._served.append(key)
        self._why = ""

    def away(self) -> str | None:
        """Tell why the store is away, if that was found in the last moments."""
        return self._found(FRESH)

    def trouble(self) -> str | None:
        """Tell why the store is away, if that was found lately and nothing has been read since."""
        return self._found(TOLD)

    def _found(self, within: timedelta) -> str | None:
        fresh = time.monotonic() - self._away_at < within.total_seconds()
        return self._why if self._why and fresh else None

    async def is_away(self, failed: Collection[str], why: str, since: float) -> bool:
        """Tell whether nothing of the bucket can be read.

        Parameters
        ----------
        failed
            Keys of what could not be read.
        why
            Why, in words.
        since
            When that was tried, by the monotonic clock, seconds. Whatever was read later tells that the store is there.
        """
        if self._served_at >= since:
            return False
        if self._look is None or self._look.done():
            self._look = asyncio.create_task(self._look_around(failed))
        await asyncio.wait({self._look})
        if self._served_at >= since:
            return False
        self._why, self._away_at = why, time.monotonic()
        return True

    async def _look_around(self, failed: Collection[str]) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE.total_seconds()):
                if await self._any([key for key in self._served if key not in failed]):
                    return
                for folder in (os.path.dirname(next(iter(failed))) or None, None):
                    if await self._any(await self._sample(folder, failed)):
                        return

    async def _sample(self, folder: str | None, failed: Collection[str]) -> Sequence[str]:
        try:
            async for listed in obstore.list(self._store, prefix=folder, chunk_size=_LISTED):
                keys = [item["path"] for item in listed if item["size"] and item["path"] not in failed]
                return [keys[number * (len(keys) - 1) // (SAMPLE - 1)] for number in range(SAMPLE)] if keys else []
        except (BaseError, FileNotFoundError, ValueError):
            pass
        return []

    async def _any(self, keys: Sequence[str]) -> bool:
        tasks = [asyncio.create_task(self._read(key)) for key in dict.fromkeys(keys)]
        try:
            for task in asyncio.as_completed(tasks):
                if await task:
                    return True
        finally:
            for one in tasks:
                one.cancel()
        return False

    async def _read(self, key: str) -> bool:
        try:
            await obstore.get_range_async(self._store, key, start=0, length=LENGTH)
        except (BaseError, FileNotFoundError, ValueError):
            return False
        self.served(key)
        return True
