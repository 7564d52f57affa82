"""What becomes of a file: acknowledged, deferred, failed or given up, with the metrics and log events of each."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import structlog

from .. import instruments
from ..app import metrics
from ..app.config import IngestConfig
from ..butler.engine import OwedVisit
from ..errors import REASONS, UnknownObjectError
from ..model.exposures import ExposureSummary
from ..model.objects import ExposureObject, parse
from ..model.text import printable
from ..queue.statistics import counted_as
from ..queue.work import Claimed, Done, WorkQueue
from .batch import BatchFile

if TYPE_CHECKING:
    from .exposure_webhook import ExposureWebhook

log = structlog.get_logger(__name__)


class Outcomes:
    """Moves files of one worker to their next state in Redis.

    Parameters
    ----------
    queue
        The worker's queue.
    webhook
        Exposure webhook, if there is one.
    config
        The role's configuration.
    """

    def __init__(self, queue: WorkQueue, webhook: ExposureWebhook | None, config: IngestConfig) -> None:
        self._queue = queue
        self._webhook = webhook
        self._config = config
        self._log = log.bind(bucket=queue.bucket, worker=queue.name)
        for reason in REASONS:
            metrics.FAILED.labels(queue.bucket, reason)
            metrics.DEAD.labels(queue.bucket, reason)
        metrics.WAITING.labels(queue.bucket, "exposure")

    async def acknowledge(
        self,
        ingested: Sequence[BatchFile],
        pending_visits: Sequence[OwedVisit],
        exposures: Sequence[ExposureSummary] = (),
    ) -> None:
        """Acknowledge files that are in the Butler, and note the exposures whose visits could not be defined.

        Parameters
        ----------
        ingested
            The files.
        pending_visits
            The exposures whose visits could not be defined.
        exposures
            The files' exposures.
        """
        if not ingested and not pending_visits:
            return
        done = [_done(file) for file in ingested]
        exceptions = {(visit.instrument, visit.exposure_id): visit.exception for visit in pending_visits}
        acknowledged = set(await self._queue.ingested(done, exceptions, _by_obs_id(ingested, exposures)))
        now = time.time()
        announced = []
        for file, item in zip(ingested, done, strict=True):
            claim, result = file.claim, file.result
            assert result is not None
            if file.path not in acknowledged:
                self._log.info("file replaced while in hand", path=file.path)
                continue
            metrics.INGESTED.labels(self._queue.bucket, result.instrument).inc()
            if item.replaces:
                metrics.REPLACED.labels(self._queue.bucket).inc()
            if claim.created is not None:
                metrics.TO_INGESTED.labels(self._queue.bucket).observe(max(0.0, now - claim.created))
            if isinstance(file.obj, ExposureObject):
                announced.append(file.obj)
        if self._webhook:
            self._webhook.announce(announced)

    async def defer(self, claim: Claimed, delay: float, *, on_trial: bool = False) -> None:
        """Let a file wait for `delay` seconds; `on_trial` keeps the number of its trials."""
        await self._queue.defer(claim, delay, None, on_trial=on_trial)

    async def wait_for_exposure(self, claim: Claimed, obs_id: str | None) -> None:
        """Let a guider wait for its exposure, or give it up once it has waited for long enough."""
        left = (claim.received or claim.first_wait or claim.claimed) + self._config.guider_wait - claim.claimed
        if left <= 0:
            await self.give_up(claim, "no-exposure", f"exposure {obs_id} never arrived")
            return
        if claim.first_wait is None:
            metrics.WAITING.labels(self._queue.bucket, "exposure").inc()
        # The longer it has waited, the less often it is checked, so that many hopeless ones take little time.
        waited = claim.claimed - (claim.first_wait or claim.claimed)
        await self._queue.defer(claim, min(max(self._config.guider_recheck, waited / 10), left), obs_id)

    async def fail(self, claim: Claimed, reason: str, exception: str, over: float = 0.0) -> None:
        """Count a failed attempt; see `WorkQueue.failed`."""
        metrics.FAILED.labels(self._queue.bucket, reason).inc()
        outcome = await self._queue.failed(
            claim,
            reason,
            exception,
            max_attempts=self._config.max_attempts,
            delay=self._config.retry_delay,
            over=over,
            detector=_detector(claim.path),
        )
        self._log.warning("file failed", path=claim.path, reason=reason, error=exception, outcome=outcome)
        if outcome == "dead":
            metrics.DEAD.labels(self._queue.bucket, reason).inc()
        elif outcome == "forgotten":
            metrics.DEAD_FORGOTTEN.labels(self._queue.bucket).inc()

    async def give_up(self, claim: Claimed, reason: str, exception: str) -> None:
        """Make a file a dead letter without further attempts."""
        if await self._queue.give_up(claim, reason, exception, _detector(claim.path)):
            metrics.DEAD.labels(self._queue.bucket, reason).inc()
        self._log.warning("file given up", path=printable(claim.path), reason=reason, error=exception)


def _done(file: BatchFile) -> Done:
    assert file.header is not None
    assert file.result is not None
    obj, result, etag = file.obj, file.result, file.header.etag or file.claim.etag
    is_exposure = isinstance(obj, ExposureObject)
    return Done(
        file.claim,
        etag,
        file.header.size,
        *counted_as(obj),
        obs_id=obj.obs_id if isinstance(obj, ExposureObject) and not obj.is_guider else None,
        camera=obj.instrument if is_exposure else "",
        detector=(result.detector or "") if is_exposure else "",
        replaces=result.replaced or bool(file.claim.butler_etag and etag not in (None, file.claim.butler_etag)),
    )


def _by_obs_id(files: Sequence[BatchFile], exposures: Sequence[ExposureSummary]) -> dict[str, ExposureSummary]:
    """Return the exposures by the obs_ids in the files' paths."""
    by_key = {(exposure.instrument, exposure.exposure): exposure for exposure in exposures}
    found = {}
    for file in files:
        assert file.result is not None
        key = (file.result.instrument, file.result.exposure_id)
        if isinstance(file.obj, ExposureObject) and key in by_key:
            found[file.obj.obs_id] = by_key[key]
    return found


def _detector(path: str) -> str:
    """Return the full name of the detector that a path names; empty if it names none."""
    try:
        obj = parse(path)
    except UnknownObjectError:
        return ""
    if not isinstance(obj, ExposureObject):
        return ""
    detector = instruments.get(obj.instrument).detector_named(obj.raft_sensor)
    return detector.name if detector else ""
