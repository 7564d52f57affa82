"""What S3 event records become: notices of objects to ingest, and rejections."""

from __future__ import annotations

from dataclasses import dataclass

NO_BUCKET = "-"
"""The bucket of a record that names none of the configured buckets."""

CANARY_FOLDER = ".autoingest-canary/"
"""Part of the keys of test objects, which are written only to see whether their notifications arrive."""

CANARY = "canary"
"""Reason for which the record of a test object is rejected, whatever the filter."""


@dataclass(frozen=True, slots=True)
class Notice:
    """One accepted event record. A value that the sender left out is None."""

    bucket: str
    """As configured, with its profile."""
    key: str
    path: str
    """``{bucket}/{key}``."""
    event_id: str | None
    """The same in every redelivery of one event."""
    etag: str | None
    size: int | None
    """Bytes."""
    created: float | None
    """Epoch seconds of the event."""
    demanded: bool = False
    """Whether an operator or a reconciliation asked for the object, without an event."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """A record that cannot be used."""

    bucket: str
    """As configured, or `NO_BUCKET`."""
    key: str
    """As received, preceded by the bucket's name if the bucket is not configured."""
    reason: str
    event: str | None
    """Name of the event."""

    @property
    def is_canary(self) -> bool:
        """Whether the record is that of a test object; the notification's id then follows its key."""
        return self.reason == CANARY
