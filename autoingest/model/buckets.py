"""Names of buckets: ``bucket``, or ``profile@bucket`` with the S3 profile that reads it."""

from __future__ import annotations

from collections.abc import Iterable

PATTERN = r"([A-Za-z0-9_-]+@)?[A-Za-z0-9][A-Za-z0-9._:-]*"
"""Regular expression that a configured bucket name matches in full."""


def name_on_server(bucket: str) -> str:
    """Return the name by which the server knows a bucket, without the profile."""
    return bucket.rpartition("@")[2]


def configured_names(buckets: Iterable[str]) -> dict[str, str]:
    """Return the configured names of buckets by their names on the server."""
    return {name_on_server(bucket): bucket for bucket in buckets}
