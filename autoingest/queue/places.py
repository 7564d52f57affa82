"""Where files are: according to their records, and according to the lists.

The old services take paths from the queue, and finish or give them up, without changing the state that this program
has written. So a state counts only if the path is where the state says.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal, cast

import redis.asyncio

from . import keys
from .scripts import head, load

Place = Literal["queued", "working", "waiting", "ingested", "dead", "dropped", "given up"]

CHUNK = 500
"""Paths per request."""

SLOW = 200_000
"""Entries of the queue that one atomic step may search: about 2 ms of the server's time."""

SCAN_COUNT = 2000
"""Keys that one step of a search looks at: less than 1 ms of the server's time."""

UNREADABLE = "unreadable"
"""State of a record that is of the wrong type."""

RECORDS = load("records", UNREADABLE=UNREADABLE)
LOCATE = load("locate", UNREADABLE=UNREADABLE)


@dataclass(frozen=True, slots=True)
class Record:
    """A file's record; empty strings where it holds nothing."""

    state: str = ""
    worker: str = ""
    recv_time: str = ""
    ingest_time: str = ""
    etag: str = ""
    butler_etag: str = ""
    failed: str = ""
    """Not empty if there is an exception."""

    @property
    def exists(self) -> bool:
        """Whether anything is on record."""
        return self != Record()

    @property
    def finished(self) -> bool:
        """Whether it has been ingested since it was last received."""
        return bool(self.ingest_time) and _seconds(self.ingest_time) >= _seconds(self.recv_time)


@dataclass(frozen=True, slots=True)
class Located:
    """A file's record and its places, as they were at one instant."""

    record: Record
    places: list[str]
    """``queued``, ``working: {worker}``, ``waiting``, ``dead``."""

    @property
    def place(self) -> Place | None:
        """Where the file is; None if it is nowhere, in two places, or in another than its record says."""
        return place_of(self.record, [place.partition(":")[0] for place in self.places])

    @property
    def is_at_rest(self) -> bool:
        """Whether the record alone shows that no worker or list has the file."""
        return self.record.state == "dropped" or self.record.finished


def place_of(record: Record, places: Sequence[str]) -> Place | None:
    """Return where a file is, from its record and the lists that contain it.

    Parameters
    ----------
    record
        What is on record of it.
    places
        ``queued``, ``working``, ``waiting`` or ``dead``, once for each entry.

    Returns
    -------
    place
        None if it is nowhere, in two places, or in another than its record says.
    """
    state = record.state
    if not places:
        if state in ("ingested", "dropped"):
            return state  # type: ignore[return-value]
        if state in ("", "queued", "working", "waiting") and record.finished:
            return "ingested"
        return "given up" if state in ("", "queued", "working") and record.failed else None
    if len(places) > 1:
        return None
    place = places[0]
    # Old services push and take paths without changing the state.
    agrees = (
        state in ("", place)
        or (state == "queued" and place == "working")
        or (state == "ingested" and place in ("queued", "working") and not record.finished)
    )
    return place if agrees else None  # type: ignore[return-value]


def _seconds(text: str) -> float:
    """Return a time; 0 if the text holds none."""
    try:
        return float(text)
    except ValueError:
        return 0.0


class Locator:
    """Looks files up, each in one atomic step. A key of the wrong type counts as empty.

    Reading the list of an old worker, which holds no lease, restarts the time after which the worker counts as dead.

    Parameters
    ----------
    client
        Redis client that decodes responses.
    """

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._redis = client
        self._records = client.register_script(RECORDS)
        self._locate = client.register_script(LOCATE)

    async def records(self, paths: Sequence[str]) -> list[Record]:
        """Return what is on record of files, in their order."""
        found: list[Record] = []
        for first in range(0, len(paths), CHUNK):
            reply = await self._records(args=[*head(), *paths[first : first + CHUNK]])
            found += [Record(*fields) for fields in reply]
        return found

    async def locate(self, bucket: str, paths: Sequence[str], workers: Collection[str] = ()) -> list[Located]:
        """Search the lists of a bucket for files.

        Parameters
        ----------
        bucket
            Bucket with its profile.
        paths
            The files.
        workers
            Workers whose lists are searched, in addition to the worker that a file's record names.

        Returns
        -------
        located
            In the order of `paths`.
        """
        names = sorted(workers)
        lists = [keys.queue(bucket), keys.waiting(bucket), keys.dead(bucket), keys.leaseholders(bucket)]
        found: list[Located] = []
        step = max(1, min(CHUNK, SLOW // (await self._depth(bucket) + 1)))
        for first in range(0, len(paths), step):
            arguments = [*head(), keys.worker(bucket, ""), str(len(names)), *names, *paths[first : first + step]]
            reply = await self._locate(lists, arguments)
            found += [Located(Record(*fields), places) for fields, places in reply]
        return found

    async def _depth(self, bucket: str) -> int:
        try:
            return int(await self._redis.llen(keys.queue(bucket)))
        except redis.ResponseError:  # of the wrong type
            return 0

    async def workers(self, bucket: str) -> set[str]:
        """Return the names of the workers that have a list."""
        scan = self._redis.scan_iter(match=keys.worker("*", "*"), count=SCAN_COUNT)
        found = [keys.worker_of(str(key)) async for key in scan]
        return {name for owner, name in found if owner == bucket}


async def holders_of_leases(client: redis.asyncio.Redis, bucket: str) -> set[str]:
    """Return the names of a bucket's workers that hold leases or held them; none if that key is of the wrong type."""
    key = keys.leaseholders(bucket)
    return cast(set[str], await client.smembers(key)) if await client.type(key) == "set" else set()
