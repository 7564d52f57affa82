"""Role ingest: takes files from the queues and writes them to the Butler."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import redis.asyncio
import structlog

from ..app import metrics
from ..app.config import Config
from ..app.retry import Backoff, pause
from ..butler.process import ButlerEndedError
from ..errors import ConfigurationError, TransientError
from ..queue.connection import REDIS_AWAY, health
from ..queue.heartbeats import process_name
from ..queue.pending_visits import PendingVisits
from ..queue.presence import GroupKeys
from ..queue.progress import event_settings
from ..queue.reclaim import Reclaimer
from ..queue.site import ForeignQueueError, check_site
from ..queue.status import unfinished, waiting_files
from ..queue.work import WorkQueue
from ..store.profiles import resolve
from ..store.reader import HeaderReader
from .worker import WORKERS_PER_PROCESS, BatchWorker

if TYPE_CHECKING:
    from ..butler.process import ButlerProcess
    from .exposure_webhook import ExposureWebhook

SITE_INTERVAL = 2.0
"""Seconds between two checks whether a bucket's queue belongs to this repository."""

OWED_INTERVAL = 10.0
"""Seconds between two checks for owed visits that are due."""

log = structlog.get_logger(__name__)


class IngestRole:
    """Runs the Butler processes and the workers that share them.

    Parameters
    ----------
    config
        The whole configuration.
    client
        The process's Redis client.
    butlers
        The Butler processes, which the caller ends.
    alone
        Whether a repository that can't be used ends the process at its start; otherwise it is an unready reason, and
        opening it is retried.
    """

    name = "ingest"

    def __init__(
        self, config: Config, client: redis.asyncio.Redis, butlers: Sequence[ButlerProcess], *, alone: bool = True
    ) -> None:
        self._config = config
        self._redis = client
        self._butlers = butlers
        self._alone = alone
        self._running = False
        self._foreign: dict[str, str] = {}
        self._reclaimer = Reclaimer(client, config.buckets, config.idle.old_worker_idle)
        self._guiders_left: dict[str, str] = {}
        self._workers: list[tuple[str, BatchWorker]] = []
        self._reader = HeaderReader(config.ingest.header_requests)
        url = config.ingest.exposure_webhook
        self._webhook = _exposure_webhook(url) if url else None

    async def start(self) -> None:
        """Start the Butler processes, which open the repository.

        Raises
        ------
        ConfigurationError
            If a bucket's credentials are missing, or the repository can't be used and the role is alone.
        """
        for bucket in self._config.buckets:
            resolve(bucket)
        await asyncio.gather(*(self._open(butler) for butler in self._butlers))

    async def run(self, stop: asyncio.Event) -> None:
        """Ingest until `stop` is set, then finish the current batches."""
        self._running = True
        settings = self._config.ingest
        groups = GroupKeys(self._redis, self._config.presence.expiry)
        # Never reuse the name of an earlier worker: role idle reclaims the files on its list.
        owner = process_name()
        async with asyncio.TaskGroup() as tasks:
            for bucket in self._config.buckets:
                tasks.create_task(self._watch_site(bucket, stop))
            for number, butler in enumerate(self._butlers):
                tasks.create_task(self._keep_open(butler, stop))
                for bucket in self._config.buckets:
                    tasks.create_task(self._define_owed(butler, bucket, stop))
                    for letter in "ab"[:WORKERS_PER_PROCESS]:
                        queue = WorkQueue(
                            self._redis,
                            bucket,
                            f"{owner}-{number}{letter}",
                            settings.lease,
                            settings.record_expiry,
                            settings.repo,
                            settings.max_dead,
                            event_settings(self._config.events, bucket),
                        )
                        worker = BatchWorker(queue, butler, self._reader, groups, self._webhook, settings)
                        self._workers.append((bucket, worker))
                        tasks.create_task(worker.run(stop))
        for path, obs_id in sorted(self._guiders_left.items()):
            log.warning("guider still waits for its exposure", path=path, obs_id=obs_id)

    async def _open(self, butler: ButlerProcess) -> bool:
        try:
            await butler.start()
        except TransientError as err:
            log.warning("repository away", repo=self._config.ingest.repo, error=str(err))
            return False
        except ConfigurationError as err:
            if self._alone and not self._running:
                raise
            log.error("repository can't be used", repo=self._config.ingest.repo, error=str(err))
            return False
        return True

    async def _keep_open(self, butler: ButlerProcess, stop: asyncio.Event) -> None:
        """Open a repository that was away at the start, so that the role is ready before the first file comes."""
        backoff = Backoff(first=1.0)
        while butler.unready_reason() and not stop.is_set():
            if await self._open(butler):
                return
            await pause(stop, backoff.next())

    async def _watch_site(self, bucket: str, stop: asyncio.Event) -> None:
        """Log and report while a bucket's queue belongs to another repository; its workers check that themselves."""
        while not stop.is_set():
            try:
                await check_site(self._redis, bucket, self._config.ingest.repo)
            except ForeignQueueError as err:
                if self._foreign.get(bucket) != str(err):
                    log.error("nothing is taken from the queue", bucket=bucket, error=str(err))
                self._foreign[bucket] = str(err)
            except REDIS_AWAY:
                pass  # which the workers report
            else:
                if self._foreign.pop(bucket, None):
                    log.info("queue belongs to this repository now", bucket=bucket)
            await pause(stop, SITE_INTERVAL)

    async def _define_owed(self, butler: ButlerProcess, bucket: str, stop: asyncio.Event) -> None:
        """Define owed visits when they are due, until `stop` is set."""
        settings = self._config.ingest
        pending = PendingVisits(self._redis, bucket, settings.visit_retry, event_settings(self._config.events, bucket))
        interval = min(OWED_INTERVAL, settings.visit_retry)
        state, user = health(self._redis), f"owed visits of {bucket}"
        while not stop.is_set():
            try:
                await check_site(self._redis, bucket, settings.repo)
                if exposures := await pending.claim():
                    await self._define(butler, bucket, pending, exposures)
                state.worked(user)
            except ForeignQueueError:
                state.worked(user)
            except REDIS_AWAY as err:
                state.failed(user, err)
            except TransientError as err:
                log.warning("owed visits kept", bucket=bucket, error=str(err))
            await pause(stop, interval)

    async def _define(
        self, butler: ButlerProcess, bucket: str, pending: PendingVisits, exposures: Sequence[tuple[str, int]]
    ) -> None:
        try:
            result = await butler.define_visits(exposures, self._config.ingest.batch_timeout)
        except ButlerEndedError as err:
            log.warning("owed visits kept", bucket=bucket, exposures=len(exposures), error=str(err))
            if len(exposures) > 1:  # an exposure that ends the process must not delay the others
                for exposure in exposures:
                    await self._define(butler, bucket, pending, [exposure])
            return
        still = {(visit.instrument, visit.exposure_id) for visit in result.owed}
        defined = [exposure for exposure in exposures if exposure not in still]
        await pending.settle(defined, result.exposures)
        for instrument, _ in result.visits:
            metrics.VISITS.labels(instrument).inc()
        log.info("owed visits looked at", bucket=bucket, settled=len(defined), owed=len(still))

    async def close(self) -> None:
        """Close the exposure webhook's client; the caller ends the Butler processes."""
        if self._webhook:
            await self._webhook.close()

    def doing(self) -> str:
        """Return what its workers do now."""
        return ", ".join(worker.doing for _, worker in self._workers if worker.doing)

    def workers(self) -> dict[str, int]:
        """Return the number of its workers by bucket."""
        return dict(Counter(bucket for bucket, _ in self._workers))

    def dependencies(self) -> dict[str, str]:
        """Return why the Butler, or the store, can't be used."""
        return {
            "butler": next((why for butler in self._butlers if (why := butler.unready_reason())), ""),
            "store": "; ".join(self._reader.unready_reasons()),
        }

    def unready_reasons(self) -> list[str]:
        """Return which Butler processes are not ready, and from which buckets nothing can be read or claimed."""
        butlers = [f"Butler: {why}" for butler in self._butlers if (why := butler.unready_reason())]
        return butlers + self._reader.unready_reasons() + list(self._foreign.values())

    async def is_drained(self) -> bool:
        """Return whether nothing is left but guiders that wait for their exposures.

        Files that are due and those of dead workers are returned to the queues first, so role idle need not run.

        Raises
        ------
        ForeignQueueError
            If the role is drained, but a queue belongs to another repository.
        """
        self._guiders_left = {}
        await self._reclaimer.run_once()
        foreign = None
        own_buckets = []
        for bucket in self._config.buckets:
            try:
                await check_site(self._redis, bucket, self._config.ingest.repo)
            except ForeignQueueError as err:
                foreign = err
                continue
            own_buckets.append(bucket)
            self._guiders_left |= await waiting_files(self._redis, bucket)
        is_done = all(self._guiders_left.values()) and not await unfinished(self._redis, own_buckets)
        if is_done and foreign:
            raise foreign
        return is_done


def _exposure_webhook(url: str) -> ExposureWebhook:
    from .exposure_webhook import ExposureWebhook

    return ExposureWebhook(url)
