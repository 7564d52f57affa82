"""The work queue of one bucket: claim, acknowledge, defer, fail, return.

A path moves from the queue to a worker's list and from there to ``ingested``, to waiting, to the dead letters, or back
to the queue. Each move is one script. All but the claim itself name the claim that they belong to, and have an effect
only if it is still the path's last one: a late or repeated acknowledgement, or one of a version that has been replaced,
does no harm.
"""

from __future__ import annotations

import asyncio
import math
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Literal, cast

import orjson
import redis.asyncio

from ..errors import MetadataError, UnknownObjectError
from ..model.exposures import ExposureSummary
from ..model.objects import ExposureObject, LfaObject, parse
from ..model.text import exception_text
from . import keys
from .connection import health, is_safe
from .pending_visits import pending_field
from .progress import EventSettings
from .scripts import ACKNOWLEDGE, CLAIM, COUNT_TRIALS, DEFER, FAIL, GIVE_BACK, RENEW, head
from .site import ForeignQueueError, site_of
from .statistics import counted_as

EXPOSURE_KNOWN_EXPIRY = 86400
"""Seconds for which Redis remembers that an exposure is in the Butler."""


LONGEST_DESCRIPTION = 256
"""Characters of the description in a file's event, as in the field's event imageInOODS."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """A path taken from the queue, with the file's record; None for unknown values."""

    path: str
    token: str
    """Identifies this claim among others of the same path."""
    claimed: float
    """Epoch seconds at which it was taken, by the clock that also gave `received` and `first_wait`."""
    size: int | None
    """Bytes."""
    etag: str | None
    created: float | None
    """Epoch seconds of the object's creation."""
    received: float | None
    """Epoch seconds at which its notification arrived."""
    attempts: int
    """Failed attempts so far."""
    first_wait: float | None
    """When it began to wait for its exposure, in epoch seconds."""
    butler_etag: str | None
    """The version in the Butler, if known to differ from `etag`."""
    tries: int = 1
    """Number of claims without an outcome, including this one, and of processes that ended while writing the file."""


@dataclass(frozen=True, slots=True)
class Done:
    """A file that is in the Butler."""

    claim: Claimed
    etag: str | None
    """eTag that the store served when the header was read."""
    size: int | None
    """Size in bytes that the store served."""
    instrument: str
    """Name in the statistics; empty if it is not counted."""
    day_obs: str
    """Day of the statistics; empty if it is not counted."""
    obs_id: str | None
    """obs_id of the exposure that the Butler therefore knows, if any."""
    camera: str = ""
    """Instrument of the exposure; empty if the file belongs to none."""
    detector: str = ""
    """Full name of its detector; empty if it has none."""
    replaces: bool = False
    """Whether another version of the file was in the Butler."""


