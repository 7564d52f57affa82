"""S3 event records: from the bytes of a message to notices, for every sender. No input or output."""

from __future__ import annotations

import codecs
import re
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from pydantic import SecretStr

from ..app.config import EnqueueConfig
from ..app.turns import Turns
from ..errors import AutoingestError, UnknownObjectError
from ..http.tokens import Secrets
from ..model.buckets import configured_names
from ..model.notices import CANARY, CANARY_FOLDER, NO_BUCKET, Notice, Rejection
from ..model.objects import MAX_KEY, ExposureObject, LfaObject, bare_etag, parse
from ..model.patterns import search
from .fields import KeyEncoding, decode_key, epoch, text

NOT_TOLD = "-"
"""Placeholder for the key or bucket name that a rejected record lacks."""

MAX_RECORDS = 1000
"""Maximum number of records in a message."""

MAX_REPAIRS = 10_000
"""Maximum number of characters that are repaired in a message."""

MAX_VALUES = 100 * MAX_RECORDS
"""Maximum number of commas, colons and opening brackets in a message; a real record has about seventy."""

SHORT, FEW = 4096, 16
"""Bytes and records up to which a message is parsed in one go."""

_SURROGATES = re.compile(
    rb"\\(?:\\|u[dD](?:[89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|[89a-fA-F][0-9a-fA-F]{2}))"
)
"""Escaped backslashes, surrogate pairs and, six bytes long, halves of pairs."""


class MalformedMessageError(AutoingestError):
    """The message is not ``{"Records": [...]}`` in JSON."""


class TooLongError(MalformedMessageError):
    """The message is larger than any that a sender has reason to send."""


class _BadRecordError(Exception):
    """The record is invalid; the argument is the reason."""


@dataclass(slots=True)
class ParsedMessage:
    """What became of a message's records."""

    records: int
    """Number of all records."""
    notices: list[tuple[Notice, ExposureObject | LfaObject]] = field(default_factory=list)
    ignored: list[tuple[str, str]] = field(default_factory=list)
    """Bucket as configured, or `NO_BUCKET`, and path of records ignored because of the filter or the type of event."""
    rejected: list[Rejection] = field(default_factory=list)
    unauthentic: int = 0
    """Number of records dropped because their secret was missing or wrong."""


