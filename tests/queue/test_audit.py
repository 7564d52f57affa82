"""The audit counts every object once, and finds what is in no place or in two."""

from __future__ import annotations

import asyncio
import inspect
import re

import pytest
from redis.asyncio import Redis

from autoingest.model.notices import Notice
from autoingest.model.objects import parse
from autoingest.queue import audit as module
from autoingest.queue import keys
from autoingest.queue.audit import Auditor, AuditReport
from autoingest.queue.intake import Intake
from autoingest.queue.work import Done, WorkQueue
from testing.redis import BUCKET, audit, claim_of, done, image, put


async def _site(client: Redis) -> None:
    """One object in each place, and three on the queue; an old worker has one of them, nobody knows of another."""
    queue = WorkQueue(client, BUCKET, "w", 60)
    await put(client, *(image(number) for number in range(8)))
    await queue.claim(5)
    await queue.ingested([await done(client, image(0))])
    await queue.defer(await claim_of(client, image(1)), 9e9, None)
    await queue.give_up(await claim_of(client, image(2)), "missing", "gone")
    await queue.give_up(await claim_of(client, image(3)), "missing", "gone")
    await client.hdel(keys.dead(BUCKET), image(3))
    await client.hset(keys.file(image(3)), "state", "dropped")
    await client.lmove(keys.queue(BUCKET), keys.worker(BUCKET, "old"), "RIGHT", "LEFT")
    await client.lpush(keys.queue(BUCKET), image(8))
    await client.hset(keys.rejected(BUCKET), "key", "{}")


EXPECTED = {
    "queued": 3, "working": 2, "waiting": 1, "ingested": 1, "dead": 1, "rejected": 1, "dropped": 1, "given up": 0,
}  # fmt: skip


async def _found(client: Redis) -> dict[str, tuple[str, list[str]]]:
    report = await audit(client)
    assert report.inconsistent == len(report.findings)
    return {finding.path: (finding.problem, finding.places) for finding in report.findings}


async def test_each_object_is_counted_once(redis_client: Redis) -> None:
    await _site(redis_client)
    report = await audit(redis_client)
    assert report.findings == []
    assert report.consistent
    assert report.counts == {BUCKET: EXPECTED}


async def test_each_kind_of_inconsistency_is_found(redis_client: Redis) -> None:
    await _site(redis_client)
    await redis_client.lpush(keys.queue(BUCKET), image(6))  # twice on the queue
    await redis_client.zadd(keys.waiting(BUCKET), {image(7): 1.0})  # queued and waiting
    await redis_client.lpush(keys.queue(BUCKET), image(0))  # ingested, and on the queue
    await redis_client.lrem(keys.worker(BUCKET, "w"), 0, image(4))  # working says the record, and is not
    await redis_client.zrem(keys.waiting(BUCKET), image(1))  # waiting says the record
    await redis_client.hdel(keys.dead(BUCKET), image(2))  # dead says the record
    await redis_client.lpush(keys.queue(BUCKET), image(3))  # dropped, and on the queue
    await redis_client.lpush(keys.worker(BUCKET, "w"), image(8), image(8))  # no record, and in three places
    assert await _found(redis_client) == {
        image(6): ("twice", ["queued", "queued"]),
        image(7): ("twice", ["queued", "waiting"]),
        image(0): ("twice", ["queued", "ingested"]),
        image(4): ("nowhere", []),
        image(1): ("nowhere", []),
        image(2): ("nowhere", []),
        image(3): ("elsewhere", ["queued"]),
        image(8): ("twice", ["queued", "working: w", "working: w"]),
    }
    report = await audit(redis_client, limit=2)
    assert (len(report.findings), report.inconsistent) == (2, 8)
    assert report.counts[BUCKET]["working"] == 1, "the old worker's"


async def test_a_copy_that_the_file_has_overtaken_is_in_no_place(redis_client: Redis) -> None:
    queue = WorkQueue(redis_client, BUCKET, "w", 60)
    await put(redis_client, image(0))
    await queue.claim(1)
    await put(redis_client, image(0))
    report = await audit(redis_client)
    assert report.consistent
    assert report.counts[BUCKET]["queued"] == 1
    assert report.total("working") == 0


async def test_a_live_system_is_consistent(redis_client: Redis) -> None:
    """Thousands of objects move while they are counted."""
    queue, intake = WorkQueue(redis_client, BUCKET, "w", 60), Intake(redis_client)
    paths = [image(number) for number in range(6000)]
    finished = asyncio.Event()

    async def accept() -> None:
        for first in range(0, len(paths), 50):
            await intake.accept(
                [
                    (Notice(BUCKET, path.removeprefix(f"{BUCKET}/"), path, path, "e", 1, None), parse(path))
                    for path in paths[first : first + 50]
                ]
            )

    async def work() -> None:
        while not finished.is_set():
            claimed = await queue.claim(100)
            for claim in claimed[:5]:
                await queue.failed(claim, "missing", "x", max_attempts=1, delay=0)
            await queue.defer(claimed[5], 9e9, None) if len(claimed) > 5 else None
            await queue.ingested([Done(claim, None, None, "LSSTCam", "20250415", None) for claim in claimed[6:]])

    worker = asyncio.create_task(work())
    reports: list[AuditReport] = []
    accepting = asyncio.create_task(accept())
    while not accepting.done() or len(reports) < 3:
        reports.append(await audit(redis_client))
    await accepting
    finished.set()
    await worker
    await intake.close()
    assert [report.findings for report in reports if not report.consistent] == []
    final = await audit(redis_client)
    assert final.consistent
    assert sum(final.counts[BUCKET].values()) == len(paths)


