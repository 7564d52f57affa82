"""A lane takes batches from one bucket's queue and sees every file of them to its next state.

`LANES` of them share one Butler process, so that one reads headers while the other's batch is written.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import structlog

from ..app import metrics
from ..app.config import IngestConfig
from ..app.retry import Backoff, pause
from ..butler.engine import FileResult, IngestFile, OwedVisit
from ..butler.process import ButlerEndedError, ButlerProcess
from ..errors import (
    ConfigurationError,
    PermanentError,
    RefusedError,
    TransientError,
    UnknownObjectError,
    UnreadableObjectError,
)
from ..model.objects import ExposureObject, LfaObject, parse
from ..model.text import printable
from ..queue.connection import REDIS_AWAY, cause
from ..queue.presence import Arrival, GroupKeys, arrival
from ..queue.scripts import TRUSTED
from ..queue.site import ForeignQueueError
from ..queue.statistics import counted_as
from ..queue.work import Claimed, Done, WorkQueue
from ..store.reader import HeaderReader, ObjectHeader

if TYPE_CHECKING:
    from .exposure_webhook import ExposureWebhook

LANES = 2
"""Lanes of each bucket that share one Butler process."""

WAIT = 1.0
"""Seconds that an empty queue is waited on at a time; a stop is noticed no later."""

RENEW = 3.0
"""Seconds between two renewals of the lease. The old services take away a list that was not touched for 10 s."""

FLUSH = 0.02
"""Seconds after which the headers read so far have their presence recorded, while others are still being read."""

MORE = 0.005
"""Seconds for which new files are waited for at a time, while another lane's batch is written."""

STRAGGLERS = 1.0
"""Seconds after which a batch is written without the files whose headers are still being read."""

NEW_PROCESS = 30.0
"""Seconds that a new Butler process may take to be ready, on a busy machine."""

ALONE = TRUSTED + 2
"""Tries from which a file is written alone; with fewer, but more than `TRUSTED`, it is written in a `GROUP`."""

GROUP = 16
"""Suspected files that are written together."""

TRIALS = 10
"""Trials in a row during which the process was killed from outside, after which a file is given up."""

SPREAD = 1.0
"""Seconds within which a repeated trial begins, at random: something that kills each process as soon as it is ready
then hits one that has nothing in hand."""

LONGEST_PAUSE = 10.0
"""Seconds between two attempts to write while something is away, at the most."""

DOUBTS = 5
"""Times in a row that an answering database refuses a batch, after which its files are suspected: it may be for one."""

LONGEST_PARK = 60.0
"""Seconds that a suspected file waits for its next trial at the most."""

log = structlog.get_logger(__name__)

Todo = dict[str, tuple[Claimed, ExposureObject | LfaObject]]
"""Files in hand, by path."""