class RecordParser:
    """Reads messages from any sender.

    Parameters
    ----------
    buckets
        Buckets as configured: ``bucket`` or ``profile@bucket``; with a tenant, ``tenant:bucket``.
    pattern
        Regular expression searched in the decoded key; what does not match is ignored.
    key_encoding
        ``raw``: the key is as it is; ``url``: it is URL-encoded; ``auto``: decide from the record.
    secrets
        A record must carry one of these. If there are none, all records are accepted.
    max_body
        Maximum size of a message in bytes.
    """

    def __init__(
        self,
        buckets: Sequence[str],
        pattern: str,
        key_encoding: KeyEncoding = "auto",
        secrets: Sequence[SecretStr] = (),
        max_body: int = EnqueueConfig().max_body,
    ) -> None:
        self._buckets = configured_names(buckets) | {name: name for name in buckets}
        self._matches = search(pattern)
        self._key_encoding = key_encoding
        self._secrets = Secrets(secrets)
        self._max_body = max_body
        self._turns = Turns()

    async def parse(self, body: bytes, *, trusted: bool = False) -> ParsedMessage:
        """Parse one message; a long one in steps, so that other tasks get their turn.

        An invalid record never affects the others.

        Parameters
        ----------
        body
            The message.
        trusted
            Whether the message itself was authenticated, so that its records need no secret.

        Raises
        ------
        MalformedMessageError
            If the message is not JSON, or has no list of records.
        TooLongError
            If it is longer than allowed, or has more than `MAX_RECORDS` records.
        """
        message = ParsedMessage(0)
        steps = self._steps(body, message, trusted)
        if len(body) <= SHORT:
            for _ in steps:
                if message.records > FEW:
                    break
            else:
                return message
        await self._turns.run(steps)
        return message

    def _steps(self, body: bytes, message: ParsedMessage, trusted: bool) -> Generator[None, None, None]:
        if len(body) > self._max_body:
            raise TooLongError(f"message is longer than {self._max_body} bytes")
        records = yield from _load(body)
        if len(records) > MAX_RECORDS:
            raise TooLongError(f"message has {len(records)} records, more than {MAX_RECORDS}")
        message.records = len(records)
        trusted = trusted or not self._secrets
        for record in records:
            yield
            if not (trusted or self._is_authentic(record)):
                message.unauthentic += 1
                continue
            try:
                self._read(record, message)
            except _BadRecordError as err:
                message.rejected.append(self._rejection(record, str(err)))

    def _is_authentic(self, record: object) -> bool:
        given = record.get("opaqueData") if isinstance(record, dict) else None
        return isinstance(given, str) and self._secrets.matches(given)

    def _read(self, record: object, message: ParsedMessage) -> None:
        if not isinstance(record, dict):
            raise _BadRecordError("record is not an object")
        event = record.get("eventName")
        if event is not None and not isinstance(event, str):
            raise _BadRecordError("eventName is not a text")
        name, given = _names(record)
        bucket = self._bucket(record, name)
        if event and not event.removeprefix("s3:").startswith("ObjectCreated"):
            message.ignored.append((bucket or NO_BUCKET, f"{bucket or name}/{given}"[:MAX_KEY]))
            return
        if not name or not given:
            raise _BadRecordError("no bucket name or object key")
        if len(given) > 3 * MAX_KEY:  # each byte may be encoded as three
            raise _BadRecordError(f"key is longer than {MAX_KEY} bytes")
        try:
            key = decode_key(given, self._key_encoding, record.get("eventSource"))
        except UnicodeDecodeError:
            raise _BadRecordError("key is not URL-encoded UTF-8") from None
        if bucket and CANARY_FOLDER in key:
            message.rejected.append(_canary(bucket, key, record["s3"], text(event)))
            return
        if not self._matches(key):
            message.ignored.append((bucket or NO_BUCKET, f"{bucket or name}/{key}"[:MAX_KEY]))
            return
        if bucket is None:
            raise _BadRecordError("bucket is not configured")
        path = f"{bucket}/{key}"
        try:
            parsed = parse(path)
        except UnknownObjectError as err:
            raise _BadRecordError(str(err)) from None
        obj = record["s3"]["object"]
        size = obj.get("size")
        etag = text(obj.get("eTag"))
        notice = Notice(
            bucket=bucket,
            key=key,
            path=path,
            event_id=text(record.get("eventId")),
            etag=bare_etag(etag) if etag else None,
            size=size if type(size) is int and size >= 0 else None,
            created=epoch(record.get("eventTime")),
        )
        message.notices.append((notice, parsed))

    def _bucket(self, record: dict[str, Any], name: str | None) -> str | None:
        """Return the configured bucket that a record is about, if any.

        Ceph gives the tenant of a bucket only in its ARN, ``arn:aws:s3:{zone group}:{tenant}:{bucket}``.
        """
        if name is None:
            return None
        arn = record["s3"]["bucket"].get("arn")
        if isinstance(arn, str) and len(parts := arn.split(":", 5)) == 6 and parts[4]:
            return self._buckets.get(f"{parts[4]}:{name}") or self._buckets.get(name)
        return self._buckets.get(name)

    def _rejection(self, record: object, reason: str) -> Rejection:
        if not isinstance(record, dict):
            return Rejection(NO_BUCKET, NOT_TOLD, reason, None)
        name, key = _names(record)
        bucket = self._bucket(record, name)
        where = key or NOT_TOLD
        if bucket is None:
            where = f"{name or NOT_TOLD}/{where}"
        return Rejection(bucket or NO_BUCKET, where[:MAX_KEY], reason[:MAX_KEY], text(record.get("eventName")))


def _canary(bucket: str, key: str, s3: dict[str, Any], event: str | None) -> Rejection:
    return Rejection(bucket, f"{key}/{text(s3.get('configurationId')) or NOT_TOLD}"[:MAX_KEY], CANARY, event)


def _load(body: bytes) -> Generator[None, None, list[object]]:
    if len(body) - len(body.translate(None, b"[{:,")) > MAX_VALUES:
        raise TooLongError(f"message has more than {MAX_VALUES} values")
    if body.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise MalformedMessageError("message is UTF-16 or UTF-32, JSON must be UTF-8")
    body = body.removeprefix(codecs.BOM_UTF8)
    try:
        message = orjson.loads(body)
    except orjson.JSONDecodeError:
        yield
        # Ceph copies objects' own metadata into its records as they are, in whatever encoding they were written;
        # Python's tools write a file name that is no Unicode with half of a surrogate pair.
        repaired = _SURROGATES.sub(_whole, body.decode(errors="replace").encode(), MAX_REPAIRS)
        yield
        try:
            message = orjson.loads(repaired)
        except orjson.JSONDecodeError:
            raise MalformedMessageError("message is not JSON") from None
    yield
    records = message.get("Records") if isinstance(message, dict) else None
    if not isinstance(records, list):
        raise MalformedMessageError("message has no list of Records")
    return records


def _whole(found: re.Match[bytes]) -> bytes:
    return b"\\ufffd" if len(found[0]) == 6 else found[0]


def _names(record: dict[str, Any]) -> tuple[str | None, str | None]:
    """Bucket and key as received, as far as the record has them."""
    s3 = record.get("s3")
    if not isinstance(s3, dict):
        return None, None
    bucket, obj = s3.get("bucket"), s3.get("object")
    name = bucket.get("name") if isinstance(bucket, dict) else None
    key = obj.get("key") if isinstance(obj, dict) else None
    return name if isinstance(name, str) else None, key if isinstance(key, str) else None
