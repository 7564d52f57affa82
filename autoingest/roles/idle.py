"""Role idle: returns the work of dead workers, and deferred files that are due, to the queues."""

from __future__ import annotations

import asyncio

import redis.asyncio
import structlog

from ..app import metrics
from ..app.config import Config
from ..app.retry import pause
from ..queue.connection import REDIS_AWAY, health
from ..queue.health import FORGET
from ..queue.reclaim import Reclaimer

log = structlog.get_logger(__name__)


class IdleRole:
    """Checks the buckets in turn; several processes may do so at the same time.

    Parameters
    ----------
    config
        The whole configuration.
    client
        The process's Redis client.
    """

    name = "idle"

    def __init__(self, config: Config, client: redis.asyncio.Redis) -> None:
        self._interval = config.idle.interval
        self._health = health(client)
        metrics.ROLE_ERRORS.labels(self.name)
        self._reclaimer = Reclaimer(client, config.buckets, config.idle.old_worker_idle, config.idle.interval)

    async def start(self) -> None:
        """Do nothing: there is nothing to prepare."""

    async def run(self, stop: asyncio.Event) -> None:
        """Check at every interval until `stop` is set; what fails is repeated at the next check."""
        while not stop.is_set():
            try:
                found = await self._reclaimer.run_once()
            except REDIS_AWAY as err:
                self._health.failed(self.name, err, self._interval + FORGET)
            except Exception:
                # No error here may end the other roles of the process.
                metrics.ROLE_ERRORS.labels(self.name).inc()
                log.exception("idle look failed", retry_s=self._interval)
            else:
                self._health.worked(self.name)
                if found.released:
                    log.info("waiting files released", files=found.released)
            await pause(stop, self._interval)

    async def close(self) -> None:
        """Do nothing: nothing was opened."""

    def unready_reasons(self) -> list[str]:
        """Return nothing: it needs only Redis."""
        return []

    async def is_drained(self) -> bool:
        """Return True: it never has work of its own."""
        return True
