"""Returns the files of dead workers, and deferred files that are due, to the queues."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import redis.asyncio
import structlog

from ..app import metrics
from . import keys
from .places import holders_of_leases
from .scripts import GIVE_BACK, GIVE_BACK_OLD, RELEASE, head

RELEASE_AT_ONCE = 500
"""Waiting files that one script call releases; a longer call would block every other client."""

RECHECKS = 10.0
"""Rate, in files per second, at which waiting guiders are released to check whether their exposure was ingested by
another program: low enough not to delay new files. An exposure ingested by this program wakes its files at once."""

SCAN_COUNT = 5000
"""Keys that one step of the search for old workers looks at: about 1 ms of the server's time."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Reclaimed:
    """Numbers of files that one pass has returned to the queues."""

    from_dead: int
    """Files of workers whose lease had run out."""
    from_old: int
    """Files of old workers, which hold no lease."""
    released: int
    """Files that had waited long enough."""


class Reclaimer:
    """Returns files to the queues. Any number of reclaimers may run at once, since every step is atomic.

    Parameters
    ----------
    client
        Redis client that decodes responses.
    buckets
        Buckets with their profiles.
    old_worker_idle
        Seconds without a change after which the list of a worker without a lease is reclaimed.
    interval
        Seconds between two passes.
    """

    def __init__(
        self, client: redis.asyncio.Redis, buckets: Sequence[str], old_worker_idle: float, interval: float = 5.0
    ) -> None:
        self._redis = client
        self._buckets = buckets
        self._old_worker_idle = old_worker_idle
        self._interval = interval
        self._give_back = client.register_script(GIVE_BACK)
        self._give_back_old = client.register_script(GIVE_BACK_OLD)
        self._release = client.register_script(RELEASE)

    async def run_once(self) -> Reclaimed:
        """Make one pass over all buckets."""
        dead = old = released = 0
        listed = await self._listed()
        for bucket in self._buckets:
            leaseholders = await holders_of_leases(self._redis, bucket)
            for name in sorted(leaseholders):
                dead += await self._from_dead(bucket, name)
            for name in sorted(listed[bucket] - leaseholders):
                old += await self._from_old(bucket, name)
            released += await self.release_due(bucket)
        return Reclaimed(dead, old, released)

    async def release_due(self, bucket: str) -> int:
        """Return the files that are due to the queue; those that wait for exposures, a few at a time.

        Returns
        -------
        number
            Files that went to the queue.
        """
        lists = [keys.waiting(bucket), keys.queue(bucket)]
        arguments: list[str | float] = [
            *head(), keys.waiting_for(bucket, ""), RELEASE_AT_ONCE, self._interval,
            max(1, round(RECHECKS * self._interval)),
        ]  # fmt: skip
        number, total, rechecked, postponed = RELEASE_AT_ONCE, 0, 0, 0
        while number == RELEASE_AT_ONCE:
            number, rechecked, postponed = await self._release(lists, [*arguments, rechecked, postponed])
            total += number
        return total - postponed

    async def _from_dead(self, bucket: str, name: str) -> int:
        lists = [
            keys.worker(bucket, name),
            keys.queue(bucket),
            keys.lease(bucket, name),
            keys.leaseholders(bucket),
        ]
        return _report(bucket, name, int(await self._give_back(lists, [*head(name), 1])))

    async def _from_old(self, bucket: str, name: str) -> int:
        lists = [keys.worker(bucket, name), keys.queue(bucket), keys.leaseholders(bucket)]
        returned = int(await self._give_back_old(lists, [*head(name), self._old_worker_idle]))
        if returned < 0:
            log.warning(
                "age of an old worker's list unknown, nothing given back", bucket=bucket, worker=name,
                remedy="set maxmemory-policy to noeviction",
            )  # fmt: skip
        return _report(bucket, name, max(0, returned))

    async def _listed(self) -> defaultdict[str, set[str]]:
        """Names of all workers that have a list, by bucket."""
        names = defaultdict(set)
        async for key in self._redis.scan_iter(match=keys.worker("*", "*"), count=SCAN_COUNT):
            bucket, name = keys.worker_of(key)
            names[bucket].add(name)
        return names


def _report(bucket: str, name: str, returned: int) -> int:
    if returned:
        metrics.RECLAIMED.labels(bucket).inc(returned)
        log.warning("work reclaimed", bucket=bucket, worker=name, files=returned)
    return returned
