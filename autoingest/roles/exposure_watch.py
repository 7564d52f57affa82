"""Watches exposures until they are complete: which detectors are expected, what others have ingested, and deadlines."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack

import redis.asyncio
import structlog

from .. import instruments
from ..app import metrics
from ..app.config import Config
from ..app.pacing import PacedLog
from ..app.retry import pause
from ..butler.reader import ButlerReader
from ..errors import AutoingestError
from ..model.objects import ExposureObject
from ..operations.expected import all_detectors, listed_detectors
from ..operations.exposures import stored_exposures
from ..operations.object_filter import ObjectFilter
from ..queue.connection import REDIS_AWAY, health
from ..queue.file_status import file_statuses
from ..queue.places import Locator
from ..queue.progress import Due, ExposureFolder, Progress, event_settings
from ..store.listing import Listing, is_lfa, open_listing

INTERVAL = 1.0
"""Seconds between two looks at an exposure whose deadline has not passed."""

ELSEWHERE = 5.0
"""Seconds after an exposure's first notice from which on other programs may have ingested files of it."""

AT_ONCE = 20
"""Exposures that are looked at concurrently."""

log = structlog.get_logger(__name__)


class ExposureWatch:
    """Looks at the exposures in progress; several processes share them.

    Parameters
    ----------
    config
        The whole configuration.
    client
        The process's Redis client.
    """

    def __init__(self, config: Config, client: redis.asyncio.Redis) -> None:
        self._config = config
        self._redis = client
        self._health = health(client)
        self._deadline = config.events.deadline
        self._buckets = [bucket for bucket in config.buckets if not is_lfa(bucket)]
        self._reader = ButlerReader(config.ingest, config.logging)
        self._filter = ObjectFilter(config.enqueue.filter)
        self._paced = PacedLog("exposure not looked at")
        metrics.ROLE_ERRORS.labels("events")
        for bucket in self._buckets:
            metrics.EXPOSURES_INCOMPLETE.labels(bucket)

    async def run(self, stop: asyncio.Event) -> None:
        """Look at exposures until `stop` is set; what fails is repeated at the next look."""
        try:
            async with asyncio.TaskGroup() as tasks:
                for bucket in self._buckets:
                    tasks.create_task(self._watch(bucket, stop))
        finally:
            await self._reader.close()

    async def _watch(self, bucket: str, stop: asyncio.Event) -> None:
        progress = Progress(self._redis, event_settings(self._config.events, bucket), INTERVAL, self._deadline)
        turns = asyncio.Semaphore(AT_ONCE)
        async with AsyncExitStack() as stack:
            listing: Listing | None = None
            while not stop.is_set():
                try:
                    if listing is None:
                        listing = await stack.enter_async_context(open_listing(bucket))
                    found = await progress.claim()
                    metrics.EXPOSURES_IN_PROGRESS.labels(bucket).set(await progress.number())
                    await asyncio.gather(*(self._look(due, listing, progress, turns) for due in found))
                    self._health.worked(f"exposures of {bucket}")
                except REDIS_AWAY as err:
                    self._health.failed(f"exposures of {bucket}", err)
                except AutoingestError as err:
                    self._paced.warn(bucket, bucket=bucket, error=str(err))
                except Exception:
                    # No error here may end the other roles of the process.
                    metrics.ROLE_ERRORS.labels("events").inc()
                    log.exception("exposures not looked at", bucket=bucket, retry_s=INTERVAL)
                await pause(stop, INTERVAL / 2)

    async def _look(self, due: Due, listing: Listing, progress: Progress, turns: asyncio.Semaphore) -> None:
        async with turns:
            try:
                await self._complete(due, listing, progress)
            except AutoingestError as err:
                self._paced.warn(listing.bucket, bucket=listing.bucket, folder=due.exposure.folder, error=str(err))

    async def _complete(self, due: Due, listing: Listing, progress: Progress) -> None:
        """Find out what is expected of an exposure, and what of it is there."""
        exposure, is_late = due.exposure, due.age >= self._deadline
        if due.expected_from != "file":
            key = f"{exposure.folder.partition('/')[2]}{exposure.obs_id}_expectedSensors.json"
            if listed := await listed_detectors(listing, key, exposure.instrument):
                await progress.expect(exposure, "file", listed)
            else:
                every = all_detectors(exposure.instrument)
                await progress.expect(exposure, "camera", every, if_all_in=not is_late)
        is_told_now = is_late and not due.told_incomplete
        if is_told_now or (due.age >= ELSEWHERE and await self._is_ingested_elsewhere(due, listing.bucket)):
            await self._ask_butler(exposure, progress)
        if is_told_now and await progress.miss_deadline(exposure, await self._last_seen(due, listing)):
            metrics.EXPOSURES_INCOMPLETE.labels(listing.bucket).inc()
            log.warning("exposure is incomplete", bucket=listing.bucket, obs_id=exposure.obs_id, after_s=round(due.age))

    async def _is_ingested_elsewhere(self, due: Due, bucket: str) -> bool:
        """Return whether Redis says of any missing detector's file that it is ingested."""
        exposure = due.exposure
        names: Sequence[str] = due.missing or list(all_detectors(exposure.instrument))
        if len(instruments.get(exposure.instrument).detectors) == 1:
            names = ["R00_S00"]
        paths = [f"{exposure.folder}{exposure.obs_id}_{name}{kind}.fits" for name in names for kind in ("", "_guider")]
        return any(record.finished for record in await Locator(self._redis).records(paths))

    async def _ask_butler(self, exposure: ExposureFolder, progress: Progress) -> None:
        found = await self._reader.exposures(exposure.instrument, [exposure.obs_id])
        if known := found.get(exposure.obs_id):
            names = {name for name, _ in known.detectors}
            await progress.observe(exposure, known.exposure_id, known.summary.json, known.visit, names)

    async def _last_seen(self, due: Due, listing: Listing) -> dict[str, str]:
        """Return where each missing detector was last seen: its place in Redis, ``store`` or ``nowhere``."""
        exposure = due.exposure
        camera = instruments.get(exposure.instrument)
        seen = dict.fromkeys(due.missing or all_detectors(exposure.instrument), "nowhere")
        prefix = exposure.folder.partition("/")[2]
        async for page in stored_exposures(listing, prefix, self._filter):
            for found in page:
                paths = [image.stored.path for image in found.images]
                statuses = await file_statuses(self._redis, listing.bucket, paths)
                for image, status in zip(found.images, statuses, strict=True):
                    assert isinstance(image.obj, ExposureObject)
                    detector = camera.detector_named(image.obj.raft_sensor)
                    if detector and detector.name in seen:
                        seen[detector.name] = status.place or "store"
        return seen
