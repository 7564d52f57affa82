"""Accounting: every accepted object is in exactly one place.

Accepted is what has a record (``FILE:``, kept for 7 days) and what is on a list. The lists are read first, then the
records. Meanwhile work goes on, so whatever looks wrong is looked at again, and in the end by one atomic step for each
path. Of a path that is in order only its hash is kept, about 100 bytes, and that only while it is on a list.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Literal, cast

import redis.asyncio

from . import keys
from .places import CHUNK, SCAN_COUNT, Located, Locator, settle

Category = Literal["queued", "working", "waiting", "ingested", "dead", "rejected", "dropped", "given up"]
CATEGORIES: tuple[Category, ...] = (
    "queued", "working", "waiting", "ingested", "dead", "rejected", "dropped", "given up",
)  # fmt: skip

Problem = Literal["nowhere", "twice", "elsewhere"]

FEW = 200
"""Suspects that are looked at one by one without another round. Each costs the server a walk through the queue."""

ROUNDS = 3
"""Further rounds at the most."""

_QUEUE, _WORKER, _WAITING, _DEAD, _TWICE, _SEEN = 1, 2, 4, 8, 16, 32
_PLACES: dict[int, Category] = {_QUEUE: "queued", _WORKER: "working", _WAITING: "waiting", _DEAD: "dead"}


@dataclass(frozen=True, slots=True)
class Finding:
    """An accepted object that is not in exactly the place that its record tells."""

    path: str
    problem: Problem
    """In no place, in two, or in another than its record says."""
    state: str | None
    """What the record says."""
    places: list[str]
    """Where it is: ``queued``, ``working: {worker}``, ``waiting``, ``dead``, ``ingested``."""


@dataclass(slots=True)
class AuditReport:
    """What an audit has found."""

    counts: dict[str, dict[Category, int]] = field(default_factory=dict)
    """Objects by bucket and category."""
    findings: list[Finding] = field(default_factory=list)
    """As many as were asked for."""
    inconsistent: int = 0
    """Number of all findings."""

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

    Reading the list of an old worker, which holds no lease, counts as its sign of life, as any read does.

    Parameters
    ----------
    client
        Redis client that decodes responses.
    progress
        Called with what is done (``lists``, ``records``, ``suspects``), how far, and how much there is in all, as far
        as that is known.
    """

    def __init__(
        self, client: redis.asyncio.Redis, progress: Callable[[str, int, int], None] = lambda step, done, total: None
    ) -> None:
        self._redis = client
        self._progress = progress
        self._locator = Locator(client)
        self._lists = _Lists()
        self._counts: Counter[tuple[str, Category]] = Counter()

    async def run(self, limit: int = 1000) -> AuditReport:
        """Look at everything.

        Parameters
        ----------
        limit
            Findings to list at the most; all are counted.
        """
        self._counts.clear()
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
        return report

    async def _look(self, only: Collection[str] | None) -> set[str]:
        """Count what is in order and return what is not, of all paths or of some."""
        self._lists = await self._names()
        hashes = None if only is None else {hash(path) for path in only}
        places: defaultdict[str, dict[int, int]] = defaultdict(dict)
        suspects: set[str] = set()
        listed = 0
        async for bucket, place, paths in self._listed():
            known = places[bucket]
            for path in paths:
                number = hash(path)
                if hashes is not None and number not in hashes:
                    continue
                before = known.get(number, 0)
                if before & ~place or (before and place in (_QUEUE, _WORKER)):
                    known[number] = before | place | _TWICE
                    suspects.add(path)
                else:
                    known[number] = place
            listed += len(paths)
            self._progress("lists", listed, 0)
        done, total = 0, len(only) if only is not None else int(await self._redis.dbsize())
        async for paths in self._accepted(only):
            for path, record in zip(paths, await self._locator.records(paths), strict=True):
                bucket = path.partition("/")[0]
                number = hash(path)
                place = places[bucket].get(number, 0)
                if place:
                    places[bucket][number] = place | _SEEN
                elif only is not None and not record.exists:
                    continue
                if place & (_TWICE | _SEEN):
                    continue
                category = settle(record, [_PLACES[place]] if place else [])
                if category is None:
                    suspects.add(path)
                elif not place:
                    self._counts[bucket, category] += 1
            done += len(paths)
            self._progress("records", min(done, total), total)
        strange = {hash(path) for path in suspects}
        for bucket, known in places.items():
            for number, place in known.items():
                if number not in strange:
                    self._counts[bucket, _PLACES[place & ~_SEEN]] += 1
        return suspects

    async def _names(self) -> _Lists:
        lists = _Lists()
        async for key in self._redis.scan_iter(match="[QWDR]*", count=SCAN_COUNT):
            kind, _, rest = key.partition(":")
            match kind:
                case "QUEUE":
                    lists.queues.add(rest)
                case "WAITING":
                    lists.waiting.add(rest)
                case "DEAD":
                    lists.dead.add(rest)
                case "REJECTED":
                    lists.rejected.add(rest)
                case "WORKER":
                    # A bucket may hold a colon, a worker's name does not.
                    bucket, _, name = rest.rpartition(":")
                    lists.workers[bucket].add(name)
        return lists

    async def _listed(self) -> AsyncIterator[tuple[str, int, list[str]]]:
        """Yield all paths on lists, with bucket and place."""
        for bucket in self._lists.queues:
            async for paths in self._entries(keys.queue(bucket)):
                yield bucket, _QUEUE, paths
        for bucket, names in self._lists.workers.items():
            leaseholders = cast(set[str], await self._redis.smembers(keys.leaseholders(bucket)))
            for name in names:
                async for paths in self._entries(keys.worker(bucket, name)):
                    if name in leaseholders:
                        # A copy that the file has overtaken is nowhere: whatever its worker does, it only vanishes.
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
        # From the left: what is pushed meanwhile makes entries come twice, which is cleared up later;
        # from the right, what is taken would make others be missed.
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
            by_bucket[path.partition("/")[0]].append(path)
        self._lists = await self._names()
        done = 0
        for bucket, paths in by_bucket.items():
            for first in range(0, len(paths), CHUNK):
                part = paths[first : first + CHUNK]
                found = await self._locator.locate(bucket, part, self._lists.workers[bucket])
                for path, located in zip(part, found, strict=True):
                    self._judge(path, located, report, limit)
                done += len(part)
                self._progress("suspects", done, len(suspects))

    def _judge(self, path: str, located: Located, report: AuditReport, limit: int) -> None:
        record, places = located.record, located.places
        if not places and not record.exists:
            return  # it was on a list when that was read, and has no record: an old worker has finished it
        category = located.place
        if category:
            self._counts[path.partition("/")[0], category] += 1
            return
        if record.state == "ingested":
            places = [*places, "ingested"]
        problem: Problem = "nowhere" if not places else "twice" if len(places) > 1 else "elsewhere"
        report.inconsistent += 1
        if len(report.findings) < limit:
            report.findings.append(Finding(path, problem, record.state or None, places))


async def audit(client: redis.asyncio.Redis, limit: int = 1000) -> AuditReport:
    """Count every accepted object and find those that are in no place or in two; see `Auditor`."""
    return await Auditor(client).run(limit)
