"""Reconciliation: the store against the Butler against Redis, exposure by exposure.

Notifications can be lost for good: this finds the images that nobody announced, and what else an exposure lacks.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial

import redis.asyncio
import structlog

from .. import instruments
from ..app.config import Config
from ..butler.messages import ButlerExposure
from ..butler.reader import ButlerReader, open_reader
from ..model.objects import CAMERA_CODES, ExposureObject
from ..queue.file_status import file_statuses, replaced
from ..queue.intake import Intake
from ..queue.pending_visits import note_pending
from ..queue.site import check_site
from ..store.listing import Listing, exposure_prefixes, is_lfa, open_listing
from .expected import all_detectors, listed_detectors
from .exposures import StoredExposure, stored_exposures
from .object_filter import ObjectFilter, StoredFile
from .verdict import ExposureReport

AT_ONCE = 20
"""Exposures that the Butler is asked for in one question: 4,100 datasets of LSSTCam, about 0.3 s."""

log = structlog.get_logger(__name__)


class Reconciler:
    """Compares exposures, and heals them.

    Parameters
    ----------
    client
        Redis client that decodes responses.
    reader
        Knows what the Butler has.
    object_filter
        Selects the objects that are to be ingested.
    grace
        Seconds for which an object is left alone after it was written: its notification may still arrive.
    intake
        Queues what is missing; None only looks.
    """

    def __init__(
        self,
        client: redis.asyncio.Redis,
        reader: ButlerReader,
        object_filter: ObjectFilter,
        grace: float,
        intake: Intake | None = None,
    ) -> None:
        self._redis = client
        self._reader = reader
        self._object_filter = object_filter
        self._grace = grace
        self._intake = intake

    async def run(self, listings: Sequence[Listing], day_obs: str) -> AsyncIterator[ExposureReport]:
        """Yield the exposures of a day, those of each bucket in order; healed as they come.

        Parameters
        ----------
        listings
            The buckets; those of the Large File Annex, which hold no exposures, are left out.
        day_obs
            Observing day, ``YYYYMMDD``.

        Raises
        ------
        TransientError, ConfigurationError
            If the store or the Butler do not answer; what was healed before stays healed.
        """
        listings = [listing for listing in listings if not is_lfa(listing.bucket)]
        listed: dict[str, set[str]] = {instrument: set() for instrument in CAMERA_CODES}
        for listing in listings:
            for prefix in exposure_prefixes(None, f"{day_obs}/"):
                async for exposures in stored_exposures(listing, prefix, self._object_filter):
                    for first in range(0, len(exposures), AT_ONCE):
                        for exposure, report in await self._compare(listing, exposures[first : first + AT_ONCE]):
                            listed[exposure.instrument].add(exposure.obs_id)
                            yield report
        for instrument in instruments.names():
            known = await self._reader.obs_ids(instrument, int(day_obs))
            unlisted = sorted(set(known) - listed.get(instrument, set()))
            for first in range(0, len(unlisted), AT_ONCE):
                found = await self._reader.exposures(instrument, unlisted[first : first + AT_ONCE])
                for listing in listings:
                    for item in found.values():
                        if number := sum(path.startswith(listing.bucket + "/") for path in item.files):
                            yield ExposureReport(
                                listing.bucket, instrument, day_obs, item.obs_id, in_butler=number, visit=item.visit
                            )

    async def _compare(
        self, listing: Listing, exposures: Sequence[StoredExposure]
    ) -> list[tuple[StoredExposure, ExposureReport]]:
        instrument = exposures[0].instrument
        found = await self._reader.exposures(instrument, [exposure.obs_id for exposure in exposures])
        reports = []
        for exposure in exposures:
            known = found.get(exposure.obs_id)
            report, missing = await self._judge(listing, exposure, known)
            if self._intake:
                await self._heal(report, missing, known)
            reports.append((exposure, report))
        return reports

    async def _judge(
        self, listing: Listing, exposure: StoredExposure, known: ButlerExposure | None
    ) -> tuple[ExposureReport, list[StoredFile]]:
        now = time.time()
        report = ExposureReport(
            listing.bucket,
            exposure.instrument,
            exposure.day_obs,
            exposure.obs_id,
            in_store=len(exposure.images),
            recent=now - exposure.newest < self._grace,
            visit=known.visit if known else "unknown",
        )
        expected = await _expected(listing, exposure)
        if expected is not None:
            report.expected = len(expected)
            in_butler = {name for name, _ in known.detectors} if known else set()
            report.absent = tuple(sorted(expected - exposure.detectors - in_butler))
        ingested = {image.stored.path: image.stored.etag for image in exposure.images if _is_in(image, known)}
        for path in await replaced(self._redis, ingested):
            del ingested[path]
        rest = [image for image in exposure.images if image.stored.path not in ingested]
        report.in_butler = len(ingested)
        missing = []
        found = await file_statuses(self._redis, listing.bucket, [image.stored.path for image in rest])
        for image, status in zip(rest, found, strict=True):
            if status.on_the_way:
                report.on_the_way += 1
            elif status.place == "dropped":
                report.dropped += 1
            elif status.stopped:
                report.dead += 1
            elif now - image.stored.modified < self._grace:
                report.young += 1
            else:
                missing.append(image)
        report.missing = len(missing)
        return report, missing

    async def _heal(self, report: ExposureReport, missing: list[StoredFile], known: ButlerExposure | None) -> None:
        assert self._intake is not None
        if missing:
            outcomes = await self._intake.accept([(image.notice(), image.obj) for image in missing])
            report.healed = outcomes.count("queued")
            log.warning(
                "missing files queued", bucket=report.bucket, obs_id=report.obs_id, files=report.healed,
                first=missing[0].stored.path,
            )  # fmt: skip
        if known and report.verdict == "visit-owed":
            await note_pending(self._redis, report.bucket, known.instrument, known.exposure_id, "found by reconcile")
            report.healed += 1
            log.warning("visit owed", bucket=report.bucket, obs_id=report.obs_id)


@asynccontextmanager
async def open_reconciler(
    config: Config,
    client: redis.asyncio.Redis,
    buckets: Sequence[str],
    intake: Intake | None = None,
    grace: float | None = None,
) -> AsyncIterator[Callable[[str], AsyncIterator[ExposureReport]]]:
    """Open the Butler and the store for a reconciliation.

    Parameters
    ----------
    config
        The whole configuration.
    client
        Redis client that decodes responses.
    buckets
        Buckets to compare.
    intake
        Queues what is missing; None only looks.
    grace
        See `Reconciler`; by default the configuration's.

    Yields
    ------
    run
        Takes an observing day, and yields its exposures as `Reconciler.run` does.

    Raises
    ------
    ConfigurationError
        If the Butler or the store can't be used, or if a bucket belongs to another site.
    TransientError
        If the Butler, the store or Redis is away.
    """
    if intake is not None:
        for bucket in buckets:
            await check_site(client, bucket, config.ingest.repo)
    async with AsyncExitStack() as stack:
        reader = await stack.enter_async_context(open_reader(config.ingest, config.logging))
        listings = [await stack.enter_async_context(open_listing(bucket)) for bucket in buckets]
        reconciler = Reconciler(
            client,
            reader,
            ObjectFilter(config.enqueue.filter),
            config.reconcile.grace if grace is None else grace,
            intake,
        )
        yield partial(reconciler.run, listings)


def last_days(seconds: float, now: datetime | None = None) -> list[str]:
    """Return the observing days, ``YYYYMMDD``, of the last `seconds`; a day begins at 12:00 UTC."""
    now = now or datetime.now(UTC)
    last = (now - timedelta(hours=12)).date()
    day = (now - timedelta(hours=12, seconds=seconds)).date()
    days = []
    while day <= last:
        days.append(f"{day:%Y%m%d}")
        day += timedelta(days=1)
    return days


def _is_in(image: StoredFile, known: ButlerExposure | None) -> bool:
    return known is not None and isinstance(image.obj, ExposureObject) and known.has(image.obj, image.stored.size)


async def _expected(listing: Listing, exposure: StoredExposure) -> set[str] | None:
    """Return the names of an exposure's detectors: its list of them, else all of the camera."""
    if exposure.instrument not in instruments.names():
        return None
    every = set(all_detectors(exposure.instrument))
    if every <= exposure.detectors or exposure.expected_key is None:
        return every
    listed = await listed_detectors(listing, exposure.expected_key, exposure.instrument)
    return every if listed is None else set(listed)
