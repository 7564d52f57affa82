"""A worker takes batches from one bucket's queue and moves every file to its next state.

A batch takes three steps: its headers are read, the presence of its images is recorded, and the Butler writes them.
`WORKERS_PER_PROCESS` workers of each bucket share one Butler process, so that one reads headers while the batch of
another is written.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog

from ..app import metrics
from ..app.config import IngestConfig
from ..app.retry import Backoff, pause
from ..butler.process import ButlerEndedError, ButlerProcess
from ..errors import (
    ConfigurationError,
    PermanentError,
    RefusedError,
    TransientError,
    UnknownObjectError,
    UnreadableObjectError,
)
from ..model.objects import parse
from ..queue.connection import REDIS_AWAY, cause
from ..queue.presence import GroupKeys, arrival
from ..queue.site import ForeignQueueError
from ..queue.work import Claimed, WorkQueue
from ..store.reader import HeaderReader
from .batch import Batch, BatchFile
from .lease import LeaseKeeper
from .outcomes import Outcomes
from .suspects import Suspects, TrialCancelledError, WriteGroup, write_groups

if TYPE_CHECKING:
    from .exposure_webhook import ExposureWebhook

WORKERS_PER_PROCESS = 2
"""Workers of each bucket that share one Butler process."""

WAIT = 1.0
"""Longest time in seconds that one call waits for an empty queue; a stop is noticed after that time."""

FLUSH = 0.02
"""Seconds after which the presence of what has been read so far is recorded, while other headers are being read."""

MORE = 0.005
"""Seconds for which one call waits for new files while another worker's batch is written."""

STRAGGLERS = 1.0
"""Seconds after which a batch is written without the files whose headers are still being read."""

NEW_PROCESS = 30.0
"""Seconds that a new Butler process may take to be ready, on a busy machine."""

LONGEST_PAUSE = 10.0
"""Longest pause in seconds between two attempts to write a batch."""

DOUBTS = 5
"""Times in a row that an answering database refuses a batch, after which its files are suspected: the refusal may be
due to one of them."""

log = structlog.get_logger(__name__)


