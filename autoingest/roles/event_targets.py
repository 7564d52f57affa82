"""Where events are published: the interface, and receivers by HTTP."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from collections.abc import Sequence
from typing import Protocol

import aiohttp
import orjson
from pydantic import SecretStr

from .. import __version__
from ..app.config import EventsWebhook
from ..errors import TransientError
from ..model.events import CONTENT_TYPE, Event, EventType

POST_TIMEOUT = 10.0
"""Seconds that the receiver of a webhook has to answer."""

RETRIED = (408, 425, 429)
"""Refusals by HTTP that are outages."""


class RefusedEventError(Exception):
    """The receiver does not want this event."""


class NotTakenError(TransientError):
    """The receiver answers, but can't take this event now: because of an outage, or because of the event."""


class Target(Protocol):
    """Where events go."""

    name: str
    types: tuple[EventType, ...]
    source: str
    """Names this site in events."""

    async def deliver(self, events: Sequence[Event]) -> str:
        """Deliver the first of some events, or all; return the position of the last one that is.

        Raises
        ------
        TransientError
            If nothing could be delivered now; `NotTakenError` if the receiver answers.
        RefusedEventError
            If the first event is refused.
        """
        ...

    async def close(self) -> None:
        """Close connections."""
        ...


class WebhookTarget:
    """A receiver by HTTP.

    Parameters
    ----------
    config
        The receiver.
    source
        Names this site.
    secrets
        What events are signed with, each of which makes a signature.
    """

    def __init__(self, config: EventsWebhook, source: str, secrets: Sequence[SecretStr]) -> None:
        self.name = config.name
        self.types = config.types
        self._url = config.url
        self._attempts = config.attempts
        self.source = source
        self._secrets = [secret.get_secret_value().encode() for secret in secrets]
        self._session: aiohttp.ClientSession | None = None
        self._refusals = 0

    async def deliver(self, events: Sequence[Event]) -> str:
        """Post the first event."""
        event = events[0]
        body = orjson.dumps(event.cloud_event(self.source))
        headers = {"Content-Type": CONTENT_TYPE, "User-Agent": f"autoingest/{__version__}"}
        headers |= signature(self._secrets, event.id, int(time.time()), body)
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=POST_TIMEOUT))
        try:
            async with self._session.post(self._url, data=body, headers=headers, allow_redirects=False) as response:
                status = response.status
        except (aiohttp.ClientError, OSError, TimeoutError) as err:
            raise TransientError(f"no answer: {type(err).__name__}: {err}") from err
        if 200 <= status < 300:
            self._refusals = 0
            return event.position
        if 400 <= status < 500 and status not in RETRIED:
            self._refusals += 1
            if self._refusals >= self._attempts:
                self._refusals = 0
                raise RefusedEventError(f"the receiver answers {status}")
        raise NotTakenError(f"the receiver answers {status}")

    async def close(self) -> None:
        """Close connections."""
        if self._session is not None:
            await self._session.close()


def signature(secrets: Sequence[bytes], event_id: str, seconds: int, body: bytes) -> dict[str, str]:
    """Return the headers that identify and sign a message, as the specification Standard Webhooks 1.0 says.

    Parameters
    ----------
    secrets
        Each makes a signature; none are made without.
    event_id
        The event's id.
    seconds
        Time of the attempt, epoch seconds.
    body
        What is posted.
    """
    headers = {"webhook-id": event_id, "webhook-timestamp": str(seconds)}
    signed = f"{event_id}.{seconds}.".encode() + body
    digests = [hmac.new(secret, signed, hashlib.sha256).digest() for secret in secrets]
    if digests:
        headers["webhook-signature"] = " ".join("v1," + base64.b64encode(digest).decode() for digest in digests)
    return headers
