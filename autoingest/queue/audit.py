"""Accounting: every accepted object is in exactly one place.

Accepted objects are those that have a record (``FILE:``) or are on a list. The lists are read first, then the records.
Work goes on meanwhile, so suspects are checked again, finally in one atomic step per path. Of a consistent path only a
hash is kept, about 100 bytes, and only if it is on a list.

An object can be in its one place and still be stuck, so the audit also warns of keys of the wrong type, of files that
wait too long, and of queues without a worker.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Literal, cast

import redis.asyncio

from ..model.text import printable
from . import keys
from .places import CHUNK, SCAN_COUNT, UNREADABLE, Located, Locator, holders_of_leases, place_of

Category = Literal["queued", "working", "waiting", "ingested", "dead", "rejected", "dropped", "given up"]
CATEGORIES: tuple[Category, ...] = (
    "queued", "working", "waiting", "ingested", "dead", "rejected", "dropped", "given up",
)  # fmt: skip

Problem = Literal["nowhere", "twice", "elsewhere", "unreadable", "other-version", "corrupt"]

FEW = 200
"""Number of suspects that are checked one by one. Each check makes the server search the whole queue."""

ROUNDS = 3
"""Maximum number of further rounds."""

LONGEST_WAIT = 86400.0
"""Longest time in seconds that a file waits, unless the configuration allows more."""

PATIENCE = 3.0
"""Seconds within which a file must be taken from a queue that is not empty."""

TYPES = {
    "QUEUE": "list", "WORKER": "list", "FILE": "hash", "REC": "hash", "RECINSTR": "hash", "MAXSEQ": "string",
    "INGEST": "hash", "FAIL": "hash", "GROUP": "string", "ENQ": "string", "LEASE": "string", "LEASEHOLDERS": "set",
    "WAITING": "zset", "WAITINGFOR": "set", "EXPOSURE": "string", "OWED": "hash", "DEAD": "hash", "CANARY": "hash",
    "REJECTED": "hash", "REJECTEDTIMES": "zset",
    "SITE": "string", "ANNEXINSTRUMENTS": "set", "CANARYTIMES": "zset", "ARRIVALS": "hash", "ARRIVALSTREAM": "stream",
    "ARRIVALSSINCE": "string", "EVENTS": "stream", "EVENTSOFFILES": "stream", "PROGRESS": "hash", "PROGRESSDUE": "zset",
    "PROGRESSDAY": "set", "POSITION": "string", "PUBLISHER": "string", "UNDELIVERED": "hash",
    "HEARTBEATS": "hash", "HEARTBEATTIMES": "zset",
    "OPERATORLOG": "stream", "PAUSED": "string",
}  # fmt: skip
"""Type of each kind of key, by the first part of its name."""

LISTS = "[QWDR]*"
"""Pattern of the keys that hold paths."""

FAILURES = "FAIL:*"
OTHERS = "[^F]*"
"""Patterns of all other keys except file records, which are read one by one."""

_QUEUE, _WORKER, _WAITING, _DEAD, _TWICE, _SEEN, _BUCKET = 1, 2, 4, 8, 16, 32, 64
_PLACES: dict[int, Category] = {_QUEUE: "queued", _WORKER: "working", _WAITING: "waiting", _DEAD: "dead"}


@dataclass(frozen=True, slots=True)
class Finding:
    """An accepted object that is not in exactly the one place that its record names."""

    path: str
    problem: Problem
    """In no place, in two, or in another than its record says; its record is of the wrong type; or the store has
    another version than was ingested."""
    state: str | None
    """What the record says."""
    places: list[str]
    """Where it is: ``queued``, ``working: {worker}``, ``waiting``, ``dead``, ``ingested``."""


@dataclass(slots=True)
class AuditReport:
    """The result of an audit."""

    counts: dict[str, dict[Category, int]] = field(default_factory=dict)
    """Objects by bucket and category."""
    findings: list[Finding] = field(default_factory=list)
    """The findings, up to the limit."""
    inconsistent: int = 0
    """Number of all findings."""
    warnings: list[str] = field(default_factory=list)
    """Reasons why objects may be stuck, and keys of the wrong type."""

    def add(self, finding: Finding, limit: int) -> None:
        """Count a finding, and list it unless there are many."""
        self.inconsistent += 1
        if len(self.findings) < limit:
            self.findings.append(finding)

    @property
    def consistent(self) -> bool:
        """Whether every object is in exactly one place."""
        return self.inconsistent == 0

    def total(self, category: Category) -> int:
        """Objects of a category in all buckets."""
        return sum(counts[category] for counts in self.counts.values())


@dataclass(slots=True)
class _Lists:
    """Names of the keys that hold paths, by bucket."""

    queues: set[str] = field(default_factory=set)
    waiting: set[str] = field(default_factory=set)
    dead: set[str] = field(default_factory=set)
    rejected: set[str] = field(default_factory=set)
    workers: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))


class Auditor:
    """Counts and compares; nothing is changed.

    Reading the list of an old worker, which holds no lease, restarts the time after which the worker counts as dead.

    Parameters
    ----------
    client
        Redis client that decodes responses.
    progress
        Called with the current step (``lists``, ``records``, ``suspects``), the number done, and the total, if known.
    buckets
        Buckets of the site; files of other buckets cause a warning. None disables that.
    longest_wait
        Seconds that a file may wait.
    """

    def __init__(
        self,
        client: redis.asyncio.Redis,
        progress: Callable[[str, int, int], None] = lambda step, done, total: None,
        *,
        buckets: Collection[str] | None = None,
        longest_wait: float = LONGEST_WAIT,
    ) -> None:
        self._redis = client
        self._progress = progress
        self._buckets = buckets
        self._longest_wait = longest_wait
        self.folders: set[str] = set()
        """Folders, with their buckets, that hold ingested files."""
        self._strange: dict[str, str] = {}
        self._aside: set[str] = set()
        self._locator = Locator(client)
        self._lists = _Lists()
        self._counts: Counter[tuple[str, Category]] = Counter()
        self._bucket_of: dict[str, str] = {}

    async def run(self, limit: int = 1000) -> AuditReport:
        """Audit all buckets.

        Parameters
        ----------
        limit
            Maximum number of findings to list; all are counted.
        """
        self._counts.clear()
        for pattern in (FAILURES, OTHERS):
            self._lists = await self._names(pattern)
        begun = time.monotonic()
        unread = await self._unread()
        suspects = await self._look(None)
        for _ in range(ROUNDS):
            if len(suspects) <= FEW:
                break
            suspects = await self._look(suspects)
        report = AuditReport()
        await self._confirm(sorted(suspects), report, limit)
        for bucket in self._lists.rejected:
            self._counts[bucket, "rejected"] += int(await self._redis.hlen(keys.rejected(bucket)))
        for bucket in sorted({bucket for bucket, _ in self._counts}):
            report.counts[bucket] = {category: self._counts[bucket, category] for category in CATEGORIES}
        await self._warn_of_keys(report)
        await self._warn_of_waits(report)
        await self._warn_of_queues(report, unread, begun)
        return report

    async def _warn_of_keys(self, report: AuditReport) -> None:
        for key, kind in sorted(self._strange.items()):
            right = TYPES[key.partition(":")[0]]
            report.warnings.append(
                f"{printable(key)} is of type {kind}, not {right}: it is set aside when it is needed"
            )
        for key in sorted(self._aside):
            report.warnings.append(
                f"{printable(key)} was set aside, as it had the wrong type: look at it and delete it"
            )

    async def _warn_of_waits(self, report: AuditReport) -> None:
        seconds, _ = await self._redis.time()
        far = f"({seconds + self._longest_wait}"
        for bucket in sorted(self._lists.waiting):
            key = keys.waiting(bucket)
            if number := await self._redis.zcount(key, far, "+inf"):
                first = cast(list[str], await self._redis.zrange(key, far, "+inf", byscore=True, offset=0, num=1))
                report.warnings.append(
                    f"{bucket}: {number:,} files will wait for more than {self._longest_wait:,.0f} s from now, the"
                    f" first is {', '.join(map(printable, first))}: queue them with autoingest trigger --force"
                )

    async def _warn_of_queues(self, report: AuditReport, unread: dict[str, str], begun: float) -> None:
        if self._buckets is not None:
            working = {bucket for bucket, names in self._lists.workers.items() if names}
            for bucket in sorted((self._lists.queues | self._lists.waiting | working) - set(self._buckets)):
                report.warnings.append(f"{bucket}: files are queued, in work or waiting, but it is not configured")
        if not unread:
            return
        await asyncio.sleep(begun + PATIENCE - time.monotonic())
        for bucket, path in (await self._unread()).items():
            if unread.get(bucket) == path:
                report.warnings.append(f"{bucket}: nobody takes from its queue")

    async def _unread(self) -> dict[str, str]:
        """Return the non-empty queues without a leased worker, each with its next path.

        Workers of the old services have no lease; they show only by taking paths.
        """
        found = {}
        for bucket in (await self._names()).queues:
            path = cast(str | None, await self._redis.lindex(keys.queue(bucket), -1))
            leases = [keys.lease(bucket, name) for name in await holders_of_leases(self._redis, bucket)]
            if path is not None and not (leases and await self._redis.exists(*leases)):
                found[bucket] = path
        return found

    async def _look(self, only: Collection[str] | None) -> set[str]:
        """Count the consistent paths and return the others, of all paths or of some."""
        self._lists = await self._names()
        hashes = None if only is None else {hash(path) for path in only}
        known: dict[int, int] = {}
        buckets: list[str] = []
        suspects: set[str] = set()
        listed = 0
        async for bucket, place, paths in self._listed():
            if bucket not in buckets:
                buckets.append(bucket)
            where = buckets.index(bucket) * _BUCKET
            for path in paths:
                number = hash(path)
                if hashes is not None and number not in hashes:
                    continue
                before = known.get(number, 0)
                if before & ~(where | place) or (before and place in (_QUEUE, _WORKER)):
                    known[number] = before | place | _TWICE
                    suspects.add(path)
                    self._bucket_of[path] = bucket
                else:
                    known[number] = where | place
            listed += len(paths)
            self._progress("lists", listed, 0)
        done, total = 0, len(only) if only is not None else int(await self._redis.dbsize())
        async for paths in self._accepted(only):
            for path, record in zip(paths, await self._locator.records(paths), strict=True):
                number = hash(path)
                entry = known.get(number, 0)
                place = entry % _BUCKET
                bucket = buckets[entry // _BUCKET] if place else path.partition("/")[0]
                if place:
                    known[number] = entry | _SEEN
                elif only is not None and not record.exists:
                    continue
                if place & (_TWICE | _SEEN):
                    continue
                category = place_of(record, [_PLACES[place]] if place else [])
                if category is None:
                    suspects.add(path)
                    self._bucket_of[path] = bucket
                elif not place:
                    self._counts[bucket, category] += 1
                    if category == "ingested":
                        self.folders.add(_folder(path))
            done += len(paths)
            self._progress("records", min(done, total), total)
        strange = {hash(path) for path in suspects}
        for number, entry in known.items():
            if number not in strange:
                self._counts[buckets[entry // _BUCKET], _PLACES[entry % _SEEN]] += 1
        return suspects

    async def _names(self, pattern: str = LISTS) -> _Lists:
        """Find the keys that hold paths, and remember those of the wrong type."""
        lists = _Lists()
        cursor = -1
        while cursor:
            cursor, reply = await self._redis.scan(max(cursor, 0), match=pattern, count=SCAN_COUNT)
            found = cast(list[str], reply)
            self._aside.update(key for key in found if key.startswith(keys.set_aside("")))
            names = [key for key in found if key.partition(":")[0] in TYPES]
            async with self._redis.pipeline(transaction=False) as pipe:
                for key in names:
                    pipe.type(key)
                kinds = await pipe.execute()
            for key, kind in zip(names, kinds, strict=True):
                first, _, rest = key.partition(":")
                if kind not in (TYPES[first], "none"):
                    self._strange[key] = kind
                    continue
                match first:
                    case "QUEUE":
                        lists.queues.add(rest)
                    case "WAITING":
                        lists.waiting.add(rest)
                    case "DEAD":
                        lists.dead.add(rest)
                    case "REJECTED":
                        lists.rejected.add(rest)
                    case "WORKER":
                        bucket, name = keys.worker_of(key)
                        lists.workers[bucket].add(name)
        return lists

    async def _listed(self) -> AsyncIterator[tuple[str, int, list[str]]]:
        """Yield all paths on lists, with bucket and place."""
        for bucket in self._lists.queues:
            async for paths in self._entries(keys.queue(bucket)):
                yield bucket, _QUEUE, paths
        for bucket, names in self._lists.workers.items():
            leaseholders = await holders_of_leases(self._redis, bucket)
            for name in names:
                async for paths in self._entries(keys.worker(bucket, name)):
                    if name in leaseholders:
                        # An outdated copy does not count: whatever its worker does, it only disappears.
                        records = await self._locator.records(paths)
                        paths = [
                            path
                            for path, record in zip(paths, records, strict=True)
                            if not record.state or (record.state == "working" and record.worker == name)
                        ]
                    yield bucket, _WORKER, paths
        for bucket in self._lists.waiting:
            cursor = -1
            while cursor:
                cursor, members = await self._redis.zscan(keys.waiting(bucket), max(cursor, 0), count=CHUNK)
                yield bucket, _WAITING, [str(path) for path, _ in members]
        for bucket in self._lists.dead:
            cursor = -1
            while cursor:
                cursor, letters = await self._redis.hscan(keys.dead(bucket), max(cursor, 0), count=CHUNK)
                yield bucket, _DEAD, [str(path) for path in letters]

    async def _entries(self, key: str) -> AsyncIterator[list[str]]:
        # From the left: entries pushed meanwhile make others appear twice, which is resolved later. From the right,
        # entries taken meanwhile would make others be missed.
        first = 0
        while paths := cast(list[str], await self._redis.lrange(key, first, first + CHUNK - 1)):
            yield paths
            first += CHUNK

    async def _accepted(self, only: Collection[str] | None) -> AsyncIterator[list[str]]:
        """Yield the paths that have a record, or the given ones."""
        if only is None:
            cursor = -1
            while cursor:
                cursor, found = await self._redis.scan(max(cursor, 0), match=keys.file("*"), count=SCAN_COUNT)
                yield [str(key).removeprefix(keys.file("")) for key in found]
        else:
            paths = list(only)
            for first in range(0, len(paths), CHUNK):
                yield paths[first : first + CHUNK]

    async def _confirm(self, suspects: Sequence[str], report: AuditReport, limit: int) -> None:
        by_bucket: defaultdict[str, list[str]] = defaultdict(list)
        for path in suspects:
            by_bucket[self._bucket_of[path]].append(path)
        self._lists = await self._names()
        done = 0
        for bucket, paths in by_bucket.items():
            for first in range(0, len(paths), CHUNK):
                part = paths[first : first + CHUNK]
                found = await self._locator.locate(bucket, part, self._lists.workers[bucket])
                for path, located in zip(part, found, strict=True):
                    self._judge(bucket, path, located, report, limit)
                done += len(part)
                self._progress("suspects", done, len(suspects))

    def _judge(self, bucket: str, path: str, located: Located, report: AuditReport, limit: int) -> None:
        record, places = located.record, located.places
        if not places and not record.exists:
            return  # it was on a list and has no record: an old worker has finished it
        category = located.place
        if category:
            self._counts[bucket, category] += 1
            return
        if record.state == "ingested":
            places = [*places, "ingested"]
        problem: Problem = "nowhere" if not places else "twice" if len(places) > 1 else "elsewhere"
        if record.state == UNREADABLE:
            problem = "unreadable"
        report.add(Finding(path, problem, record.state or None, places), limit)


def _folder(path: str) -> str:
    """Return the folder of a day."""
    parts = path.split("/")
    return "/".join(parts[:3] if len(parts) == 5 else parts[:-1])