class _PointlessError(Exception):
    """There is no point in a file's trial."""


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
        self._health = queue.health
        self._butler = butler
        self._reader = reader
        self._groups = groups
        self._webhook = webhook
        self._config = config
        self._progress = 0.0
        self._store_away = Backoff(first=1.0)
        self._pause = 0.0
        self._log = log.bind(bucket=queue.bucket, worker=queue.name)

    async def run(self, stop: asyncio.Event) -> None:
        """Take batches until `stop` is set; the one in hand is finished or given back."""
        backoff = Backoff()
        while not stop.is_set():
            try:
                if claimed := await self._queue.claim(self._config.batch_size):
                    await self._batch(claimed, stop)
                    await pause(stop, self._pause)
                else:
                    await self._queue.wait(WAIT)
                backoff.reset()
                self._health.worked(self._queue.name)
            except ForeignQueueError:  # the role tells of it
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

    async def _batch(self, claimed: list[Claimed], stop: asyncio.Event) -> None:
        started = time.monotonic()
        backoff = Backoff(first=1.0, last=LONGEST_PAUSE)
        headers: dict[str, ObjectHeader] = {}
        todo = await self._known(claimed)
        files = refusals = 0
        async with self._lease_kept() as lost:
            while todo and not lost.is_set():
                self._progress = time.monotonic()
                away = await self._attempt(todo, headers, stop)
                files = max(files, len(todo))
                if not away:
                    break
                metrics.OUTAGES.labels(self._queue.bucket).inc()
                ended = any(isinstance(err, ButlerEndedError) for err in away.values())
                delay = 0.0 if ended else backoff.next()  # a new process takes its time anyway
                if len(away) < len(todo) and not ended:
                    # The others went through: what remains must not hold up this lane.
                    for path in away:
                        await self._park(todo[path][0], delay)
                    break
                todo = {path: todo[path] for path in away}
                self._log.warning("batch held", files=len(away), error=str(next(iter(away.values()))), retry_s=delay)
                refused = any(isinstance(err, RefusedError) for err in away.values())
                refusals = refusals + 1 if refused else 0
                if refusals >= DOUBTS:
                    await self._suspect(list(away), todo)
                if stop.is_set():
                    break
                await pause(stop, delay)
        self._log.info("batch done", files=files, elapsed_ms=round((time.monotonic() - started) * 1e3))

    async def _known(self, claimed: list[Claimed]) -> Todo:
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
        todo: Todo,
        headers: dict[str, ObjectHeader],
        stop: asyncio.Event,
    ) -> dict[str, TransientError]:
        """Take every file of `todo` as far as it goes, and those that come before the Butler is free.

        Files that can't be read leave `todo`. Those whose store is slow keep nobody waiting: the others are written,
        and more are claimed meanwhile.

        Returns
        -------
        away
            The files that could not be written because something is away, with what.
        """
        away: dict[str, TransientError] = {}
        unread: dict[str, TransientError] = {}
        reads = self._reads(todo, headers)
        pending, slow = set(reads), set[asyncio.Task[Arrival | None]]()
        try:
            while pending or slow:
                started = self._progress = time.monotonic()
                read: list[str] = []
                while (pending or (slow and not read)) and time.monotonic() - started <= STRAGGLERS:
                    done, _ = await asyncio.wait(pending | slow, timeout=FLUSH)
                    pending, slow = pending - done, slow - done
                    arrivals = []
                    for task in done:
                        path = reads[task]
                        try:
                            if (found := task.result()) is not None:
                                arrivals.append((path, found))
                            read.append(path)
                        except TransientError as err:
                            unread[path] = err
                        except PermanentError as err:
                            may_pass = isinstance(err, UnreadableObjectError) and err.passing
                            over = self._config.unreadable_wait if may_pass else 0.0
                            await self._failed(todo.pop(path)[0], err.reason, str(err), over)
                        except (OSError, ConfigurationError) as err:
                            unread[path] = TransientError(f"{type(err).__name__}: {err}")
                        except Exception as err:  # whatever a header makes of its reader
                            claim, _ = todo.pop(path)
                            await self._failed(claim, PermanentError.reason, f"{type(err).__name__}: {err}")
                    await self._present(arrivals, todo)
                    if not pending and (more := await self._more(todo, bool(slow), stop)):
                        todo |= more
                        new = self._reads(more, headers)
                        reads |= new
                        pending, started = set(new), time.monotonic()
                slow |= pending
                pending = set()
                if read:
                    self._store_away.reset()
                    metrics.BATCH_SECONDS.labels("read").observe(time.monotonic() - started)
                    away |= await self._steps(read, headers, todo, stop)
        finally:
            for task in pending | slow:
                task.cancel()
        await self._defer(unread, todo)
        return away

    async def _defer(self, unread: dict[str, TransientError], todo: Todo) -> None:
        """Let files wait whose store is away; where it serves nothing at all, this lane pauses after the batch."""
        self._pause = 0.0
        if not unread:
            return
        metrics.OUTAGES.labels(self._queue.bucket).inc()
        delay = self._store_away.next()
        error = str(next(iter(unread.values())))
        self._log.warning("store away", files=len(unread), error=error, retry_s=round(delay, 1))
        for path in unread:
            await self._park(todo.pop(path)[0], delay)
        if not todo:
            self._pause = delay

    async def _more(self, todo: Todo, is_slow: bool, stop: asyncio.Event) -> Todo:
        """Claim more while another's batch is being written, so that the presence of these need not wait for it.

        While the store is slow with files in hand, look once. What is claimed a second time stays on the worker's list
        for the next batch.
        """
        while (self._butler.is_busy or is_slow) and len(todo) < self._config.batch_size and not stop.is_set():
            if await self._queue.wait(MORE) and not stop.is_set():
                try:
                    claimed = await self._queue.claim(self._config.batch_size, more=True)
                except ForeignQueueError:  # since this batch was taken
                    break
                if more := await self._known([claim for claim in claimed if claim.path not in todo]):
                    return more
            if is_slow:
                break
        return {}

    def _reads(self, batch: Todo, headers: dict[str, ObjectHeader]) -> dict[asyncio.Task[Arrival | None], str]:
        return {asyncio.create_task(self._read(obj, claim, headers)): path for path, (claim, obj) in batch.items()}

    async def _read(
        self, obj: ExposureObject | LfaObject, claim: Claimed, headers: dict[str, ObjectHeader]
    ) -> Arrival | None:
        """Read a header unless an earlier attempt did; return the arrival that it tells of."""
        if obj.path in headers:
            return None
        # A file that has failed once may have been failed by its sidecar.
        header = await self._reader.read(obj, claim.size, use_sidecar=not claim.attempts)
        headers[obj.path] = header
        return arrival(header.header, obj)

    async def _present(self, arrivals: list[tuple[str, Arrival]], todo: Todo) -> None:
        if not arrivals:
            return
        await self._groups.record([found for _, found in arrivals])
        now = time.time()
        for path, _ in arrivals:
            if (created := todo[path][0].created) is not None:
                metrics.TO_PRESENCE.labels(self._queue.bucket).observe(max(0.0, now - created))

    async def _steps(
        self, paths: Sequence[str], headers: dict[str, ObjectHeader], todo: Todo, stop: asyncio.Event
    ) -> dict[str, TransientError]:
        """Write files: those that are suspected of ending processes after the others, in groups or alone.

        Returns
        -------
        away
            As for `_attempt`.
        """
        away: dict[str, TransientError] = {}
        steps = _divided(paths, todo)
        for number, step in enumerate(steps):
            rest = [path for later in steps[number + 1 :] for path in later]
            self._progress = time.monotonic()
            claim = todo[step[0]][0]
            suspected, alone = claim.tries > TRUSTED, claim.tries >= ALONE
            # Where others wait behind a file that takes too long, it gets less time first, and is not blamed.
            limit = self._config.batch_timeout / (4 if suspected and claim.tries <= ALONE else 1)
            begin = partial(self._begin_trial, claim) if alone else None
            try:
                await self._write([headers[path] for path in step], todo, limit, cautious=suspected, begin=begin)
            except _PointlessError:
                continue
            except ButlerEndedError as err:
                if alone and await self._ended_alone(claim, err, limit):
                    continue
                suspects = await self._suspect(step, todo, certain=err.own_doing)
                away |= dict.fromkeys(suspects, err)
            except TransientError as err:
                if alone:
                    await self._park(claim)
                    step = []
                return away | dict.fromkeys([*step, *rest], err)
            if stop.is_set() and rest:
                return away | dict.fromkeys(rest, TransientError("the program is about to end"))
        return away

    async def _suspect(self, paths: Sequence[str], todo: Todo, *, certain: bool = False) -> list[str]:
        """Count one more try without outcome of these files; return those that this worker still holds."""
        least = TRUSTED + 1 if certain else 0
        numbers = await self._queue.tried([todo[path][0] for path in paths], least)
        for path, number in zip(paths, numbers, strict=True):
            claim, obj = todo[path]
            todo[path] = (replace(claim, tries=number), obj)
        return [path for path, number in zip(paths, numbers, strict=True) if number]

    async def _begin_trial(self, claim: Claimed) -> None:
        """Count that a file is now written alone, with no other in the process's hands.

        Raises
        ------
        _PointlessError
            If it is given up, or not ours any more.
        """
        number = await self._queue.on_trial(claim)
        if number > TRIALS:
            await self._give_up(
                claim, "crash",
                f"{TRIALS} times in a row, the Butler process was killed while it wrote this file alone, perhaps by the"
                " kernel for lack of memory",
            )  # fmt: skip
        if not 0 < number <= TRIALS:
            raise _PointlessError
        if number > 1:
            await asyncio.sleep(random.uniform(0, SPREAD))  # noqa: S311 - no cryptography

    async def _ended_alone(self, claim: Claimed, err: ButlerEndedError, limit: float) -> bool:
        """Decide about a file that was written alone when the process ended; return False if it is to be tried again.

        Only what a process did by itself is a failure of the file. If it was killed from outside, or said not even
        where it was, the file is tried again later.
        """
        if err.own_doing and not (err.too_long and limit < self._config.batch_timeout):
            await self._failed(claim, "crash", f"{err}\n{err.last_words}".strip())
            return True
        if err.own_doing:
            return False
        await self._park(claim, on_trial=not err.too_long)
        return True

    async def _park(self, claim: Claimed, delay: float | None = None, *, on_trial: bool = False) -> None:
        """Let a file wait for a while; one that is suspected waits longer each time."""
        if delay is None:
            delay = Backoff(first=min(LONGEST_PARK, 2.0 ** (claim.tries - TRUSTED)), last=LONGEST_PARK).next()
        await self._queue.defer(claim, delay, None, on_trial=on_trial)

    async def _write(
        self,
        headers: Sequence[ObjectHeader],
        todo: Todo,
        limit: float,
        *,
        cautious: bool,
        begin: Callable[[], Awaitable[None]] | None,
    ) -> None:
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
        result = await self._butler.ingest(files, limit, cautious=cautious, begin=begin)
        metrics.BATCH_SECONDS.labels("write").observe(time.monotonic() - started)
        for instrument, _ in result.visits:
            metrics.VISITS.labels(instrument).inc()
        for instrument, field in result.kept:
            metrics.DIFFERENCES_KEPT.labels(instrument, field).inc()
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
        todo: Todo,
    ) -> None:
        if not ingested and not owed:
            return
        results = {item.path: item for item in ingested}
        done = []
        for path in results:
            claim, obj = todo[path]
            header = headers[path]
            obs_id = obj.obs_id if isinstance(obj, ExposureObject) and not obj.is_guider else None
            done.append(Done(claim, header.etag or claim.etag, header.size, *counted_as(obj), obs_id))
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
        # The longer it has waited, the less often it is checked: many that wait for ever must not keep us busy.
        waited = claim.claimed - (claim.first_wait or claim.claimed)
        await self._queue.defer(claim, min(max(self._config.guider_recheck, waited / 10), left), item.obs_id)

    async def _failed(self, claim: Claimed, reason: str, exception: str, over: float = 0.0) -> None:
        metrics.FAILED.labels(self._queue.bucket, reason).inc()
        outcome = await self._queue.failed(
            claim, reason, exception, max_attempts=self._config.max_attempts, delay=self._config.retry_delay, over=over
        )
        self._log.warning("file failed", path=claim.path, reason=reason, error=exception, outcome=outcome)
        if outcome == "dead":
            metrics.DEAD.labels(self._queue.bucket, reason).inc()
        elif outcome == "forgotten":
            metrics.DEAD_FORGOTTEN.labels(self._queue.bucket).inc()

    async def _give_up(self, claim: Claimed, reason: str, exception: str) -> None:
        if await self._queue.give_up(claim, reason, exception):
            metrics.DEAD.labels(self._queue.bucket, reason).inc()
        self._log.warning("file given up", path=printable(claim.path), reason=reason, error=exception)

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
        user = f"lease of {self._queue.name}"
        while True:
            await asyncio.sleep(interval)
            # A batch may have to wait while the other lane's is written, each by a new process.
            limit = LANES * (self._config.batch_timeout + NEW_PROCESS)
            if time.monotonic() - self._progress > limit:
                self._log.error("no progress, lease not renewed any more", limit_s=limit)
                return
            try:
                if not await self._queue.renew() and not lost.is_set():
                    self._log.warning("lease lost")
                    lost.set()  # more may be claimed all the same, before this batch ends
                self._health.worked(user)
            except REDIS_AWAY as err:
                self._health.failed(user, err)


def _divided(paths: Sequence[str], todo: Todo) -> list[list[str]]:
    """Divide files by their tries: trusted ones together, suspected ones in groups or alone."""
    trusted: list[str] = []
    grouped: list[str] = []
    alone: list[str] = []
    for path in sorted(paths, key=lambda path: todo[path][0].tries):
        tries = todo[path][0].tries
        (trusted if tries <= TRUSTED else grouped if tries < ALONE else alone).append(path)
    groups = [grouped[first : first + GROUP] for first in range(0, len(grouped), GROUP)]
    return [*([trusted] if trusted else []), *groups, *([path] for path in alone)]
