"""A lane takes batches from one bucket's queue and sees every file of them to its next state.

`LANES` of them share one Butler process, so that one reads headers while the other's batch is written.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import structlog

from .. import metrics
from ..backoff import Backoff, pause
from ..butler.engine import FileResult, IngestFile, OwedVisit
from ..butler.process import ButlerProcess
from ..config import IngestConfig
from ..errors import PermanentError, TransientError, UnknownObjectError
from ..objects import ExposureObject, LfaObject, parse
from ..queue.connection import REDIS_AWAY
from ..queue.presence import Arrival, GroupKeys, arrival
from ..queue.work import Claimed, Done, WorkQueue
from ..store.reader import HeaderReader, ObjectHeader

if TYPE_CHECKING:
    from .exposure_webhook import ExposureWebhook

LANES = 2
"""Lanes of each bucket that share one Butler process."""

WAIT = 1.0
"""Seconds that an empty queue is waited on at a time; a stop is noticed no later."""

RENEW = 3.0
"""Seconds between two signs of life. The old services' rule takes a list away that was untouched for 10 s."""

FLUSH = 0.02
"""Seconds after which the headers read so far have their presence recorded, while others are still being read."""

MORE = 0.005
"""Seconds for which new files are waited for at a time, while another lane's batch is written."""

STRAGGLERS = 1.0
"""Seconds after which a batch is written without the files whose headers are still being read."""

log = structlog.get_logger(__name__)


