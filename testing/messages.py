"""Notification bodies for tests."""

from __future__ import annotations

from typing import Any

import orjson

EXPOSURE = "LSSTCam/20251231/MC_O_20251231_000010"


def key(detector: str = "R22_S11", exposure: str = EXPOSURE) -> str:
    return f"{exposure}/{exposure.rpartition('/')[2]}_{detector}.fits"


def record(
    object_key: str | None = None,
    *,
    bucket: str = "rubin-summit",
    event_id: str | None = "1795166820.697119.e1",
    etag: str | None = "e1",
    sequencer: str | None = "6412006BD3318D29",
    secret: str | None = None,
    **fields: Any,
) -> dict[str, Any]:
    """One record as Ceph writes it."""
    result: dict[str, Any] = {
        "eventVersion": "2.2",
        "eventSource": "ceph:s3",
        "eventTime": "2026-11-20T09:27:00.696242Z",
        "eventName": "ObjectCreated:Put",
        "s3": {
            "bucket": {"name": bucket, "arn": f"arn:aws:s3:::{bucket}"},
            "object": {"key": object_key or key(), "size": 10, "eTag": etag, "sequencer": sequencer},
        },
        "eventId": event_id,
        "opaqueData": secret,
    }
    return {**result, **fields}


def trigger(object_key: str, bucket: str = "rubin-summit") -> dict[str, Any]:
    """One record as operators' tools write it."""
    return {"s3": {"bucket": {"name": bucket}, "object": {"key": object_key}}}


def body(*records: object) -> bytes:
    return orjson.dumps({"Records": list(records)})