async def test_many_suspects_are_looked_at_again_together(redis_client: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FEW", 3)
    await put(redis_client, *(image(number) for number in range(50)))
    await redis_client.delete(keys.queue(BUCKET))
    steps: list[str] = []
    report = await Auditor(redis_client, lambda step, done, total: steps.append(step)).run(limit=10)
    assert (report.inconsistent, len(report.findings)) == (50, 10)
    assert steps.count("records") > 1
    assert steps[-1] == "suspects"


async def test_paths_of_any_kind_are_counted_where_they_are(redis_client: Redis) -> None:
    """Their names say nothing of the bucket that they are in."""
    odd = ["", "x", "\udcff", f"{BUCKET}/\udcff", "other/x.fits", "y" * 100_000]
    queue = WorkQueue(redis_client, BUCKET, "w", 60)
    await redis_client.lpush(keys.queue(BUCKET), *odd)
    for step in ("queued", "working", "waiting", "dead"):
        if step == "working":
            await queue.claim(10)
        elif step == "waiting":
            for path in odd:
                await queue.defer(await claim_of(redis_client, path), -1, None)
        elif step == "dead":
            await redis_client.zremrangebyrank(keys.waiting(BUCKET), 0, -1)
            await redis_client.lpush(keys.queue(BUCKET), *odd)
            await queue.claim(10)
            for path in odd:
                await queue.give_up(await claim_of(redis_client, path), "unknown", "x")
        report = await audit(redis_client)
        assert report.findings == [], step
        assert {bucket: {name: n for name, n in counts.items() if n} for bucket, counts in report.counts.items()} == {
            BUCKET: {step: len(odd)}
        }
    await redis_client.hdel(keys.dead(BUCKET), *odd)
    assert {finding.path for finding in (await audit(redis_client)).findings} == set(odd)


@pytest.mark.parametrize("kind", [kind for kind in module.TYPES if kind != "FILE"])
async def test_a_key_of_the_wrong_type_is_told_and_harms_nothing_else(redis_client: Redis, kind: str) -> None:
    await _site(redis_client)
    key = f"{kind}:{BUCKET}:spoilt"
    await (redis_client.hset(key, "x", "y") if module.TYPES[kind] != "hash" else redis_client.set(key, "x"))
    report = await audit(redis_client)
    assert report.findings == []
    assert report.counts == {BUCKET: EXPECTED}
    assert [warning for warning in report.warnings if key in warning]


async def test_a_record_of_the_wrong_type_is_told(redis_client: Redis) -> None:
    await _site(redis_client)
    for path in (image(0), image(1), image(6)):
        await redis_client.set(keys.file(path), "x")
    found = await _found(redis_client)
    assert found == {
        image(0): ("unreadable", []), image(1): ("unreadable", ["waiting"]), image(6): ("unreadable", ["queued"]),
    }  # fmt: skip
    assert await WorkQueue(redis_client, BUCKET, "v", 60).claim(10), "which sets the bad record of one aside"
    assert [
        warning for warning in (await audit(redis_client)).warnings if "set aside" in warning and image(6) in warning
    ]


async def test_files_that_wait_for_ever_are_told(redis_client: Redis) -> None:
    await redis_client.hset(keys.file(image(0)), "state", "waiting")
    await redis_client.zadd(keys.waiting(BUCKET), {image(0): 9e9})
    report = await audit(redis_client)
    assert report.consistent
    assert image(0) in report.warnings[0]
    assert (await Auditor(redis_client, longest_wait=1e10).run()).warnings == []


async def test_queues_that_nobody_reads_are_told(redis_client: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.2)
    await put(redis_client, image(0), image(1))
    auditor = Auditor(redis_client, buckets=[BUCKET])
    assert (await auditor.run()).warnings == [f"{BUCKET}: nobody takes from its queue"]

    async def old_worker() -> None:
        while await redis_client.lmove(keys.queue(BUCKET), keys.worker(BUCKET, "old"), "RIGHT", "LEFT"):
            await asyncio.sleep(0.05)

    taking = asyncio.create_task(old_worker())
    assert (await auditor.run()).warnings == []
    await taking
    await put(redis_client, image(2), image(3))
    await WorkQueue(redis_client, BUCKET, "w", 60).claim(1)
    assert (await auditor.run()).warnings == []
    await put(redis_client, "unknown/x", bucket="unknown")
    found = (await auditor.run()).warnings
    assert "unknown: files are queued, in work or waiting, but it is not configured" in found


def test_the_audit_knows_the_type_of_every_key() -> None:
    names = set(re.findall(r'(?:return f|^[A-Z_]+ = )"([A-Z]+)', inspect.getsource(keys), re.MULTILINE)) - {"WRONGTYPE"}
    assert names == set(module.TYPES)
