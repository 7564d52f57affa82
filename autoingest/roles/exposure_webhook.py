"""The exposure webhook: tells the Summit which files of an exposure have been ingested."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable

import aiohttp
import structlog

from ..app import metrics
from ..model.objects import ExposureObject

TIMEOUT = 5.0
"""Seconds that the receiver has to answer."""

MAX_PENDING = 200
"""Maximum number of calls in progress; further ones are dropped, so that a hanging receiver costs no memory."""

log = structlog.get_logger(__name__)


class ExposureWebhook:
    """Posts ``{"exp_id": obs_id, "filenames": [...]}`` in the background; a failure is logged and has no other effect.

    Parameters
    ----------
    url
        URL of the receiver.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._session: aiohttp.ClientSession | None = None
        self._calls: set[asyncio.Task[None]] = set()

    def announce(self, objects: Iterable[ExposureObject]) -> None:
        """Post the names of objects that have just been ingested, one call per exposure."""
        filenames: dict[str, list[str]] = defaultdict(list)
        for obj in objects:
            filenames[obj.obs_id].append(obj.filename)
        for obs_id, names in filenames.items():
            if len(self._calls) >= MAX_PENDING:
                metrics.WEBHOOK_FAILED.inc()
                log.warning("exposure webhook skipped", obs_id=obs_id, files=len(names), pending=len(self._calls))
                continue
            call = asyncio.create_task(self._post(obs_id, names))
            self._calls.add(call)
            call.add_done_callback(self._calls.discard)

    async def _post(self, obs_id: str, filenames: list[str]) -> None:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT))
        try:
            async with self._session.post(self._url, json={"exp_id": obs_id, "filenames": filenames}) as response:
                response.raise_for_status()
        except (aiohttp.ClientError, TimeoutError) as err:
            metrics.WEBHOOK_FAILED.inc()
            log.warning("exposure webhook failed", obs_id=obs_id, files=len(filenames), error=repr(err))

    async def close(self) -> None:
        """Wait for the calls in progress."""
        await asyncio.gather(*self._calls)
        if self._session is not None:
            await self._session.close()
