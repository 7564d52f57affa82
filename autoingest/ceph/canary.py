"""Send test objects, and measure how long their notifications take from Ceph to Redis.

A canary is an empty object whose key contains `autoingest.model.notices.CANARY_FOLDER`. Role enqueue, once it has
checked the notification's secret, records the arrival in ``CANARY:{bucket}`` and puts nothing on a queue, whatever its
filter. Nothing else ever looks at a canary.
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
from ..model.buckets import configured_names
from ..model.notices import CANARY_FOLDER
from ..queue import keys
from ..queue.connection import REDIS_AWAY, cause
from .client import REFUSED_BY_QUEUE, Gateway, RefusedError
from .desired import DesiredState
from .schema import BucketSpec
from .state import read_state

Verdict = Literal["arrived", "stalled", "silent", "refused"]

POLL = 0.02
"""Seconds between two looks into Redis."""


@dataclass(frozen=True, slots=True)
class CanaryResult:
    """Result of the canaries of one bucket."""

    bucket: str
    verdict: Verdict
    message: str
    arrivals: dict[str, float | None]
    """Seconds from the PUT until Redis had it, by notification id; None if it has not arrived."""


@dataclass(frozen=True, slots=True)
class _Canary:
    """A test object for one notification of its bucket."""

    id: str
    key: str
    folder: str

    @property
    def field(self) -> str:
        return f"{self.key}/{self.id}"


async def send_canaries(
    gateway: Gateway, client: redis.asyncio.Redis, desired: DesiredState, buckets: Sequence[str], max_wait: float
) -> list[CanaryResult]:
    """Put canaries into every bucket that notifies this program, wait for their notifications, and clean up.

    Parameters
    ----------
    gateway
        Ceph.
    client
        Redis client that decodes responses.
    desired
        State that Ceph should have; one canary is sent for each declared notification whose topic has ``canary``.
    buckets
        Buckets as role enqueue has them configured.
    max_wait
        Seconds to wait for the last notification.

    Raises
    ------
    AutoingestError
        As `Gateway` does, except for a refused PUT, which is a result; `TransientError` if Redis is unavailable.
    """
    state = await read_state(gateway, desired.spec)
    configured = configured_names(buckets)
    runs = []
    for bucket in desired.spec.buckets:
        canaries = []
        for item in bucket.notifications:
            topic = desired.spec.topic(item.topic)
            if topic.canary and bucket.name_on_server in configured:
                folder = f"{item.prefix}{CANARY_FOLDER}"
                key = f"{folder}{uuid.uuid4()}{item.suffix}"
                canaries.append(_Canary(desired.spec.prefix(bucket) + desired.name(topic, state), key, folder))
        if canaries:
            runs.append(_send_to_bucket(gateway, client, bucket, configured[bucket.name_on_server], canaries, max_wait))
    # Let every bucket finish its cleanup before an error of one of them is raised.
    results = await asyncio.gather(*runs, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return [result for result in results if isinstance(result, CanaryResult)]


async def _send_to_bucket(
    gateway: Gateway,
    client: redis.asyncio.Redis,
    bucket: BucketSpec,
    configured: str,
    canaries: Sequence[_Canary],
    max_wait: float,
) -> CanaryResult:
    arrival_key = keys.canary(configured)
    sent: dict[str, float] = {}
    try:
        offset = await _clock_offset(client)
        try:
            for canary in canaries:
                sent[canary.id] = time.time() + offset
                await gateway.put(bucket, canary.key, b"")
            found = await _wait(client, arrival_key, [canary.field for canary in canaries], max_wait)
        except RefusedError as err:
            reason = (
                "a topic's queue is full because nobody accepts its notifications"
                if err.status == REFUSED_BY_QUEUE
                else "a topic that the bucket notifies may have been deleted"
            )
            message = f"{err}: {reason}; run verify"
            return CanaryResult(bucket.name, "refused", message, {canary.id: None for canary in canaries})
        finally:
            await _clean_up(gateway, client, bucket, configured, canaries)
    except REDIS_AWAY as err:
        raise TransientError(f"Redis is unavailable: {cause(err)}") from err
    arrivals = {
        canary.id: round(max(0.0, time_found - sent[canary.id]), 3) if time_found else None
        for canary, time_found in zip(canaries, found, strict=True)
    }
    return _result(bucket, arrivals, max_wait)


async def _clean_up(
    gateway: Gateway, client: redis.asyncio.Redis, bucket: BucketSpec, configured: str, canaries: Sequence[_Canary]
) -> None:
    """Remove these canaries, their records in Redis, and whatever an earlier, killed command has left behind.

    Everything is tried, even if something fails.
    """
    fields = [f"{canary.key}/{other.id}" for canary in canaries for other in canaries]
    old = datetime.now(UTC) - timedelta(seconds=keys.CANARY_EXPIRY)
    results = await asyncio.gather(
        *(gateway.delete(bucket, canary.key) for canary in canaries),
        *(gateway.delete(bucket, folder, old) for folder in {canary.folder for canary in canaries}),
        client.hdel(keys.canary(configured), *fields),
        client.zrem(keys.canary_times(configured), *fields),
        return_exceptions=True,
    )
    for result in results:
        if isinstance(result, BaseException):
            raise result


def _result(bucket: BucketSpec, arrivals: dict[str, float | None], max_wait: float) -> CanaryResult:
    late = [identifier for identifier, seconds in arrivals.items() if seconds is None]
    if not late:
        return CanaryResult(bucket.name, "arrived", "all notifications have arrived", arrivals)
    if len(late) < len(arrivals):
        message = (
            f"{', '.join(late)} did not arrive within {max_wait:g} s, although others did; run verify, and if it finds "
            "nothing wrong, give the topic a new name with apply --rotate"
        )
        return CanaryResult(bucket.name, "stalled", message, arrivals)
    message = (
        f"no notification arrived within {max_wait:g} s; run verify, then check that role enqueue is running, is "
        "configured for this bucket and does not count unauthentic records; if all of that is right, the topic is "
        "stalled: run apply --rotate"
    )
    return CanaryResult(bucket.name, "silent", message, arrivals)


async def _wait(
    client: redis.asyncio.Redis, arrival_key: str, fields: Sequence[str], max_wait: float
) -> list[float | None]:
    """Return when each canary arrived, by Redis's clock, once all have arrived or the time is up."""
    deadline = time.monotonic() + max_wait
    while True:
        values = await client.hmget(arrival_key, list(fields))
        if all(values) or time.monotonic() > deadline:
            return [float(json.loads(value)["first_time"]) if value else None for value in values]
        await asyncio.sleep(POLL)


async def _clock_offset(client: redis.asyncio.Redis) -> float:
    """Return the seconds by which Redis's clock is ahead of this machine's."""
    before = time.time()
    seconds, microseconds = await client.time()
    return float(seconds) + float(microseconds) / 1e6 - (before + time.time()) / 2
