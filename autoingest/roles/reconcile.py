"""Role reconcile: compares the store with the Butler on a schedule."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

import redis.asyncio
import structlog

from ..app import metrics
from ..app.config import Config
from ..app.retry import end, pause
from ..errors import AutoingestError
from ..operations.reconcile import last_days, open_reconciler
from ..operations.verdict import NEEDS_ATTENTION, VERDICTS
from ..queue.connection import REDIS_AWAY, health
from ..queue.health import FORGET
from ..queue.intake import Intake
from ..store.listing import is_lfa
from ..store.profiles import resolve

log = structlog.get_logger(__name__)


class ReconcileRole:
    """Reconciles the last days; it is harmless, but useless, in several processes.

    Parameters
    ----------
    config
        The whole configuration.
    client
        The process's Redis client.
    """

    name = "reconcile"

    def __init__(self, config: Config, client: redis.asyncio.Redis) -> None:
        self._config = config
        self._redis = client
        self._health = health(client)
        self._intake = Intake(client)
        self._buckets = [bucket for bucket in config.buckets if not is_lfa(bucket)]
        self._looked = False
        self._day = ""
        metrics.ROLE_ERRORS.labels(self.name)
        for bucket in self._buckets:
            metrics.RECONCILE_HEALED.labels(bucket)

    async def start(self) -> None:
        """Check that the buckets' credentials are set.

        Raises
        ------
        ConfigurationError
            If they are not.
        """
        for bucket in self._buckets:
            resolve(bucket)

    async def run(self, stop: asyncio.Event) -> None:
        """Reconcile at every interval until `stop` is set, which interrupts a run: it can be repeated at any time."""
        stopped = asyncio.create_task(stop.wait())
        try:
            while not stop.is_set():
                begun = time.monotonic()
                look = asyncio.create_task(self._try())
                await asyncio.wait([look, stopped], return_when=asyncio.FIRST_COMPLETED)
                if not look.done():
                    await end(look)
                    return
                look.result()
                self._looked = True
                await pause(stop, max(1.0, begun + self._config.reconcile.interval - time.monotonic()))
        finally:
            stopped.cancel()

    async def _try(self) -> None:
        retry = self._config.reconcile.interval
        try:
            await self.run_once()
        except REDIS_AWAY as err:
            metrics.RECONCILE_FAILED.inc()
            self._health.failed(self.name, err, retry + FORGET)
        except AutoingestError as err:
            metrics.RECONCILE_FAILED.inc()
            log.warning("reconciliation given up", error=str(err), retry_s=retry)
        except Exception:
            # No error here may end the other roles of the process.
            metrics.RECONCILE_FAILED.inc()
            metrics.ROLE_ERRORS.labels(self.name).inc()
            log.exception("reconciliation given up", retry_s=retry)
        else:
            self._health.worked(self.name)
        finally:
            self._day = ""

    async def run_once(self) -> None:
        """Reconcile once, heal if configured to, and update the metrics."""
        settings = self._config.reconcile
        begun = time.monotonic()
        counts: Counter[tuple[str, str]] = Counter()
        healed: Counter[str] = Counter()
        intake = self._intake if settings.heal else None
        async with open_reconciler(self._config, self._redis, self._buckets, intake) as reconciled:
            for day in last_days(settings.last):
                self._day = day
                async for report in reconciled(day):
                    counts[report.bucket, report.verdict] += 1
                    healed[report.bucket] += report.healed
                    metrics.RECONCILE_HEALED.labels(report.bucket).inc(report.healed)
        for bucket in self._buckets:
            for verdict in VERDICTS:
                metrics.RECONCILED.labels(bucket, verdict).set(counts[bucket, verdict])
        metrics.RECONCILE_TIME.set_to_current_time()
        log.info(
            "reconciled", exposures=counts.total(), healed=healed.total(),
            need_attention=sum(number for (_, verdict), number in counts.items() if verdict in NEEDS_ATTENTION),
            elapsed_s=round(time.monotonic() - begun, 1),
        )  # fmt: skip

    async def close(self) -> None:
        """Let go of Redis."""
        await self._intake.close()

    def doing(self) -> str:
        """Return which day it compares."""
        return f"compares {self._day}" if self._day else ""

    def unready_reasons(self) -> list[str]:
        """Return nothing: an outage is only a reason to try again later."""
        return []

    async def is_drained(self) -> bool:
        """Return whether one run is done; what it has queued is up to the other roles."""
        return self._looked
