"""From notices to the queue: duplicates are dropped, everything else is queued and counted.

The effect of an event depends on the state of the path's record and on the version (eTag) that it names:

==================== ======================= ================ =================== ==================
event                queued, waiting         working          ingested            dead, unknown
==================== ======================= ================ =================== ==================
seen before          duplicate               duplicate        duplicate           duplicate
same eTag            duplicate               duplicate        duplicate           queued
other eTag           queued (once)           queued           queued              queued
eTag not known       duplicate               queued           queued              queued
neither id nor eTag  queued: dupl., else q.  queued           queued              queued
==================== ======================= ================ =================== ==================

A request by an operator is treated like an event without id and eTag; if the path is queued with another eTag, the
record is updated.

Events of a path arrive in any order, and no clock can tell which version is the newest. Once events have named two
versions, the sizes in events are ignored: the worker that ingests the file asks the store, and records the version that
the store served. So the record converges whatever the order of the events, and each event queues its path only once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from hashlib import blake2b
from typing import Literal

import redis.asyncio

from ..app import metrics
from ..app.config import EnqueueConfig
from ..app.pacing import PacedLog
from ..model.notices import Notice, Rejection
from ..model.objects import ExposureObject, LfaObject
from . import keys
from .coalescing import CoalescedScript, Replicas
from .scripts import head, load
from .statistics import MAX_ANNEX_INSTRUMENTS, counted_as

Outcome = Literal["queued", "duplicate"]

MAX_EVENTS = 16
"""Maximum number of event ids remembered per file; beyond it the oldest is forgotten."""

MAX_CANARIES = 1000
"""Maximum number of canaries kept per bucket."""

MAX_STEPS = 1_000_000
"""Maximum number of queue entries that one call searches, about 10 ms of the server's time; it then returns early."""

ACCEPT = load(
    "accept",
    MAX_ANNEX_INSTRUMENTS=MAX_ANNEX_INSTRUMENTS,
    MAX_EVENTS=MAX_EVENTS,
    MAX_STEPS=MAX_STEPS,
    FROM_KAFKA_EXPIRY=keys.FROM_KAFKA_EXPIRY,
)
REJECT = load("reject")


class Intake:
    """Accepts notices from any number of concurrent callers.

    Each call returns only when its notices are durably in Redis, and waits while Redis is away. The caller sets a limit
    by cancelling, or by a deadline at which the call raises `TimeoutError`.

    A file counts as received each time it is queued; duplicates do not count. So the numbers of received and ingested
    files agree when all is done.

    Parameters
    ----------
    client
        Redis client that decodes responses.
    max_rejected
        Maximum number of rejected records kept per bucket.
    replicas
        Replicas that must confirm an accepted notice, if any.
    hold
        Whether callers wait while Redis is away; otherwise the error of Redis is raised, as commands need it.
    """

    def __init__(
        self,
        client: redis.asyncio.Redis,
        max_rejected: int = EnqueueConfig().max_rejected,
        replicas: Replicas | None = None,
        *,
        hold: bool = True,
    ) -> None:
        self._max_rejected = max_rejected
        self._events_forgotten = PacedLog("oldest events of a file dropped")
        self._records_forgotten = PacedLog("oldest records dropped")
        self._accept = CoalescedScript(client, ACCEPT, head(), replicas, hold=hold)
        self._reject = CoalescedScript(client, REJECT, head(), hold=hold)

    @property
    def is_busy(self) -> bool:
        """Whether anything is being written to Redis."""
        return self._accept.is_busy or self._reject.is_busy

    async def accept(
        self,
        notices: Sequence[tuple[Notice, ExposureObject | LfaObject]],
        deadline: float | None = None,
        *,
        from_kafka: bool = False,
    ) -> list[Outcome]:
        """Queue new files.

        Parameters
        ----------
        notices
            The notices.
        deadline
            Time of the event loop until which the caller waits.
        from_kafka
            Whether they came from Kafka; recorded for the old services that read the same topic.

        Returns
        -------
        outcomes
            One for each notice, in their order. If Redis fails after the step but before its answer, the step is
            repeated, and a notice that it has queued may be called a duplicate.
        """
        results = await self._accept([_arguments(notice, obj, from_kafka) for notice, obj in notices], deadline)
        for (notice, _), result in zip(notices, results, strict=True):
            if number := result // 2:
                metrics.EVENTS_FORGOTTEN.labels(notice.bucket).inc(number)
                self._events_forgotten.warn(notice.bucket, path=notice.path, number=number, limit=MAX_EVENTS)
        return ["queued" if result % 2 else "duplicate" for result in results]

    async def reject(self, rejections: Sequence[Rejection], deadline: float | None = None) -> None:
        """Record rejected notifications for operators, and count how often each arrives.

        Canaries are recorded separately, where their sender looks for them. When there are too many records, the least
        recently seen are dropped.
        """
        forgotten = await self._reject(
            [
                (
                    *(
                        (keys.canary(item.bucket), keys.canary_times(item.bucket), keys.CANARY_EXPIRY, MAX_CANARIES)
                        if item.is_canary
                        else (keys.rejected(item.bucket), keys.rejected_times(item.bucket), 0, self._max_rejected)
                    ),
                    item.key,
                    {"key": item.key, "reason": item.reason, "event": item.event},
                )
                for item in rejections
            ],
            deadline,
        )
        numbers: Counter[tuple[str, bool]] = Counter()
        for item, number in zip(rejections, forgotten, strict=True):
            numbers[item.bucket, item.is_canary] += number
        for (bucket, is_canary), number in (+numbers).items():
            metrics.REJECTED_FORGOTTEN.labels(bucket).inc(number)
            what, limit = ("canaries", MAX_CANARIES) if is_canary else ("rejected records", self._max_rejected)
            self._records_forgotten.warn((bucket, is_canary), bucket=bucket, what=what, number=number, limit=limit)

    async def close(self) -> None:
        """Cancel unfinished calls; call it when no caller is left."""
        await self._accept.close()
        await self._reject.close()


def _arguments(notice: Notice, obj: ExposureObject | LfaObject, from_kafka: bool) -> tuple[str, ...]:
    bucket, (instrument, day) = notice.bucket, counted_as(obj)
    number = highest = annex = ""
    if isinstance(obj, LfaObject):
        annex = keys.annex_instruments(bucket)
    elif day:
        number, highest = str(obj.seq_num), keys.max_seq(bucket, instrument, day)
    return (
        keys.queue(bucket), keys.dead(bucket), keys.waiting(bucket), keys.worker(bucket, ""), keys.received(bucket),
        keys.received_by_instrument(bucket, instrument) if instrument else "", highest, annex, notice.path,
        _identity(notice), notice.etag or "", "" if notice.size is None else str(notice.size),
        "" if notice.created is None else repr(notice.created), day, number,
        "1" if notice.demanded else "", keys.from_kafka(notice.path) if from_kafka else "",
        obj.instrument if day and isinstance(obj, ExposureObject) else "",
    )  # fmt: skip


def _identity(notice: Notice) -> str:
    """Return a key that identifies an event and its redeliveries; empty if there is none."""
    event = notice.event_id or (notice.etag and notice.created and repr(notice.created))
    return blake2b(f"{event}/{notice.etag}".encode(), digest_size=8).hexdigest() if event else ""
