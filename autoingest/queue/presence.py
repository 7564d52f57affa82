"""Presence keys: where the image of a group, snap and detector is."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import redis.asyncio

from ..model.cameras import CAMERAS
from ..model.objects import ExposureObject, LfaObject
from . import keys
from .health import without_wrong_type
from .scripts import load

INSTRUMENTS = {value: name for name, camera in CAMERAS.items() for value in camera.instrume}
"""Canonical instrument name, by the header's ``INSTRUME`` in lower case."""

MAX_SNAPS = 1000
"""Larger numbers of images in a group are not believed."""

STREAM_LENGTH = 5000
"""Approximate number of arrivals in the stream: only those of the last seconds matter, to wake those who wait."""

LOOKUP_TIMEOUT = 0.7
"""Time limit in seconds for a lookup in Redis; clients of presence wait 1.0 s in total."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """An image that has arrived."""

    instrument: str
    """Canonical name."""
    group: str
    snap: int
    """Counts from 0."""
    raft_sensor: str
    """``R22_S11``."""
    url: str
    """``s3://`` and the object's path."""
    obs_id: str = ""
    """Of the object's key."""
    size: int | None = None
    """Size of the object in bytes."""
    etag: str | None = None
    """eTag of the object, without quotes."""
    snaps: int | None = None
    """Number of images in the group."""


def arrival(
    header: Mapping[str, object], obj: ExposureObject | LfaObject, size: int | None = None, etag: str | None = None
) -> Arrival | None:
    """Find out from a header which image has arrived.

    Parameters
    ----------
    header
        Cards as they are in the file. The instrument is ``INSTRUME``, or that of the object's key if the card is
        missing or unknown; the detector is ``RAFTBAY`` and ``CCDSLOT``, or that of the file name.
    obj
        The object.
    size
        Its size in bytes.
    etag
        Its eTag.

    Returns
    -------
    arrival
        None for an object of the Large File Annex, for a guider, which is not part of a group, and if group, snap or
        detector is unknown.
    """
    if isinstance(obj, LfaObject) or obj.is_guider:
        return None
    group, index = _group(header.get("GROUPID")), _whole(header.get("CURINDEX"))
    raft, sensor = header.get("RAFTBAY"), header.get("CCDSLOT")
    raft_sensor = f"{raft}_{sensor}" if raft and sensor else obj.raft_sensor
    if not group or index is None or index < 1 or raft_sensor is None:
        return None
    instrument = INSTRUMENTS.get(str(header.get("INSTRUME")).lower(), obj.instrument)
    snaps = _whole(header.get("MAXINDEX"))
    snaps = snaps if snaps is not None and 0 < snaps <= MAX_SNAPS else None
    return Arrival(instrument, group, index - 1, raft_sensor, obj.url, obj.obs_id, size, etag, snaps)


def _group(value: object) -> str | None:
    """Return a group's name as text; a header may hold it as a number."""
    if isinstance(value, str):
        return value
    number = _whole(value)
    return None if number is None else str(number)


def _whole(value: object) -> int | None:
    """Return a whole number, whether a number or a text holds it."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str | int | float):
        try:
            number = float(value)
            return int(number) if number.is_integer() else None
        except (ValueError, OverflowError):
            return None
    return None


RECORD = load("record_presence")


class GroupKeys:
    """Writes and reads the presence keys.

    Lookups that arrive while others are in progress share the next round trip, so that hundreds of simultaneous lookups
    need one connection.

    Parameters
    ----------
    client
        Redis client that decodes responses.
    expiry
        Seconds for which an arrival is remembered.
    delete_on_sight
        Whether a lookup removes what it finds.
    """

    def __init__(self, client: redis.asyncio.Redis, expiry: float, *, delete_on_sight: bool = False) -> None:
        self._redis = client
        self._record = client.register_script(RECORD)
        self._expiry_ms = max(1, round(expiry * 1000))
        self._delete_on_sight = delete_on_sight
        self._asked: list[tuple[str, asyncio.Future[str | None]]] = []
        self._answering: asyncio.Task[None] | None = None

    async def record(self, arrivals: Sequence[Arrival]) -> None:
        """Record arrivals in one round trip; of two images with the same key, that of the newer exposure is kept."""
        if not arrivals:
            return
        names, values = list[str](), list[str | int]()
        for item in arrivals:
            names.append(keys.group(item.instrument, item.group, item.snap, item.raft_sensor))
            names.append(keys.arrivals(item.instrument, item.group))
            rest = json.dumps({"url": item.url, "size": item.size, "etag": item.etag})
            values += [item.url, item.instrument, item.group, item.snap, item.raft_sensor, item.obs_id, rest]
            values.append("" if item.snaps is None else item.snaps)
        await self._record(
            keys=[*names, keys.ARRIVAL_STREAM, keys.ARRIVALS_SINCE], args=[self._expiry_ms, STREAM_LENGTH, *values]
        )

    async def lookup(self, instrument: str, group: str, snap: int, raft_sensor: str) -> str | None:
        """Return the URL of an image; None if it has not arrived.

        Raises
        ------
        TimeoutError
            If Redis does not answer within `LOOKUP_TIMEOUT`; other errors of Redis as they are.
        """
        future: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        self._asked.append((keys.group(instrument, group, snap, raft_sensor), future))
        if self._answering is None:
            self._answering = asyncio.create_task(self._answer())
        return await future

    async def _answer(self) -> None:
        try:
            while self._asked:
                asked, self._asked = self._asked, []
                try:
                    # A lookup may have to wait for the one before it. A timeout for each would cost a tenth of it.
                    async with asyncio.timeout(LOOKUP_TIMEOUT / 2):
                        urls = await self._fetch([key for key, _ in asked])
                except Exception as err:  # the error goes to the callers
                    for _, future in asked:
                        if not future.done():
                            future.set_exception(err)
                else:
                    for (_, future), url in zip(asked, urls, strict=True):
                        if not future.done():
                            future.set_result(url)
        finally:
            self._answering = None

    async def _fetch(self, names: list[str]) -> list[str | None]:
        if not self._delete_on_sight:
            return cast(list[str | None], await self._redis.mget(names))
        async with self._redis.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.getdel(name)
            return [without_wrong_type(reply) for reply in await pipe.execute(raise_on_error=False)]
