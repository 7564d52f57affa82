"""Objects that are to be ingested, posted to the listener for notifications of a site elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from urllib.parse import quote

import aiohttp
import orjson
from pydantic import SecretStr

from ..app.retry import Backoff
from ..app.secrets import NOTIFICATION_SECRETS
from ..errors import ConfigurationError, TransientError
from ..model.buckets import name_on_server
from .object_filter import StoredFile

RECORDS = 250
"""Records of one request."""

ATTEMPTS = 6
"""Times that a request is posted before it is an error."""


class NotifySink:
    """Posts ``{"Records": [...]}`` with bucket, key and secret alone, as operators' tools do.

    Parameters
    ----------
    session
        HTTP client.
    url
        Where to, ``http://host:port/notify``.
    secret
        What the records carry as ``opaqueData``, if anything.
    """

    def __init__(self, session: aiohttp.ClientSession, url: str, secret: SecretStr | None) -> None:
        self._session = session
        self._url = url
        self._secret = secret

    async def send(self, files: Sequence[StoredFile]) -> tuple[int, int]:
        """Post objects.

        Returns
        -------
        queued, duplicate
            What the receiver tells of them.

        Raises
        ------
        ConfigurationError
            If the receiver refuses: the secret is wrong, or it takes no notifications.
        TransientError
            If nothing answers.
        """
        queued = duplicate = 0
        for first in range(0, len(files), RECORDS):
            records = [self._record(file.stored.path) for file in files[first : first + RECORDS]]
            answer = await self._post(orjson.dumps({"Records": records}))
            queued += len(answer.get("queued", ()))
            duplicate += len(answer.get("duplicate", ()))
        return queued, duplicate

    def _record(self, path: str) -> dict[str, object]:
        bucket, _, key = path.partition("/")
        # Without % and + a key is the same whether its receiver takes it as encoded or not.
        if "%" in key or "+" in key:
            key = quote(key)
        record: dict[str, object] = {"s3": {"bucket": {"name": name_on_server(bucket)}, "object": {"key": key}}}
        if self._secret:
            record["opaqueData"] = self._secret.get_secret_value()
        return record

    async def _post(self, body: bytes) -> dict[str, list[object]]:
        backoff = Backoff(first=0.5, last=10.0)
        why = ""
        for attempt in range(ATTEMPTS):
            if attempt:
                await asyncio.sleep(backoff.next())
            try:
                async with self._session.post(
                    self._url, data=body, headers={"Content-Type": "application/json"}
                ) as response:
                    content = await response.read()
            except (aiohttp.ClientError, TimeoutError) as err:
                why = type(err).__name__
                continue
            if response.status == 401:
                raise ConfigurationError(
                    f"{self._url} does not know the secret: set {NOTIFICATION_SECRETS} to one that it takes"
                )
            if 400 <= response.status < 500:
                raise ConfigurationError(f"{self._url} takes no notifications: {response.status} {response.reason}")
            if response.ok:
                try:
                    answer = orjson.loads(content)
                except orjson.JSONDecodeError:
                    answer = None
                # The services that this program replaces answer with something else.
                return answer if isinstance(answer, dict) else {}
            why = f"{response.status} {response.reason}"
        raise TransientError(f"{self._url} did not take the objects: {why}")


@asynccontextmanager
async def open_sink(url: str, secret: SecretStr | None) -> AsyncIterator[NotifySink]:
    """Open a sink with its connections."""
    timeout = aiohttp.ClientTimeout(total=60, sock_connect=10)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        yield NotifySink(session, url, secret)
