"""Whatever happens in whatever order, every accepted path is in exactly one place."""

from __future__ import annotations

import time
from collections import Counter
from itertools import count

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from autoingest.model.notices import Notice
from autoingest.model.objects import parse
from autoingest.queue import keys
from autoingest.queue.intake import Intake
from autoingest.queue.places import Locator
from autoingest.queue.reclaim import Reclaimer
from autoingest.queue.work import Claimed, Done, WorkQueue
from testing.redis import BUCKET, image, text, texts

PATHS = [image(number) for number in range(2)]
OBS_ID = "MC_O_20250415_000001"
WORKERS = ("a", "b")

step = st.one_of(
    st.tuples(st.sampled_from(["notify", "notify", "push"]), st.sampled_from(PATHS)),
    st.tuples(
        st.sampled_from(["claim", "claim", "renew", "give_back", "die"]), st.sampled_from(WORKERS), st.integers(1, 3)
    ),
    st.tuples(
        st.sampled_from(["ingested", "defer_guider", "defer", "failed", "give_up"]),
        st.sampled_from(WORKERS),
        st.sampled_from(PATHS),
        st.booleans(),
    ),
    st.tuples(st.sampled_from(["reclaim", "due", "old_takes", "exposure"])),
)


class Model:
    """Does the steps, and knows which paths were accepted."""

    def __init__(self, client: Redis) -> None:
        self.client = client
        self.queues = {name: WorkQueue(client, BUCKET, name, 60) for name in WORKERS}
        self.claims: dict[tuple[str, str], list[Claimed]] = {}
        self.reclaimer = Reclaimer(client, [BUCKET], 0)
        self.intake = Intake(client)
        self.versions = count()
        self.accepted: set[str] = set()
        self.pushed = self.twice = False

    async def notify(self, path: str) -> None:
        """A new version of the object arrives."""
        self.accepted.add(path)
        # Whether an old worker has the earlier version is not on record.
        self.twice |= path in await self.client.lrange(keys.worker(BUCKET, "old"), 0, -1)
        version = str(next(self.versions))
        notice = Notice(BUCKET, path.removeprefix(f"{BUCKET}/"), path, version, version, 1, 1.0)
        await self.intake.accept([(notice, parse(path))])

    async def push(self, path: str) -> None:
        """An old enqueue puts the object on the queue, wherever it may be."""
        self.accepted.add(path)
        self.pushed = self.twice = True
        await self.client.lpush(keys.queue(BUCKET), path)

    async def claim(self, name: str, number: int) -> None:
        for claim in await self.queues[name].claim(number):
            self.claims.setdefault((name, claim.path), []).append(claim)

    def held(self, name: str, path: str, old: bool) -> Claimed:
        """The last claim that a worker had of a path, or the first one, which may be of another version."""
        claims = self.claims.get((name, path)) or [Claimed(path, "none", 0.0, None, None, None, None, 0, None, None)]
        return claims[0 if old else -1]

    async def renew(self, name: str, _: int) -> None:
        await self.queues[name].renew()

    async def give_back(self, name: str, _: int) -> None:
        await self.queues[name].give_back()

    async def die(self, name: str, _: int) -> None:
        await self.client.delete(keys.lease(BUCKET, name))

    async def ingested(self, name: str, path: str, old: bool) -> None:
        await self.queues[name].ingested([Done(self.held(name, path, old), None, None, "LSSTCam", "20250415", None)])

    async def defer_guider(self, name: str, path: str, old: bool) -> None:
        await self.queues[name].defer(self.held(name, path, old), 0, OBS_ID)

    async def defer(self, name: str, path: str, old: bool) -> None:
        await self.queues[name].defer(self.held(name, path, old), 0, None)

    async def failed(self, name: str, path: str, old: bool) -> None:
        await self.queues[name].failed(self.held(name, path, old), "missing", "x", max_attempts=2, delay=0)

    async def give_up(self, name: str, path: str, old: bool) -> None:
        await self.queues[name].give_up(self.held(name, path, old), "missing", "x")

    async def exposure(self) -> None:
        await self.queues["a"].ingested(
            [Done(self.held("a", "another", False), None, None, "LSSTCam", "20250415", OBS_ID)]
        )

    async def reclaim(self) -> None:
        await self.reclaimer.run_once()

    async def due(self) -> None:
        await self.reclaimer.release_due(BUCKET)

    async def old_takes(self) -> None:
        await self.client.lmove(keys.queue(BUCKET), keys.worker(BUCKET, "old"), "RIGHT", "LEFT")

    async def check(self) -> None:
        places = Counter(texts(await self.client.lrange(keys.queue(BUCKET), 0, -1)))
        places.update(texts(await self.client.lrange(keys.worker(BUCKET, "old"), 0, -1)))
        places.update(texts(await self.client.zrange(keys.waiting(BUCKET), 0, -1)))
        places.update(texts(await self.client.hkeys(keys.dead(BUCKET))))
        for name in WORKERS:
            for path in texts(await self.client.lrange(keys.worker(BUCKET, name), 0, -1)):
                # A copy that the file has overtaken is nowhere: whatever its worker does, it only vanishes.
                if await self.client.hmget(keys.file(path), "state", "worker") == ["working", name]:
                    places[path] += 1
        for path in self.accepted:
            places[path] += await self.client.hget(keys.file(path), "state") == "ingested"
        assert places.keys() == self.accepted
        for path, number in places.items():
            assert number == 1 or (self.twice and number > 1), path
        for path in self.accepted if not self.pushed else ():
            assert await self.client.ttl(keys.file(path)) > 0


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(step, max_size=30))
async def test_every_accepted_path_is_in_exactly_one_place(
    redis_client: Redis, steps: list[tuple[object, ...]]
) -> None:
    await redis_client.flushall()
    model = Model(redis_client)
    for name, *arguments in steps:
        await getattr(model, str(name))(*arguments)
        await model.check()
    await model.intake.close()


