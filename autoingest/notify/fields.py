"""Fields of event records, which senders write differently."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Literal
from urllib.parse import unquote_plus

KeyEncoding = Literal["auto", "raw", "url"]

MAX_TEXT = 256
"""Maximum length of an event id or eTag; longer ones are ignored."""

CEPH = "ceph:s3"
"""``eventSource`` of a Ceph RGW."""

# URL encoding never leaves these in a key, so a key that contains one is not encoded.
_NOT_ENCODED = re.compile(r"[^A-Za-z0-9\-_.~*/+%!'()]|%(?![0-9A-Fa-f]{2})")


def decode_key(key: str, encoding: KeyEncoding, source: object) -> str:
    """Return the object's key, decoded if the record has it URL-encoded.

    Parameters
    ----------
    key
        As received.
    encoding
        ``raw``: not encoded; ``url``: URL-encoded; ``auto``: URL-encoded unless the record is from Ceph and the key
        contains a character that would have been encoded, or no encoded one.
    source
        ``eventSource`` of the record.

    Raises
    ------
    UnicodeDecodeError
        If the decoded bytes are not UTF-8.
    """
    if encoding == "raw" or not ("%" in key or "+" in key):
        return key
    ceph = encoding == "auto" and source == CEPH
    if ceph and ("%" not in key or _NOT_ENCODED.search(key)):
        return key
    try:
        return unquote_plus(key, errors="strict")
    except UnicodeDecodeError:
        if ceph:
            return key
        raise


def text(value: object) -> str | None:
    """Return a string of reasonable length; None for anything else."""
    return value if isinstance(value, str) and 0 < len(value) <= MAX_TEXT else None


def epoch(value: object) -> float | None:
    """Return the epoch seconds of an ISO 8601 time; None for the ``0.000000`` of old Ceph and anything else."""
    if not isinstance(value, str):
        return None
    try:
        time = datetime.fromisoformat(value)
    except ValueError:
        return None
    seconds = (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()
    return seconds if seconds > 0 else None
