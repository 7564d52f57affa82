"""Pending visits: their exposures are in the Butler, but the visits are not yet defined.

An exposure is recorded in the step that acknowledges its files, and removed when its visit has been seen in the Butler.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import asdict
from typing import cast

import orjson
import redis.asyncio
import structlog

from ..model.exposures import ExposureSummary
from ..model.text import printable
from . import keys
from .progress import SETTLE_VISITS, EventSettings
from .scripts import CLAIM_PENDING_VISITS, head

CLAIM_AT_ONCE = 50
"""Exposures that are claimed at once: about a second of the Butler's time."""

LONGEST_DELAY = 3600.0
"""Seconds between two attempts at the most."""

log = structlog.get_logger(__name__)


def pending_field(instrument: str, exposure_id: int) -> str:
    """Return the field of an exposure in the hash of pending visits."""
    return f"{instrument}/{exposure_id}"


class PendingVisits:
    """The pending visits of one bucket, shared by any number of workers.

    Parameters
    ----------
    client
        Redis client that decodes responses.
    bucket
        Bucket with its profile.
    delay
        Seconds from the first attempt to the second; doubles with each, up to `LONGEST_DELAY`.
    events
        Settings of the events.
    """

    def __init__(
        self, client: redis.asyncio.Redis, bucket: str, delay: float, events: EventSettings | None = None
    ) -> None:
        self._redis = client
        self._key = keys.owed(bucket)
        self._delay = delay
        self._events = asdict(events or EventSettings(bucket))
        self._claim = client.register_script(CLAIM_PENDING_VISITS)
        self._settle = client.register_script(SETTLE_VISITS)

    async def claim(self) -> list[tuple[str, int]]:
        """Return the exposures that are due, as instrument and id; no other worker gets them before the next attempt.

        They stay recorded, so nothing is lost if the worker dies.
        """
        fields = cast(list[str], await self._claim([self._key], [self._delay, LONGEST_DELAY, CLAIM_AT_ONCE]))
        exposures = []
        for field in fields:
            instrument, _, exposure_id = field.rpartition("/")
            try:
                exposures.append((instrument, int(exposure_id)))
            except ValueError:
                log.warning("pending visit is invalid", key=self._key, field=printable(field))
        return exposures

    async def settle(self, exposures: Iterable[tuple[str, int]], summaries: Iterable[ExposureSummary] = ()) -> None:
        """Remove exposures whose visits are in the Butler, and tell so.

        Parameters
        ----------
        exposures
            Instrument and id of each.
        summaries
            What the Butler has of exposures whose visits were asked for.
        """
        order = {
            "fields": [pending_field(*exposure) for exposure in exposures],
            "events": self._events,
            "exposures": [
                (item.instrument, item.obs_id, str(item.exposure), item.json, item.visit) for item in summaries
            ],
        }
        await self._settle([self._key], [*head(), orjson.dumps(order).decode()])


async def note_pending(
    client: redis.asyncio.Redis, bucket: str, instrument: str, exposure_id: int, exception: str
) -> None:
    """Record an exposure whose visit is missing; it is due at once."""
    entry = {"since": time.time(), "due": 0, "attempts": 0, "exception": exception}
    await client.hsetnx(keys.owed(bucket), pending_field(instrument, exposure_id), orjson.dumps(entry).decode())
