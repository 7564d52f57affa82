"""A real Ceph posts the notifications, while our listener or our Redis fails.

A persistent topic must neither stall nor flood us: all that is put ends in the Butler without reconcile, and the number
of requests is limited by how Ceph repeats. It posts a batch of the topic's queue at once, and when all these requests
have come to their ends, it posts those again that are not before the first that failed.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from autoingest.app.config import EnqueueConfig
from autoingest.app.secrets import NOTIFICATION_SECRETS
from autoingest.dev.simulator import SentFile
from testing.ceph import LOCK, TICK, Ceph, run_ceph
from testing.chaos import Chaos, Member
from testing.shots import BUCKET, Camera, Shot
from testing.waiting import wait_for

from .conftest import Open

SECRET = "d0me-shutter"

pytestmark = pytest.mark.timeout(600)

REFUSED = 5.0
"""Seconds for which connections are refused. Ceph mostly bears 10 s; after 20 to 30 s it delivers no more."""

HUNG = 15.0
"""Seconds for which nothing is answered. Ceph bears 300 s."""

SLOW = 2.0
"""Seconds that an answer takes while they are slow."""

AWAY = 20.0
"""Seconds for which Redis is away."""

QUIET = 60.0
"""Seconds after which a Ceph that has not told of all images is believed to have stalled."""


@dataclass
class CephCamera(Camera):
    """Writes exposures into a Ceph, and tells nobody."""

    client: Any = field(kw_only=True)

    async def _expose(self) -> None:
        begin = time.monotonic()
        with ThreadPoolExecutor(8) as pool:
            for number, exposure in enumerate(self._exposures()):
                await asyncio.sleep(max(0.0, begin + number * self.cadence - time.monotonic()))
                self.sent += pool.map(self._put, exposure)

    def _put(self, shot: Shot) -> SentFile:
        body = shot.exposure.image(shot.sensor)
        sidecar = shot.exposure.sidecar_key(shot.sensor)
        self.client.put_object(Bucket=BUCKET, Key=sidecar, Body=shot.exposure.sidecar(shot.sensor))
        self.client.put_object(Bucket=BUCKET, Key=shot.key, Body=body)
        return SentFile(shot.path, len(body), hashlib.md5(body, usedforsecurity=False).hexdigest(), time.time())


@dataclass
class Notified:
    """A site that a Ceph notifies."""

    chaos: Chaos
    ceph: Ceph
    enqueue: Member
    startup: float
    """Seconds from the start of the listener's process to its first answer."""
    requests: float = 0.0
    """Notifications that the listener's processes before the present one have got."""

    def restart(self) -> None:
        """Kill the listener's process, and let another listen `REFUSED` seconds later, or as soon as it can."""
        self.requests += self._requests()
        process = self.chaos.site.processes[self.enqueue.index]
        process.kill()
        process.wait()
        self.chaos.let_pass(max(0.0, REFUSED - self.startup))
        self.chaos.fault("listener away")
        self.chaos.launch(self.enqueue)
        self.chaos.wait_ready(self.enqueue)

    def deliver(self, timeout: float = 120) -> None:
        """Wait until Ceph has told of all images."""
        self.chaos.camera.join()
        wait_for(lambda: self.chaos.received() == len(self.chaos.shots), "Ceph has told of all images", timeout)

    def finish(self, posts: int) -> None:
        """Wait until all is in the Butler, and check that a notification was posted `posts` times at the most."""
        chaos = self.chaos
        self.deliver()
        chaos.finish()
        requests = self.requests + self._requests()
        print(f"{requests:.0f} requests for {2 * len(chaos.shots) + 1} objects")
        assert requests <= posts * (2 * len(chaos.shots) + 1)

    def _requests(self) -> float:
        return self.chaos.site.metric("autoingest_notify_seconds_count", self.enqueue.index)


@pytest.fixture
def notified(open_chaos: Open, tmp_path: Path) -> Iterator[Notified]:
    """A site whose bucket is in a Ceph that has begun to notify."""
    folder = tmp_path / "ceph"
    folder.mkdir()
    with run_ceph(folder) as ceph:
        chaos = open_chaos()
        chaos.site.environment = environment(ceph)
        chaos.camera = CephCamera(
            chaos.store, chaos.shots, [], chaos.outcome.seed, cadence=2.0, client=ceph.client("s3")
        )
        begin = time.monotonic()
        enqueue = chaos.start("enqueue")[0]
        startup = time.monotonic() - begin
        chaos.start("ingest,idle", "ingest,idle")
        ceph.subscribe(BUCKET, f"http://127.0.0.1:{enqueue.notify_port}/notify", secret=SECRET)
        ceph.client("s3").put_object(Bucket=BUCKET, Key="warm-up.txt", Body=b"")
        result = Notified(chaos, ceph, enqueue, startup)
        wait_for(result._requests, "the first notification", 2 * TICK)
        yield result


def environment(ceph: Ceph) -> Mapping[str, str]:
    return {
        "S3_ENDPOINT_URL": ceph.endpoint,
        "AWS_ACCESS_KEY_ID": ceph.access_key,
        "AWS_SECRET_ACCESS_KEY": ceph.secret_key,
        NOTIFICATION_SECRETS: SECRET,
    }


def test_ceph_while_the_listener_is_away(notified: Notified) -> None:
    """A batch may fail when the listener goes, and one when it comes back; both may have been answered in part.

    Each of the thousands of refused connections has a small chance to stall Ceph 16, more so on a busy machine. Then it
    is its gateway that is restarted, as an operator would do, and it still has all notifications.
    """
    chaos = notified.chaos
    chaos.camera.start()
    for _ in chaos.moments(1, (3, 5)):
        notified.restart()
    try:
        notified.deliver(QUIET)
    except AssertionError:
        chaos.fault("gateway stalled")
        notified.ceph.restart_gateway()
        notified.deliver(LOCK + 2 * TICK)
    notified.finish(3)


def test_ceph_while_the_listener_hangs(notified: Notified) -> None:
    """Its requests wait until it goes on; those that were being answered may be refused then, and with them a batch."""
    chaos = notified.chaos
    chaos.camera.start()
    for _ in chaos.moments(1, (3, 5)):
        with chaos.stopped(chaos.process(notified.enqueue), "SIGSTOP of the listener"):
            chaos.let_pass(HUNG)
    notified.finish(2)


def test_ceph_while_answers_are_slow(notified: Notified) -> None:
    """Redis is slow now and again, but no answer takes so long that it becomes a refusal."""
    chaos = notified.chaos
    chaos.camera.start()
    for _ in chaos.moments(2 * chaos.repeat, (SLOW, SLOW + 1)):
        with chaos.client as client:
            client.client_pause(round(SLOW * 1000))
        chaos.fault("answers slow")
    notified.finish(2)


def test_ceph_while_redis_is_away(notified: Notified) -> None:
    """Of the batches that fail, the first may have begun before, and each other lasts as long as an answer is held."""
    chaos = notified.chaos
    chaos.camera.start()
    for _ in chaos.moments(1, (3, 5)):
        begin = time.monotonic()
        chaos.redis.kill()
        chaos.fault("Redis away")
        chaos.let_pass(AWAY)
        chaos.redis.start()
        away = time.monotonic() - begin
    notified.finish(1 + math.ceil(away / EnqueueConfig().hold) + 1)
