"""Dead letters and rejected records: finding them, putting them back on the queue, removing them."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
import redis.asyncio

from ..errors import UnknownObjectError
from ..model.objects import ExposureObject, parse
from ..model.text import printable
from . import keys
from .operator_log import MOST_ENTRIES, note, operator
from .places import CHUNK
from .scripts import head, load

MALFORMED = "malformed"
"""Reason of a record that is not a JSON object; its content is shown as the exception."""

REASONS = (
    "missing", "unreadable", "metadata", "conflict", "no-exposure", "crash", "unknown", "failed", MALFORMED,
)  # fmt: skip
"""Every reason of a dead letter."""

FAR = 253402300800
"""Epoch seconds of the year 10000; later times are not believed."""

REQUEUE = load("requeue")
DROP = load("drop")


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A file that was given up."""

    bucket: str
    path: str
    reason: str
    """One of `autoingest.errors.REASONS`."""
    exception: str
    attempts: int
    first_time: float | None
    """Epoch seconds of the first failure."""
    last_time: float
    """Epoch seconds of the last failure."""
    worker: str
    """The worker that gave it up."""
    etag: str | None


@dataclass(frozen=True, slots=True)
class RejectedRecord:
    """A notification that could not be used."""

    bucket: str
    """``-`` if it named no configured bucket."""
    path: str
    """``{bucket}/{key}`` with the key as it was received."""
    key: str
    """As received; begins with the name of the bucket where `bucket` is ``-``."""
    reason: str
    event: str | None
    count: int
    """How often it came."""
    first_time: float
    """Epoch seconds."""
    last_time: float
    """Epoch seconds."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Criteria by which an operator selects records; None or empty matches all."""

    day: str | None = None
    """Observing day, ``YYYYMMDD``."""
    obs_id: str | None = None
    reason: str | None = None
    """The reason of a dead letter, or any part of the reason of a rejected record."""
    older: float | None = None
    """Seconds since the last failure, at least."""
    younger: float | None = None
    """Seconds since the last failure, at most."""
    paths: frozenset[str] = frozenset()
    """Exact, or as `printable` shows them."""

    @property
    def is_everything(self) -> bool:
        """Whether every record matches."""
        return self == Selection()

    def takes(self, item: DeadLetter | RejectedRecord, now: float) -> bool:
        """Return whether a record matches."""
        if self.paths and not {item.path, printable(item.path)} & self.paths:
            return False
        if self.reason and not (
            item.reason == self.reason if isinstance(item, DeadLetter) else self.reason in item.reason
        ):
            return False
        age = now - item.last_time
        if (self.older is not None and age < self.older) or (self.younger is not None and age > self.younger):
            return False
        if self.day is None and self.obs_id is None:
            return True
        day, obs_id = _names(item.path)
        return self.day in (None, day) and self.obs_id in (None, obs_id)


async def dead_letters(
    client: redis.asyncio.Redis, buckets: Iterable[str], selection: Selection
) -> AsyncIterator[DeadLetter]:
    """Yield the matching dead letters, in no particular order."""
    for bucket in buckets:
        async for path, content in _content(client, keys.dead(bucket)):
            letter = DeadLetter(
                bucket=bucket,
                path=path,
                reason=str(content.get("reason", "")),
                exception=str(content.get("exception", "")),
                attempts=int(_number(content, "attempts") or 0),
                first_time=_number(content, "first_time"),
                last_time=_number(content, "last_time") or 0.0,
                worker=str(content.get("worker", "")),
                etag=content.get("etag"),
            )
            if selection.takes(letter, time.time()):
                yield letter


async def rejected_records(
    client: redis.asyncio.Redis, buckets: Iterable[str], selection: Selection
) -> AsyncIterator[RejectedRecord]:
    """Yield the matching rejected records, in no particular order."""
    for bucket in buckets:
        async for key, content in _content(client, keys.rejected(bucket)):
            record = RejectedRecord(
                bucket=bucket,
                path=f"{bucket}/{key}",
                key=key,
                reason=": ".join(str(content[name]) for name in ("reason", "exception") if content.get(name)),
                event=content.get("event"),
                count=int(_number(content, "count") or 0),
                first_time=_number(content, "first_time") or 0.0,
                last_time=_number(content, "last_time") or 0.0,
            )
            if selection.takes(record, time.time()):
                yield record


async def requeue(client: redis.asyncio.Redis, bucket: str, paths: Sequence[str]) -> list[str]:
    """Put dead files back on the queue, with as many attempts as a new file has.

    Returns
    -------
    paths
        Those that went to the queue, without those that were no longer dead letters.
    """
    return await _each(client, REQUEUE, bucket, [keys.dead(bucket), keys.queue(bucket)], paths)


async def drop(client: redis.asyncio.Redis, bucket: str, paths: Sequence[str]) -> list[str]:
    """Remove dead letters; the files are not tried again unless a new notification or an operator queues them.

    Returns
    -------
    paths
        Those removed.
    """
    return await _each(client, DROP, bucket, [keys.dead(bucket)], paths)


async def drop_rejected(
    client: redis.asyncio.Redis, bucket: str, received: Sequence[str], act: str = "dropped rejected records"
) -> int:
    """Remove rejected records by their keys as received; return how many there were.

    Parameters
    ----------
    client
        Redis client that decodes responses.
    bucket
        Bucket with its profile, or ``-``.
    received
        Keys as received.
    act
        What the operators' log is told.
    """
    removed = 0
    for first in range(0, len(received), CHUNK):
        part = received[first : first + CHUNK]
        async with client.pipeline(transaction=True) as step:
            step.hdel(keys.rejected(bucket), *part)
            step.zrem(keys.rejected_times(bucket), *part)
            note(step, act, bucket, part)
            removed += int((await step.execute())[0])
    return removed


async def _each(
    client: redis.asyncio.Redis, script: str, bucket: str, lists: list[str], paths: Sequence[str]
) -> list[str]:
    run = client.register_script(script)
    done: list[str] = []
    for first in range(0, len(paths), CHUNK):
        done += await run(
            [*lists, keys.OPERATOR_LOG],
            [*head(), bucket, operator(), MOST_ENTRIES, *paths[first : first + CHUNK]],
        )
    return done


async def _content(client: redis.asyncio.Redis, key: str) -> AsyncIterator[tuple[str, dict[str, Any]]]:
    cursor = -1
    while cursor:
        cursor, found = await client.hscan(key, max(cursor, 0), count=CHUNK)
        assert isinstance(found, dict)
        for name, text in found.items():
            try:
                content = orjson.loads(text)
            except orjson.JSONDecodeError:
                content = None
            if not isinstance(content, dict):
                content = {"reason": MALFORMED, "exception": printable(str(text))}
            yield str(name), content


def _number(content: dict[str, Any], name: str) -> float | None:
    value = content.get(name)
    return value if isinstance(value, int | float) and 0 <= value < FAR else None


def _names(path: str) -> tuple[str | None, str | None]:
    """Return day and obs_id of a path; None where they are unknown."""
    try:
        obj = parse(path)
    except UnknownObjectError:
        return None, None
    return (obj.day_obs, obj.obs_id) if isinstance(obj, ExposureObject) else (obj.obs_day, None)