class Lane:
    """One taker of one bucket's work.

    Parameters
    ----------
    queue
        The bucket's work queue, under this lane's own name.
    butler
        The Butler process, shared with other lanes.
    reader, groups, webhook
        Header reader, presence keys and exposure webhook (if there is one), shared by all lanes.
    config
        The role's configuration.
    """

    def __init__(
        self,
        queue: WorkQueue,
        butler: ButlerProcess,
        reader: HeaderReader,
        groups: GroupKeys,
        webhook: ExposureWebhook | None,
        config: IngestConfig,
    ) -> None:
        self._queue = queue
        self._butler = butler
        self._reader = reader
        self._groups = groups
        self._webhook = webhook
        self._config = config
        self._progress = 0.0
        self._log = log.bind(bucket=queue.bucket, worker=queue.name)

    async def run(self, stop: asyncio.Event) -> None:
        """Take batches until `stop` is set; the one in hand is finished or given back."""
        backoff = Backoff()
        while not stop.is_set():
            try:
                if claimed := await self._queue.claim(self._config.batch_size):
                    await self._batch(claimed, stop)
                else:
                    await self._queue.wait(WAIT)
                backoff.reset()
            except REDIS_AWAY as err:
                delay = backoff.next()
                self._log.warning("redis away", error=repr(err), retry_s=round(delay, 1))
                await pause(stop, delay)
        try:
            await self._queue.give_back()
        except REDIS_AWAY as err:
            self._log.warning("batch left to its lease", error=repr(err))

    async def _batch(self, claimed: list[Claimed], stop: asyncio.Event) -> None:
        started = time.monotonic()
        backoff = Backoff(first=1.0)
        headers: dict[str, ObjectHeader] = {}
        todo = await self._known(claimed)
        async with self._lease_kept() as lost:
            while todo and not lost.is_set():
                self._progress = time.monotonic()
                away = await self._attempt(todo, headers, stop)
                if not away:
                    break
                metrics.OUTAGES.labels(self._queue.bucket).inc()
                delay = backoff.next()
                if len(away) < len(todo):
                    # The others went through: what remains must not hold up this lane.
                    for path in away:
                        await self._queue.park(todo[path][0], delay, None)
                    break
                self._log.warning("batch held", files=len(away), error=str(next(iter(away.values()))), retry_s=delay)
                if stop.is_set():
                    break
                await pause(stop, delay)
        self._log.info("batch done", files=len(todo), elapsed_ms=round((time.monotonic() - started) * 1e3))

    async def _known(self, claimed: list[Claimed]) -> dict[str, tuple[Claimed, ExposureObject | LfaObject]]:
        """Pair each claimed path with what it is; a path of unknown shape is given up."""
        known = {}
        for claim in claimed:
            try:
                known[claim.path] = (claim, parse(claim.path))
            except UnknownObjectError as err:
                await self._give_up(claim, "unknown", str(err))
        return known

    async def _attempt(
        self,
        todo: dict[str, tuple[Claimed, ExposureObject | LfaObject]],
        headers: dict[str, ObjectHeader],
        stop: asyncio.Event,
    ) -> dict[str, TransientError]:
        """Take every file of `todo` as far as it goes, and those that come before the Butler is free.

        Returns
        -------
        away
            The files that could not be worked on because something is away, with what.
        """
        away: dict[str, TransientError] = {}
        reads = self._reads(todo, headers)
        pending = set(reads)
        try:
            while pending:
                started = time.monotonic()
                read: list[str] = []
                while pending and not (read and time.monotonic() - started > STRAGGLERS):
                    done, pending = await asyncio.wait(pending, timeout=FLUSH)
                    arrivals = []
                    for task in done:
                        path = reads[task]
                        try:
                            if (found := task.result()) is not None:
                                arrivals.append((path, found))
                            read.append(path)
                        except TransientError as err:
                            away[path] = err
                        except PermanentError as err:
                            await self._failed(todo[path][0], err.reason, str(err))
                    await self._present(arrivals, todo)
                    if not pending and (more := await self._more(todo, stop)):
                        todo |= more
                        reads = self._reads(more, headers)
                        pending, started = set(reads), time.monotonic()
                metrics.BATCH_SECONDS.labels("read").observe(time.monotonic() - started)
                self._progress = time.monotonic()
                try:
                    await self._write([headers[path] for path in read], todo)
                except TransientError as err:
                    away |= dict.fromkeys(read, err)
        finally:
            for task in pending:
                task.cancel()
        return away

    async def _more(
        self, todo: dict[str, tuple[Claimed, ExposureObject | LfaObject]], stop: asyncio.Event
    ) -> dict[str, tuple[Claimed, ExposureObject | LfaObject]]:
        """Claim more while another's batch is being written, so that the presence of these need not wait for it.

        What is claimed a second time stays on the worker's list for the next batch.
        """
        while self._butler.is_busy and len(todo) < self._config.batch_size and not stop.is_set():
            if await self._queue.wait(MORE) and not stop.is_set():
                claimed = await self._queue.claim(self._config.batch_size)
                if more := await self._known([claim for claim in claimed if claim.path not in todo]):
                    return more
        return {}

    def _reads(
        self, batch: dict[str, tuple[Claimed, ExposureObject | LfaObject]], headers: dict[str, ObjectHeader]
    ) -> dict[asyncio.Task[Arrival | None], str]:
        return {asyncio.create_task(self._read(obj, claim, headers)): path for path, (claim, obj) in batch.items()}

    async def _read(
        self, obj: ExposureObject | LfaObject, claim: Claimed, headers: dict[str, ObjectHeader]
    ) -> Arrival | None:
        """Read a header unless an earlier attempt did; tell the arrival that is new by it."""
        if obj.path in headers:
            return None
        header = await self._reader.read(obj, claim.size)
        headers[obj.path] = header
        return arrival(header.header, obj)

    async def _present(
        self, arrivals: list[tuple[str, Arrival]], todo: dict[str, tuple[Claimed, ExposureObject | LfaObject]]
    ) -> None:
        if not arrivals:
            return
        await self._groups.record([found for _, found in arrivals])
        now = time.time()
        for path, _ in arrivals:
            if (created := todo[path][0].created) is not None:
                metrics.TO_PRESENCE.labels(self._queue.bucket).observe(max(0.0, now - created))

    async def _write(
        self, headers: Sequence[ObjectHeader], todo: dict[str, tuple[Claimed, ExposureObject | LfaObject]]
    ) -> None:
        if not headers:
            return
        metrics.BATCH_FILES.observe(len(headers))
        started = time.monotonic()
        files = [
            IngestFile(
                path=header.path,
                url=todo[header.path][1].url,
                obs_id=getattr(todo[header.path][1], "obs_id", None),
                is_guider=getattr(todo[header.path][1], "is_guider", False),
                header=header.header,
                size=header.size,
            )
            for header in headers
        ]
        result = await self._butler.ingest(files, self._config.batch_timeout)
        metrics.BATCH_SECONDS.labels("write").observe(time.monotonic() - started)
        for instrument, _ in result.visits:
            metrics.VISITS.labels(instrument).inc()
        ingested = [item for item in result.files if item.outcome == "ingested"]
        await self._acknowledge(ingested, {header.path: header for header in headers}, result.owed, todo)
        for item in result.files:
            if item.outcome == "waiting":
                await self._wait(item, todo[item.path][0])
            elif item.outcome == "failed":
                await self._failed(todo[item.path][0], item.reason, item.exception)

    async def _acknowledge(
        self,
        ingested: list[FileResult],
        headers: dict[str, ObjectHeader],
        owed: list[OwedVisit],
        todo: dict[str, tuple[Claimed, ExposureObject | LfaObject]],
    ) -> None:
        if not ingested and not owed:
            return
        results = {item.path: item for item in ingested}
        done = []
        for path in results:
            claim, obj = todo[path]
            header = headers[path]
            if isinstance(obj, ExposureObject):
                day, obs_id = obj.day_obs, None if obj.is_guider else obj.obs_id
            else:
                day, obs_id = obj.obs_day, None
            done.append(Done(claim, header.etag or claim.etag, header.size, obj.instrument, day, obs_id))
        exceptions = {(visit.instrument, visit.exposure_id): visit.exception for visit in owed}
        acknowledged = set(await self._queue.ingested(done, exceptions))
        now = time.time()
        for item in done:
            claim, path = item.claim, item.claim.path
            if path not in acknowledged:
                self._log.info("file came anew while in hand", path=path)
                continue
            metrics.INGESTED.labels(self._queue.bucket, results[path].instrument).inc()
            if results[path].replaced or (claim.butler_etag and item.etag not in (None, claim.butler_etag)):
                metrics.REPLACED.labels(self._queue.bucket).inc()
            if claim.created is not None:
                metrics.TO_INGESTED.labels(self._queue.bucket).observe(max(0.0, now - claim.created))
        if self._webhook:
            self._webhook.announce(obj for path in acknowledged if isinstance(obj := todo[path][1], ExposureObject))

    async def _wait(self, item: FileResult, claim: Claimed) -> None:
        left = (claim.received or claim.first_wait or claim.claimed) + self._config.guider_wait - claim.claimed
        if left <= 0:
            await self._give_up(claim, "no-exposure", f"exposure {item.obs_id} never arrived")
            return
        if claim.first_wait is None:
            metrics.WAITING.labels(self._queue.bucket, "exposure").inc()
        await self._queue.park(claim, min(self._config.guider_recheck, left), item.obs_id)

    async def _failed(self, claim: Claimed, reason: str, exception: str) -> None:
        metrics.FAILED.labels(self._queue.bucket, reason).inc()
        outcome = await self._queue.failed(
            claim, reason, exception, max_attempts=self._config.max_attempts, delay=self._config.retry_delay
        )
        self._log.warning("file failed", path=claim.path, reason=reason, error=exception, outcome=outcome)
        if outcome == "dead":
            metrics.DEAD.labels(self._queue.bucket, reason).inc()

    async def _give_up(self, claim: Claimed, reason: str, exception: str) -> None:
        if await self._queue.give_up(claim, reason, exception):
            metrics.DEAD.labels(self._queue.bucket, reason).inc()
        self._log.warning("file given up", path=claim.path, reason=reason, error=exception)

    @asynccontextmanager
    async def _lease_kept(self) -> AsyncIterator[asyncio.Event]:
        """Renew the lease while there is progress; the event tells that it was lost."""
        lost = asyncio.Event()
        self._progress = time.monotonic()
        keeper = asyncio.create_task(self._keep_lease(lost))
        try:
            yield lost
        finally:
            keeper.cancel()
            await asyncio.wait([keeper])

    async def _keep_lease(self, lost: asyncio.Event) -> None:
        interval = min(RENEW, self._config.lease / 3)
        while True:
            await asyncio.sleep(interval)
            # A batch may have to wait while the other lane's is written.
            if time.monotonic() - self._progress > LANES * self._config.batch_timeout:
                self._log.error("no progress", limit_s=LANES * self._config.batch_timeout)
                return
            try:
                if not await self._queue.renew():
                    self._log.warning("lease lost")
                    lost.set()
                    return
            except REDIS_AWAY as err:
                self._log.warning("lease not renewed", error=repr(err))
