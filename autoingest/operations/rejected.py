"""Rejected records that can be used after all: the site has been configured for them, or the program has learnt."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence

import redis.asyncio

from ..app.config import Config
from ..errors import UnknownObjectError
from ..model.buckets import configured_names
from ..model.notices import NO_BUCKET, Notice
from ..model.objects import MAX_KEY, ExposureObject, LfaObject, parse
from ..notify.fields import decode_key
from ..queue.dead_letters import RejectedRecord, drop_rejected
from ..queue.intake import Intake


async def requeue_rejected(
    client: redis.asyncio.Redis, config: Config, records: Sequence[RejectedRecord]
) -> tuple[list[str], dict[str, str]]:
    """Queue what rejected records tell of, as far as their keys can be used now.

    A record is removed once its object is on the queue, so that nothing is lost in between.

    Returns
    -------
    requeued
        Paths of the objects.
    left
        Why the others were left, by the records' paths.
    """
    usable: list[tuple[RejectedRecord, Notice, ExposureObject | LfaObject]] = []
    left: dict[str, str] = {}
    for record in records:
        try:
            usable.append((record, *_read(config, record)))
        except UnknownObjectError as err:
            left[record.path] = str(err)
    intake = Intake(client, hold=False)
    try:
        await intake.accept([(notice, obj) for _, notice, obj in usable])
    finally:
        await intake.close()
    received: defaultdict[str, list[str]] = defaultdict(list)
    for record, _, _ in usable:
        received[record.bucket].append(record.key)
    for bucket, names in received.items():
        await drop_rejected(client, bucket, names, "requeued rejected records")
    return [notice.path for _, notice, _ in usable], left


def _read(config: Config, record: RejectedRecord) -> tuple[Notice, ExposureObject | LfaObject]:
    bucket, received = record.bucket, record.key
    if bucket == NO_BUCKET:
        name, _, received = record.key.partition("/")
        names = configured_names(config.buckets)
        if name not in names:
            raise UnknownObjectError(f"bucket {name!r} is not configured")
        bucket = names[name]
    if len(received.encode(errors="surrogateescape")) >= MAX_KEY:
        raise UnknownObjectError("the key is too long to be known in full")
    try:
        key = decode_key(received, config.enqueue.key_encoding, None)
    except UnicodeDecodeError:
        raise UnknownObjectError("key is not URL-encoded UTF-8") from None
    if not re.search(config.enqueue.filter, key):
        raise UnknownObjectError("the filter leaves the key out")
    path = f"{bucket}/{key}"
    return Notice(bucket, key, path, None, None, None, None, demanded=True), parse(path)