class WorkQueue:
    """The work queue of one bucket, for one worker.

    After an error of Redis it is unknown whether a step has happened; every step may simply be repeated.

    Parameters
    ----------
    client
        Redis client that decodes responses.
    bucket
        Bucket with its profile.
    name
        The worker's unique name, without a colon.
    lease
        Seconds after the last `claim` or `renew` until the worker's list is reclaimed.
    record_expiry
        Seconds that the record of an ingested file is kept.
    repo
        Repository that the queue must belong to; the first worker sets it.
    max_dead
        Maximum number of complete dead letters.
    events
        Settings of the events.
    """

    def __init__(
        self,
        client: redis.asyncio.Redis,
        bucket: str,
        name: str,
        lease: float,
        record_expiry: float = keys.FILE_EXPIRY,
        repo: str = "",
        max_dead: int = 100_000,
        events: EventSettings | None = None,
    ) -> None:
        if not name or ":" in name:
            raise ValueError(f"worker's name {name!r} is empty or holds a colon")
        self.bucket = bucket
        self.name = name
        self.health = health(client)
        """What is wrong with Redis."""
        self._redis = client
        self._lease_ms = max(1, round(lease * 1000))
        self._site = site_of(repo)
        self._max_dead = max_dead
        self._events = asdict(events or EventSettings(bucket))
        self._record_expiry = max(1, round(record_expiry))
        self._head = head(name)
        self._paused = False
        self._queue = keys.queue(bucket)
        self._list = keys.worker(bucket, name)
        self._lease = keys.lease(bucket, name)
        self._leaseholders = keys.leaseholders(bucket)
        self._waiting = keys.waiting(bucket)
        self._dead = keys.dead(bucket)
        self._owed = keys.owed(bucket)
        self._claim = client.register_script(CLAIM)
        self._renew = client.register_script(RENEW)
        self._acknowledge = client.register_script(ACKNOWLEDGE)
        self._defer = client.register_script(DEFER)
        self._fail = client.register_script(FAIL)
        self._give_back = client.register_script(GIVE_BACK)
        self._count_trials = client.register_script(COUNT_TRIALS)

    async def wait(self, timeout: float) -> bool:  # noqa: ASYNC109 - the server's timeout, not ours
        """Block until the queue is not empty; take nothing.

        Parameters
        ----------
        timeout
            Seconds; it may return earlier, so that the answer comes before the client's socket timeout.

        Returns
        -------
        found
            Whether the queue is not empty.
        """
        if self._paused or not await is_safe(self._redis):
            await asyncio.sleep(timeout)
            return False
        if limit := self._redis.connection_pool.connection_kwargs.get("socket_timeout"):
            timeout = min(timeout, limit / 2)
        # A move from the right end to the same right end changes nothing, and blocks while the list is empty.
        found = await self._redis.blmove(self._queue, self._queue, timeout, "RIGHT", "RIGHT")  # type: ignore[arg-type]
        return found is not None

    async def claim(self, limit: int, *, more: bool = False) -> list[Claimed]:
        """Fill this worker's list from the queue, take or renew the lease, and return the whole list.

        The list includes the paths already held, and those of an earlier claim whose answer was lost.

        Parameters
        ----------
        limit
            Maximum number of paths to hold. From half of it on, no further exposure is begun.
        more
            Whether the worker still works on the paths claimed before. If not, a file among them that was announced
            again is queued once more, as it is unknown which version was written last.

        Raises
        ------
        ForeignQueueError
            If the queue belongs to another repository.

        Notes
        -----
        While Redis may evict acknowledged files, nothing is taken from the queue.
        """
        limit = limit if await is_safe(self._redis) else 0
        lists = [self._queue, self._list, self._lease, self._leaseholders, self._waiting, self._dead]
        lists += [keys.site(self.bucket), keys.exposure_known(self.bucket, ""), keys.waiting_for(self.bucket, "")]
        lists.append(keys.paused(self.bucket))
        reply = await self._claim(
            lists, [*self._head, limit, self._lease_ms, secrets.token_hex(6), self._site, int(more)]
        )
        self._paused = reply == ""
        if reply == "":
            return []
        if isinstance(reply, str):
            raise ForeignQueueError(self.bucket, reply, self._site)
        return [
            Claimed(
                path=path,
                token=token,
                claimed=float(claimed),
                size=int(size) if size and size.isdecimal() else None,
                etag=etag,
                created=seconds(created),
                received=seconds(received),
                attempts=int(attempts) if attempts and attempts.isdecimal() else 0,
                first_wait=seconds(first_wait),
                butler_etag=butler_etag,
                tries=int(tries) if tries and tries.isdecimal() else 1,
            )
            for path, claimed, token, size, etag, created, received, attempts, first_wait, butler_etag, tries in reply
        ]

    async def renew(self) -> bool:
        """Extend the lease.

        Returns
        -------
        held
            Whether this worker holds any path; False if all were acknowledged or reclaimed.
        """
        return bool(await self._renew([self._list, self._lease], [self._lease_ms]))

    async def ingested(
        self,
        done: Sequence[Done],
        pending_visits: Mapping[tuple[str, int], str] | None = None,
        exposures: Mapping[str, ExposureSummary] | None = None,
    ) -> list[str]:
        """Acknowledge files, count them, and wake the files that wait for their exposures.

        Parameters
        ----------
        done
            The files.
        pending_visits
            Exposures, by instrument and id, whose visits could not be defined, each with the error.
        exposures
            The files' exposures, by the obs_id in their paths.

        Returns
        -------
        paths
            Those that are ingested now. A file that was announced again since its claim is on the queue, or with a
            worker, for its new version, and is queued again if two workers have written different versions.
        """
        order = {
            "ingested": keys.ingested(self.bucket, ""),
            "known": keys.exposure_known(self.bucket, ""),
            "waiting_for": keys.waiting_for(self.bucket, ""),
            "known_expiry": EXPOSURE_KNOWN_EXPIRY,
            "record_expiry": self._record_expiry,
            "owed": [
                (pending_field(*key), exception_text(exception)) for key, exception in (pending_visits or {}).items()
            ],
            "events": self._events,
            "exposures": [
                (item.instrument, obs_id, str(item.exposure), item.json, item.visit)
                for obs_id, item in (exposures or {}).items()
            ],
            "files": [
                (
                    item.claim.path, item.claim.token, item.etag or "", "" if item.size is None else str(item.size),
                    item.instrument, item.day_obs, item.obs_id or "", item.camera, item.detector,
                    "" if item.claim.created is None else repr(item.claim.created), "1" if item.replaces else "",
                )
                for item in done
            ],
        }  # fmt: skip
        lists = [self._list, self._queue, self._waiting, self._owed]
        reply = await self._acknowledge(lists, [*self._head, orjson.dumps(order).decode()])
        return cast(list[str], reply)

    async def defer(
        self, claim: Claimed, delay: float, obs_id: str | None, *, on_trial: bool = False
    ) -> Literal["waiting", "queued", "lost"]:
        """Defer a file until its exposure arrives or for some time.

        Parameters
        ----------
        claim
            The file.
        delay
            Maximum seconds until it returns to the queue.
        obs_id
            The exposure that wakes it earlier, if any.
        on_trial
            Whether the process was killed from outside during the file's trial, whose count is then kept.

        Returns
        -------
        outcome
            ``queued`` if the exposure has become known since this worker claimed the file; ``lost`` if the claim was
            no longer valid.
        """
        exposure = [keys.exposure_known(self.bucket, obs_id or ""), keys.waiting_for(self.bucket, obs_id or "")]
        reply = await self._defer(
            [self._list, self._queue, self._waiting, self._lease],
            [*self._head, claim.path, claim.token, delay, obs_id or "", *exposure, int(on_trial)],
        )
        return cast(Literal["waiting", "queued", "lost"], reply)

    async def failed(
        self,
        claim: Claimed,
        reason: str,
        exception: str,
        *,
        max_attempts: int,
        delay: float,
        over: float = 0.0,
        detector: str = "",
    ) -> Literal["retry", "dead", "forgotten", "lost"]:
        """Count a failed attempt; the file is retried later, or becomes a dead letter.

        Parameters
        ----------
        claim
            The file.
        reason
            One word, the ``reason`` of a `~autoingest.errors.PermanentError`.
        exception
            Type and message of the error.
        max_attempts
            Failed attempts after which the file becomes a dead letter.
        delay
            Seconds to wait after the first attempt; doubles with each.
        over
            Minimum seconds between the first failure and the dead letter, however many attempts fail. Attempts are then
            at most a quarter of it apart.
        detector
            Full name of the file's detector, for its events; empty if it has none.

        Returns
        -------
        outcome
            ``lost`` if the claim was no longer valid; ``forgotten`` if the file is not in the store and there
            are too many dead letters.
        """
        obj = _object(claim.path)
        instrument, day, received = _statistics(obj, self.bucket)
        field = "md_fail_exc" if reason == MetadataError.reason else "ing_fail_exc"
        camera = obj.instrument if isinstance(obj, ExposureObject) else ""
        code, what = (2, "metadata failure") if reason == MetadataError.reason else (1, "ingest failure")
        told = {
            "events": self._events, "camera": camera, "detector": detector, "code": code,
            "description": f"{what}: {exception_text(exception)}"[:LONGEST_DESCRIPTION],
        }  # fmt: skip
        reply = await self._fail(
            [self._list, self._waiting, self._dead, keys.failed(self.bucket, instrument)],
            [
                *self._head, claim.path, claim.token, reason, exception_text(exception), field, max_attempts, delay,
                day, received, over, self._max_dead,
                orjson.dumps(told).decode(),
            ],
        )  # fmt: skip
        return cast(Literal["retry", "dead", "forgotten", "lost"], reply)

    async def give_up(self, claim: Claimed, reason: str, exception: str, detector: str = "") -> bool:
        """Make a file a dead letter at once; False if the claim was no longer valid."""
        return await self.failed(claim, reason, exception, max_attempts=0, delay=0, detector=detector) == "dead"

    async def count_process_ends(self, claims: Sequence[Claimed], least: int = 0) -> list[int]:
        """Count that a process ended while writing these files; the count becomes at least `least`.

        Returns
        -------
        tries
            The new `Claimed.tries` of each; 0 where the claim is no longer valid.
        """
        return await self._counted("tries", claims, least)

    async def on_trial(self, claim: Claimed) -> int:
        """Count a trial: the file is now written alone, to see whether it ends processes.

        Trials add up while the process, or this program with it, is killed from outside. Any other outcome resets the
        count.

        Returns
        -------
        number
            Trials in a row, this one included; 0 if the claim is no longer valid.
        """
        return (await self._counted("trials", [claim], 0))[0]

    async def _counted(self, field: str, claims: Sequence[Claimed], least: int) -> list[int]:
        files = [text for claim in claims for text in (claim.path, claim.token)]
        return cast(list[int], await self._count_trials([self._list], [*self._head, field, least, *files]))

    async def give_back(self) -> int:
        """Return all paths of this worker to the front of the queue, in their original order, and end the lease.

        Returns
        -------
        number
            Number of paths returned.
        """
        lists = [self._list, self._queue, self._lease, self._leaseholders]
        return int(await self._give_back(lists, [*self._head, 0]))


def seconds(text: str | None) -> float | None:
    """Return a time in a record, in epoch seconds; None if it is missing or invalid."""
    try:
        value = float(text or "nan")
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _object(path: str) -> ExposureObject | LfaObject | None:
    try:
        return parse(path)
    except UnknownObjectError:
        return None


def _statistics(obj: ExposureObject | LfaObject | None, bucket: str) -> tuple[str, str, str]:
    """Return the arguments by which a failed file is counted: day and the key that must exist; or empty ones."""
    instrument, day = counted_as(obj) if obj else ("", "")
    if not instrument:
        return "", "", ""
    return instrument, day, keys.received_by_instrument(bucket, instrument) if isinstance(obj, LfaObject) else ""
