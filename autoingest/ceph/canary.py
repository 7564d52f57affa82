"""Whether a new object's notification finds its way from Ceph to Redis, and how long it takes.

A canary is an empty object whose key holds `autoingest.model.notices.CANARY_FOLDER`. Role enqueue puts its
notification, once it is found authentic, into ``CANARY:{bucket}`` instead of any queue, whatever its filter says;
nothing else ever looks at it.
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

import redis.asyncio

from ..errors import TransientError
from ..model.notices import CANARY_FOLDER
from ..queue import keys
from ..queue.connection import REDIS_AWAY, cause
from .client import REFUSED_BY_QUEUE, Gateway, RefusedError
from .desired import Wanted
from .schema import BucketSpec
from .state import read_state

Verdict = Literal["arrived", "stalled", "silent", "refused"]

POLL = 0.02
"""Seconds between two looks into Redis."""


@dataclass(frozen=True, slots=True)
class Flight:
    """What became of one bucket's canaries."""

    bucket: str
    verdict: Verdict
    message: str
    arrivals: dict[str, float | None]
    """Seconds from the PUT until Redis had it, by id of the notification; None: it has not arrived."""


@dataclass(frozen=True, slots=True)
class _Canary:
    """One object, for one notification of its bucket."""

    id: str
    key: str
    folder: str

    @property
    def field(self) -> str:
        return f"{self.key}/{self.id}"


async def fly(
    gateway: Gateway, client: redis.asyncio.Redis, wanted: Wanted, buckets: Sequence[str], patience: float
) -> list[Flight]:
    """Let canaries fly from each bucket that notifies this program, and clean up.

    Parameters
    ----------
    gateway
        Ceph.
    client
        Redis client that decodes responses.
    wanted
        What Ceph is to hold; a canary is sent for each declared notification whose topic says so.
    buckets
        Buckets as role enqueue has them configured.
    patience
        Seconds to wait for the last notification.

    Raises
    ------
    AutoingestError
        As `Gateway` does, but for a refused PUT; `TransientError` if Redis is away.
    """
    state = await read_state(gateway, wanted.spec)
    configured = {bucket.rpartition("@")[2]: bucket for bucket in buckets}
    flights = []
    for bucket in wanted.spec.buckets:
        canaries = []
        for item in bucket.notifications:
            topic = wanted.spec.topic(item.topic)
            if topic.canary and bucket.bare in configured:
                folder = f"{item.prefix}{CANARY_FOLDER}"
                key = f"{folder}{uuid.uuid4()}{item.suffix}"
                canaries.append(_Canary(wanted.spec.prefix(bucket) + wanted.name(topic, state), key, folder))
        if canaries:
            flights.append(_fly(gateway, client, bucket, configured[bucket.bare], canaries, patience))
    # All of them clean up, and only then is told which one failed.
    results = await asyncio.gather(*flights, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return [result for result in results if isinstance(result, Flight)]


async def _fly(
    gateway: Gateway,
    client: redis.asyncio.Redis,
    bucket: BucketSpec,
    configured: str,
    canaries: Sequence[_Canary],
    patience: float,
) -> Flight:
    notes = keys.canary(configured)
    sent: dict[str, float] = {}
    try:
        ahead = await _ahead(client)
        try:
            for canary in canaries:
                sent[canary.id] = time.time() + ahead
                await gateway.put(bucket, canary.key, b"")
            found = await _wait(client, notes, [canary.field for canary in canaries], patience)
        except RefusedError as err:
            reason = (
                "a topic's queue is full, as nobody takes its notifications"
                if err.status == REFUSED_BY_QUEUE
                else "perhaps a topic that the bucket notifies has been deleted"
            )
            message = f"{err}: {reason}; run verify"
            return Flight(bucket.name, "refused", message, {canary.id: None for canary in canaries})
        finally:
            await _clean_up(gateway, client, bucket, configured, canaries)
    except REDIS_AWAY as err:
        raise TransientError(f"Redis does not do its work: {cause(err)}") from err
    arrivals = {
        canary.id: round(max(0.0, time_found - sent[canary.id]), 3) if time_found else None
        for canary, time_found in zip(canaries, found, strict=True)
    }
    return _judge(bucket, arrivals, patience)


async def _clean_up(
    gateway: Gateway, client: redis.asyncio.Redis, bucket: BucketSpec, configured: str, canaries: Sequence[_Canary]
) -> None:
    """Remove canaries and their notes, and what earlier ones that were killed have left; one failure stops no other."""
    notes = [f"{canary.key}/{other.id}" for canary in canaries for other in canaries]
    old = datetime.now(UTC) - timedelta(seconds=keys.CANARY_EXPIRY)
    results = await asyncio.gather(
        *(gateway.delete(bucket, canary.key) for canary in canaries),
        *(gateway.delete(bucket, folder, old) for folder in {canary.folder for canary in canaries}),
        client.hdel(keys.canary(configured), *notes),
        client.zrem(keys.canary_times(configured), *notes),
        return_exceptions=True,
    )
    for result in results:
        if isinstance(result, BaseException):
            raise result


def _judge(bucket: BucketSpec, arrivals: dict[str, float | None], patience: float) -> Flight:
    late = [identifier for identifier, seconds in arrivals.items() if seconds is None]
    if not late:
        return Flight(bucket.name, "arrived", "every notification has arrived", arrivals)
    if len(late) < len(arrivals):
        message = (
            f"stalled: {', '.join(late)} did not arrive within {patience:g} s while others did; run verify, and if it "
            "finds nothing wrong, give the topic a new name with apply --rotate"
        )
        return Flight(bucket.name, "stalled", message, arrivals)
    message = (
        f"silence: no notification within {patience:g} s; run verify, and see whether role enqueue runs, knows "
        "the bucket and counts unauthentic records; if nothing is wrong there the topic is stalled: apply --rotate"
    )
    return Flight(bucket.name, "silent", message, arrivals)


async def _wait(client: redis.asyncio.Redis, notes: str, fields: Sequence[str], patience: float) -> list[float | None]:
    """Return when each field came, by the clock of Redis, once all have or the time is up."""
    deadline = time.monotonic() + patience
    while True:
        values = await client.hmget(notes, list(fields))
        if all(values) or time.monotonic() > deadline:
            return [float(json.loads(value)["first_time"]) if value else None for value in values]
        await asyncio.sleep(POLL)


async def _ahead(client: redis.asyncio.Redis) -> float:
    """Seconds by which the clock of Redis is ahead of ours."""
    before = time.time()
    seconds, microseconds = await client.time()
    return float(seconds) + float(microseconds) / 1e6 - (before + time.time()) / 2
