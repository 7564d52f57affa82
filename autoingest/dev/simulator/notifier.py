"""Notifications as a Ceph object gateway posts them: one record per request, without special headers."""

from __future__ import annotations

import asyncio
import json
import struct
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import aiohttp
from pydantic import SecretStr

from ...errors import TransientError
from ...model.buckets import name_on_server

RETRY_DELAY = 0.05
"""Seconds between two attempts; Ceph itself repeats without a pause."""


@dataclass(frozen=True, slots=True)
class SentFile:
    """An object that was written."""

    path: str
    """``{bucket}/{key}``, the bucket with its profile."""
    size: int
    """Bytes."""
    etag: str
    """Without quotes."""
    put_time: float
    """When the store acknowledged it, in epoch seconds."""
    notified_time: float | None = None
    """When its notification was acknowledged, in epoch seconds, if one was posted."""


def notification(file: SentFile, secret: str = "") -> bytes:
    """Return the body that Ceph 16 would post for a file.

    Parameters
    ----------
    file
        The object.
    secret
        The topic's OpaqueData.

    Notes
    -----
    Taken from bodies posted by Ceph 16.2.15: the key is not URL-encoded; `sequencer` two little-endian
    32-bit words, seconds and nanoseconds; `eventId` from time and ETag, and so the same at every attempt.
    """
    bucket, _, key = file.path.partition("/")
    tenant, _, name = name_on_server(bucket).rpartition(":")
    nanoseconds = round(file.put_time * 1e6) * 1000
    seconds, fraction = divmod(nanoseconds, 10**9)
    when = datetime.fromtimestamp(seconds, UTC)
    record = {
        "eventVersion": "2.2",
        "eventSource": "ceph:s3",
        "awsRegion": "",
        "eventTime": f"{when:%Y-%m-%dT%H:%M:%S}.{fraction // 1000:06d}Z",
        "eventName": "ObjectCreated:Put",
        "userIdentity": {"principalId": "simulator"},
        "requestParameters": {"sourceIPAddress": ""},
        "responseElements": {
            "x-amz-request-id": f"00000000-0000-0000-0000-000000000000.4103.{nanoseconds}",
            "x-amz-id-2": "1007-default-default",
        },
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": "autoingest",
            "bucket": {
                "name": name,
                "ownerIdentity": {"principalId": "simulator"},
                "arn": f"arn:aws:s3::{tenant}:{name}",
                "id": "00000000-0000-0000-0000-000000000000.4105.1",
            },
            "object": {
                "key": key,
                "size": file.size,
                "eTag": file.etag,
                "versionId": "",
                "sequencer": struct.pack("<II", seconds, fraction).hex().upper(),
                "metadata": [{"key": "x-amz-date", "val": f"{when:%Y%m%dT%H%M%SZ}"}],
                "tags": [],
            },
        },
        "eventId": f"{seconds}.{fraction // 1000:06d}.{file.etag}",
        "opaqueData": secret,
    }
    return json.dumps({"Records": [record]}, separators=(",", ":"), ensure_ascii=False).encode()


class Notifier:
    """Posts notifications until they are acknowledged.

    Parameters
    ----------
    session
        HTTP client.
    url
        Receiver, ``http://host:port/notify``.
    secret
        The topic's OpaqueData, if it has one.
    patience
        Seconds after which an unacknowledged notification is an error. Ceph never gives up.
    """

    def __init__(self, session: aiohttp.ClientSession, url: str, secret: SecretStr | None, patience: float) -> None:
        self._session = session
        self._url = url
        self._secret = secret.get_secret_value() if secret else ""
        self._patience = patience

    @classmethod
    @asynccontextmanager
    async def open(
        cls, url: str, secret: SecretStr | None = None, *, concurrency: int = 16, patience: float = 60.0
    ) -> AsyncIterator[Notifier]:
        """Open a notifier with at most `concurrency` connections."""
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=concurrency),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=30),
            skip_auto_headers=["User-Agent", "Accept-Encoding"],
        ) as session:
            yield cls(session, url, secret, patience)

    async def post(self, file: SentFile) -> SentFile:
        """Notify of a file.

        Returns
        -------
        file
            The same with its `notified_time`.

        Raises
        ------
        TransientError
            If it was not acknowledged in time; the message contains the last answer.
        """
        body = notification(file, self._secret)
        deadline = time.monotonic() + self._patience
        while True:
            answer = await self._attempt(body)
            if answer is None:
                return replace(file, notified_time=time.time())
            if time.monotonic() > deadline:
                raise TransientError(f"{self._url} did not acknowledge {file.path}: {answer}", path=file.path)
            await asyncio.sleep(RETRY_DELAY)

    async def _attempt(self, body: bytes) -> str | None:
        try:
            async with self._session.post(
                self._url, data=body, headers={"Content-Type": "application/json"}
            ) as response:
                await response.read()
                return None if response.ok else f"{response.status} {response.reason}"
        except (aiohttp.ClientError, TimeoutError) as err:
            return repr(err)
