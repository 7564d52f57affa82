"""Keeps a worker's lease while its batch makes progress."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from ..queue.connection import REDIS_AWAY
from ..queue.work import WorkQueue

RENEW = 3.0
"""Seconds between two renewals of the lease. The old services take over a list that was not touched for 10 s."""

log = structlog.get_logger(__name__)


class LeaseKeeper:
    """Renews the lease of one worker in the background.

    Parameters
    ----------
    queue
        The worker's queue.
    lease
        Seconds that the lease lasts after each renewal.
    stall_limit
        Seconds without progress after which the lease is no longer renewed, so that others take over the batch.
    """

    def __init__(self, queue: WorkQueue, lease: float, stall_limit: float) -> None:
        self._queue = queue
        self._interval = min(RENEW, lease / 3)
        self._stall_limit = stall_limit
        self._progress = 0.0
        self._log = log.bind(bucket=queue.bucket, worker=queue.name)

    def progressed(self) -> None:
        """Note that the batch makes progress."""
        self._progress = time.monotonic()

    @asynccontextmanager
    async def renewing(self) -> AsyncIterator[asyncio.Event]:
        """Renew the lease while the batch makes progress; the yielded event is set once the lease is lost."""
        lost = asyncio.Event()
        self.progressed()
        keeper = asyncio.create_task(self._renew(lost))
        try:
            yield lost
        finally:
            keeper.cancel()
            await asyncio.wait([keeper])

    async def _renew(self, lost: asyncio.Event) -> None:
        user = f"lease of {self._queue.name}"
        while True:
            await asyncio.sleep(self._interval)
            if time.monotonic() - self._progress > self._stall_limit:
                self._log.error("batch stalled", limit_s=self._stall_limit)
                return
            try:
                if not await self._queue.renew() and not lost.is_set():
                    self._log.warning("lease lost")
                    lost.set()  # keep renewing: the worker may claim more before this batch ends
                self._queue.health.worked(user)
            except REDIS_AWAY as err:
                self._queue.health.failed(user, err)