class Beside(Model):
    """The same beside old services, which also end what they take, and an old idle, which moves what workers hold."""

    async def push(self, path: str) -> None:
        await super().push(path)
        await self.client.hset(keys.file(path), "recv_time", time.time())

    async def old_ends(self, field: str) -> None:
        if path := await self.client.rpop(keys.worker(BUCKET, "old")):
            await self.client.hset(keys.file(text(path)), field, time.time())

    async def old_idle(self, name: str) -> None:
        while await self.client.lmove(keys.worker(BUCKET, name), keys.queue(BUCKET), "RIGHT", "LEFT"):
            pass

    async def check(self) -> None:
        paths = sorted(self.accepted)
        for path, located in zip(
            paths, await Locator(self.client).locate(BUCKET, paths, ["old", *WORKERS]), strict=True
        ):
            assert located.places or located.place in ("ingested", "given up"), (path, located)


old_step = st.one_of(
    step,
    st.tuples(st.just("old_takes")),
    st.tuples(st.just("old_ends"), st.sampled_from(["ingest_time", "md_fail_exc", "ing_fail_exc"])),
    st.tuples(st.just("old_idle"), st.sampled_from(["old", *WORKERS])),
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(old_step, max_size=30))
async def test_beside_old_services_no_path_is_nowhere(redis_client: Redis, steps: list[tuple[object, ...]]) -> None:
    """And whatever they have given up, another event of the same version queues again."""
    await redis_client.flushall()
    model = Beside(redis_client)
    for name, *arguments in steps:
        await getattr(model, str(name))(*arguments)
        await model.check()
    for path in model.accepted:
        (located,) = await Locator(redis_client).locate(BUCKET, [path], ["old", *WORKERS])
        notice = Notice(BUCKET, path.removeprefix(f"{BUCKET}/"), path, "another", located.record.etag or None, 1, 1.0)
        (outcome,) = await model.intake.accept([(notice, parse(path))])
        if located.place in ("given up", "dead"):
            assert outcome == "queued"
        await model.check()
    await model.intake.close()
