"""Counts and logs messages, from the webhook and from Kafka alike."""

from __future__ import annotations

import time
from collections.abc import Sequence

from ..app import metrics
from ..app.pacing import PacedLog
from ..model.notices import NO_BUCKET, Rejection
from ..queue.intake import Outcome
from .records import ParsedMessage


class _BucketMetrics:
    """The counters of one bucket."""

    def __init__(self, bucket: str) -> None:
        self.received = metrics.RECEIVED.labels(bucket)
        self.ignored = metrics.IGNORED.labels(bucket)
        self.rejected = metrics.REJECTED.labels(bucket)
        self.duplicate = metrics.DUPLICATE.labels(bucket)
        self.queued = metrics.QUEUED.labels(bucket)
        self.to_queued = metrics.TO_QUEUED.labels(bucket)


class Counts:
    """Counts records and what becomes of them.

    Parameters
    ----------
    buckets
        Buckets as configured.
    """

    def __init__(self, buckets: Sequence[str]) -> None:
        self._metrics = {bucket: _BucketMetrics(bucket) for bucket in (*buckets, NO_BUCKET)}
        self._unauthentic = PacedLog("records without a valid secret dropped")
        self._rejected = PacedLog("records rejected")

    def arrived(self, message: ParsedMessage, remote: str | None) -> None:
        """Count the records of a message that was read; `remote` names the sender in the log."""
        if message.unauthentic:
            metrics.UNAUTHENTIC.inc(message.unauthentic)
            self._unauthentic.warn(remote, number=message.unauthentic, remote=remote)
        for notice, _ in message.notices:
            self._metrics[notice.bucket].received.inc()
        for bucket, _ in message.ignored:
            self._metrics[bucket].received.inc()
            self._metrics[bucket].ignored.inc()
        for rejection in _rejected(message):
            self._metrics[rejection.bucket].received.inc()

    def taken(self, message: ParsedMessage, outcomes: Sequence[Outcome]) -> None:
        """Count the outcome of a message's notices once they are in Redis."""
        now = time.time()
        for (notice, _), outcome in zip(message.notices, outcomes, strict=True):
            counters = self._metrics[notice.bucket]
            if outcome == "queued":
                counters.queued.inc()
                if notice.created is not None:
                    counters.to_queued.observe(max(0.0, now - notice.created))
            else:
                counters.duplicate.inc()
        rejected = _rejected(message)
        for rejection in rejected:
            self._metrics[rejection.bucket].rejected.inc()
        if rejected:
            self._rejected.warn(
                rejected[0].bucket, number=len(rejected), first=rejected[0].key, reason=rejected[0].reason
            )


def _rejected(message: ParsedMessage) -> list[Rejection]:
    return [rejection for rejection in message.rejected if not rejection.is_canary]