class BatchWorker:
    """One worker of one bucket's queue.

    Parameters
    ----------
    queue
        The bucket's work queue, under this worker's own name.
    butler
        The Butler process, shared with other workers.
    reader, groups, webhook
        Header reader, presence keys and exposure webhook (if there is one), shared by all workers.
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
        self._health = queue.health
        self._butler = butler
        self._reader = reader
        self._groups = groups
        self._config = config
        self._outcomes = Outcomes(queue, webhook, config)
        self._suspects = Suspects(queue, self._outcomes, config.batch_timeout)
        # A batch may have to wait while those of the other workers are written, each by a new process.
        self._lease = LeaseKeeper(queue, config.lease, WORKERS_PER_PROCESS * (config.batch_timeout + NEW_PROCESS))
        self._store_backoff = Backoff(first=1.0)
        self._pause = 0.0
        self.doing = ""
        """What it does now, in words; empty if it waits for work."""
        self._log = log.bind(bucket=queue.bucket, worker=queue.name)

    async def run(self, stop: asyncio.Event) -> None:
        """Process batches until `stop` is set; the current one is finished or returned to the queue."""
        backoff = Backoff()
        while not stop.is_set():
            try:
                if claimed := await self._queue.claim(self._config.batch_size):
                    await self._process(claimed, stop)
                    await pause(stop, self._pause)
                else:
                    await self._queue.wait(WAIT)
                backoff.reset()
                self._health.worked(self._queue.name)
            except ForeignQueueError:  # which the role logs
                with suppress(*REDIS_AWAY):
                    await self._queue.give_back()
                self._health.worked(self._queue.name)
                await pause(stop, WAIT)
            except REDIS_AWAY as err:
                delay = backoff.next()
                self._health.failed(self._queue.name, err)
                await pause(stop, delay)
        try:
            await self._queue.give_back()
        except REDIS_AWAY as err:
            self._log.warning("batch left to its lease", error=cause(err))

    async def _process(self, claimed: Sequence[Claimed], stop: asyncio.Event) -> None:
        """Retry a batch until each of its files has been dealt with."""
        started = time.monotonic()
        backoff = Backoff(first=1.0, last=LONGEST_PAUSE)
        batch = await self._to_batch(claimed)
        size = refusals = 0
        async with self._lease.renewing() as lost:
            while batch and not lost.is_set():
                self._lease.progressed()
                await self._attempt(batch, stop)
                size = max(size, len(batch))
                unwritten = [file for file in batch.values() if file.error]
                errors = [file.error for file in unwritten]
                if not unwritten:
                    break
                metrics.OUTAGES.labels(self._queue.bucket).inc()
                ended = any(isinstance(error, ButlerEndedError) for error in errors)
                delay = 0.0 if ended else backoff.next()  # starting a new process takes long enough
                if len(unwritten) < len(batch) and not ended:
                    # The others were written: what is left must not hold up this worker.
                    for file in unwritten:
                        await self._outcomes.defer(file.claim, delay)
                    break
                batch = {file.path: file for file in unwritten}
                self._log.warning("batch held", files=len(batch), error=str(errors[0]), retry_s=delay)
                refused = any(isinstance(error, RefusedError) for error in errors)
                refusals = refusals + 1 if refused else 0
                if refusals >= DOUBTS:
                    await self._suspects.suspect(unwritten)
                if stop.is_set():
                    break
                await pause(stop, delay)
        self.doing = ""
        self._log.info("batch done", files=size, elapsed_ms=round((time.monotonic() - started) * 1e3))

    async def _to_batch(self, claimed: Iterable[Claimed]) -> Batch:
        """Parse the claimed paths; one of unknown form is given up."""
        batch = {}
        for claim in claimed:
            try:
                batch[claim.path] = BatchFile(claim, parse(claim.path))
            except UnknownObjectError as err:
                await self._outcomes.give_up(claim, "unknown", str(err))
        return batch

    async def _attempt(self, batch: Batch, stop: asyncio.Event) -> None:
        """Read a batch, record its presence and write it, with the files that are claimed before the Butler is free.

        Files that can't be read leave the batch. Files that can't be written because something is unavailable keep the
        `BatchFile.error`. Those whose store is slow delay no others, which are written meanwhile.
        """
        for file in batch.values():
            file.error = None
        reads = _Reads(self._read_header, batch.values())
        try:
            while reads.pending or reads.slow:
                if files := await self._read(batch, reads, stop):
                    await self._write(files, stop)
        finally:
            reads.cancel()
        await self._defer_unread(batch)

    # Step 1: read

    async def _read(self, batch: Batch, reads: _Reads, stop: asyncio.Event) -> list[BatchFile]:
        """Wait for headers, record presence as they come in, and return the files that can be written.

        Once all are read, more files are claimed for as long as the Butler is busy.
        """
        started = time.monotonic()
        self._lease.progressed()
        self.doing = f"reads {len(batch)} files of {self._queue.bucket}"
        files: list[BatchFile] = []
        while (reads.pending or (reads.slow and not files)) and time.monotonic() - started <= STRAGGLERS:
            new = [file for file, task in await reads.done(FLUSH) if await self._was_read(file, task, batch)]
            await self._record_presence(new)
            files += new
            if not reads.pending and (more := await self._claim_more(batch, bool(reads.slow), stop)):
                batch |= more
                reads.begin(more.values())
                started = time.monotonic()
        reads.overdue()
        if files:
            self._store_backoff.reset()
            metrics.BATCH_SECONDS.labels("read").observe(time.monotonic() - started)
        return files

    async def _read_header(self, file: BatchFile) -> None:
        if file.header is not None:  # read in an earlier attempt
            return
        # If the file has failed before, its sidecar may be to blame.
        file.header = await self._reader.read(file.obj, file.claim.size, use_sidecar=not file.claim.attempts)
        file.arrival = arrival(file.header.header, file.obj, file.header.size, file.header.etag or file.claim.etag)

    async def _was_read(self, file: BatchFile, task: asyncio.Task[None], batch: Batch) -> bool:
        """Return whether a header was read; if not, the file has failed, or its error says what is unavailable."""
        try:
            task.result()
        except TransientError as err:
            file.error = err
        except PermanentError as err:
            del batch[file.path]
            may_pass = isinstance(err, UnreadableObjectError) and err.passing
            over = self._config.unreadable_wait if may_pass else 0.0
            await self._outcomes.fail(file.claim, err.reason, str(err), over)
        except (OSError, ConfigurationError) as err:
            file.error = TransientError(f"{type(err).__name__}: {err}")
        except Exception as err:  # an odd header may raise anything
            del batch[file.path]
            await self._outcomes.fail(file.claim, PermanentError.reason, f"{type(err).__name__}: {err}")
        else:
            return True
        return False

    async def _claim_more(self, batch: Batch, is_slow: bool, stop: asyncio.Event) -> Batch:
        """Claim more files while another worker's batch is written, so that their presence is recorded early.

        While the store is slow, look only once. A path that is claimed a second time stays on the
        worker's list for the next batch.
        """
        while (self._butler.is_busy or is_slow) and len(batch) < self._config.batch_size and not stop.is_set():
            if await self._queue.wait(MORE) and not stop.is_set():
                try:
                    claimed = await self._queue.claim(self._config.batch_size, more=True)
                except ForeignQueueError:  # another repository has taken over the queue since this batch was claimed
                    break
                if more := await self._to_batch(claim for claim in claimed if claim.path not in batch):
                    return more
                if 2 * len(batch) >= self._config.batch_size and await self._queue.wait(MORE):
                    break  # what is next is of another exposure, and left to another worker
            if is_slow:
                break
        return {}

    async def _defer_unread(self, batch: Batch) -> None:
        """Let files wait that the store did not serve; if it served nothing at all, pause after the batch."""
        self._pause = 0.0
        unread = [file for file in batch.values() if file.header is None]
        if not unread:
            return
        metrics.OUTAGES.labels(self._queue.bucket).inc()
        delay = self._store_backoff.next()
        self._log.warning("store away", files=len(unread), error=str(unread[0].error), retry_s=round(delay, 1))
        for file in unread:
            del batch[file.path]
            await self._outcomes.defer(file.claim, delay)
        if not batch:
            self._pause = delay

    # Step 2: record presence

    async def _record_presence(self, files: Iterable[BatchFile]) -> None:
        arrivals = []
        created = []
        for file in files:
            if file.arrival is not None:
                arrivals.append(file.arrival)
                file.arrival = None
                if file.claim.created is not None:
                    created.append(file.claim.created)
        if not arrivals:
            return
        await self._groups.record(arrivals)
        now = time.time()
        for seconds in created:
            metrics.TO_PRESENCE.labels(self._queue.bucket).observe(max(0.0, now - seconds))

    # Step 3: write

    async def _write(self, files: Iterable[BatchFile], stop: asyncio.Event) -> None:
        """Write files; those suspected of ending Butler processes after the others, in groups or alone."""
        groups = write_groups(files)
        for number, group in enumerate(groups, 1):
            rest = [file for later in groups[number:] for file in later.files]
            self._lease.progressed()
            try:
                await self._write_group(group)
            except TrialCancelledError:
                continue
            except ButlerEndedError as err:
                if await self._suspects.process_ended(group, err):
                    continue
            except TransientError as err:
                if group.alone:
                    await self._suspects.defer(group.files[0])
                else:
                    rest = group.files + rest
                _set_error(rest, err)
                return
            if stop.is_set() and rest:
                _set_error(rest, TransientError("the program is about to end"))
                return

    async def _write_group(self, group: WriteGroup) -> None:
        metrics.BATCH_FILES.observe(len(group.files))
        self.doing = f"writes {len(group.files)} files of {self._queue.bucket}"
        started = time.monotonic()
        result = await self._butler.ingest(
            [file.to_ingest() for file in group.files],
            group.time_limit(self._config.batch_timeout),
            cautious=group.suspected,
            begin=partial(self._suspects.begin_trial, group.files[0]) if group.alone else None,
        )
        metrics.BATCH_SECONDS.labels("write").observe(time.monotonic() - started)
        for instrument, _ in result.visits:
            metrics.VISITS.labels(instrument).inc()
        for instrument, field in result.kept:
            metrics.DIFFERENCES_KEPT.labels(instrument, field).inc()
        outcomes = list(zip(group.files, result.files, strict=True))
        for file, item in outcomes:
            file.result = item
        ingested = [file for file, item in outcomes if item.outcome == "ingested"]
        await self._outcomes.acknowledge(ingested, result.owed, result.exposures)
        for file, item in outcomes:
            if item.outcome == "waiting":
                await self._outcomes.wait_for_exposure(file.claim, item.obs_id)
            elif item.outcome == "failed":
                await self._outcomes.fail(file.claim, item.reason, item.exception)


class _Reads:
    """The headers that are being read."""

    def __init__(self, read: Callable[[BatchFile], Coroutine[Any, Any, None]], files: Iterable[BatchFile]) -> None:
        self._read = read
        self._files: dict[asyncio.Task[None], BatchFile] = {}
        self.pending: set[asyncio.Task[None]] = set()
        """Those that the batch waits for."""
        self.slow: set[asyncio.Task[None]] = set()
        """Those that the batch no longer waits for."""
        self.begin(files)

    def begin(self, files: Iterable[BatchFile]) -> None:
        new = {asyncio.create_task(self._read(file)): file for file in files}
        self._files |= new
        self.pending |= new.keys()

    async def done(self, timeout: float) -> list[tuple[BatchFile, asyncio.Task[None]]]:  # noqa: ASYNC109
        done, _ = await asyncio.wait(self.pending | self.slow, timeout=timeout)
        self.pending -= done
        self.slow -= done
        return [(self._files[task], task) for task in done]

    def overdue(self) -> None:
        self.slow |= self.pending
        self.pending = set()

    def cancel(self) -> None:
        for task in self.pending | self.slow:
            task.cancel()


def _set_error(files: Iterable[BatchFile], error: TransientError) -> None:
    for file in files:
        file.error = error
