"""Exposures for the chaos suite: their objects, their notifications, and the repository that they should end in."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from pydantic import SecretStr

from autoingest.butler.engine import IngestFile
from autoingest.butler.native import NativeEngine
from autoingest.dev.simulator import Exposure, Notifier, Sensor, SentFile, sensors
from testing.s3server import S3Server, Stored

BUCKET = "rubin-summit"
DAY_OBS = 20300101
PATIENCE = 120.0
"""Seconds for which a notification is repeated."""


@dataclass(frozen=True)
class Shot:
    """One image of an exposure."""

    exposure: Exposure
    sensor: Sensor

    @property
    def key(self) -> str:
        return self.exposure.key(self.sensor)

    @property
    def path(self) -> str:
        return f"{BUCKET}/{self.key}"


def take(exposures: int, detectors: int) -> list[Shot]:
    """Return the images of some exposures, each with `detectors` images of which two are guiders'."""
    guiders = [sensor for sensor in sensors() if sensor.purpose == "GUIDER"]
    others = [sensor for sensor in sensors() if sensor.purpose != "GUIDER"]
    chosen = [*guiders[:2], *others[: detectors - 2]] if detectors < len(sensors()) else [*guiders, *others]
    begin = datetime(2030, 1, 2, 3, tzinfo=UTC)
    return [
        Shot(exposure, sensor)
        for number in range(1, exposures + 1)
        for exposure in [Exposure(DAY_OBS, number, begin + timedelta(seconds=40 * number))]
        for sensor in chosen
    ]


def put(
    server: S3Server, shot: Shot, *, sidecar: bool = True, more: bytes = b"", cards: Mapping[str, object] | None = None
) -> SentFile:
    """Write an image, `more` bytes longer than it is, and its sidecar; both with some more cards."""
    objects = server.buckets.setdefault(BUCKET, {})
    body = shot.exposure.image(shot.sensor) + more
    for name, value in (cards or {}).items():
        card, end = f"{name:8}= '{value}'".ljust(80).encode(), b"END".ljust(80)
        body = body.replace(end + end.replace(b"END", b"   "), card + end, 1)
        assert card in body, "there is room for one more card"
    etag = hashlib.md5(body, usedforsecurity=False).hexdigest()
    now = time.time()
    if sidecar:
        put_sidecar(server, shot, cards)
    objects[shot.key] = Stored(body, etag, now)
    return SentFile(shot.path, len(body), etag, now)


def put_sidecar(server: S3Server, shot: Shot, cards: Mapping[str, object] | None = None) -> None:
    """Write an image's sidecar, with some more cards."""
    body = shot.exposure.sidecar(shot.sensor)
    if cards:
        body = json.dumps({**json.loads(body), **cards}).encode()
    server.buckets[BUCKET][shot.exposure.sidecar_key(shot.sensor)] = Stored(body, "sidecar", time.time())


def fill(repo: str, shots: Sequence[Shot], sizes: Mapping[str, int]) -> None:
    """Ingest images into a repository without queue, store or faults; `sizes` are the objects', by path."""
    engine = NativeEngine(repo)
    try:
        result = engine.ingest(
            [
                IngestFile(
                    path=shot.path,
                    url=f"s3://{shot.path}",
                    obs_id=shot.exposure.obs_id,
                    is_guider=shot.sensor.purpose == "GUIDER",
                    header=shot.exposure.header(shot.sensor),
                    size=sizes[shot.path],
                )
                for shot in shots
            ]
        )
    finally:
        engine.close()
    assert {item.outcome for item in result.files} <= {"ingested"}


@dataclass
class Camera:
    """Writes exposures and posts their notifications, in a thread of its own, until all are acknowledged.

    A notification goes to one of `urls` and is repeated there, as Ceph does, so that each replica must come back.
    """

    server: S3Server
    shots: Sequence[Shot]
    urls: Sequence[str]
    seed: int
    cadence: float = 1.0
    """Seconds from one exposure to the next."""
    sidecars: bool = True
    cards: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    """More cards of some images, by path."""
    lost: Collection[str] = ()
    """Paths of which nobody is told."""
    duplicates: int = 0
    """Times that each notification is posted again."""
    secret: SecretStr | None = None
    """Secret of the notifications."""
    shuffled: bool = False
    """Whether all notifications come after the last exposure, in no order."""
    sent: list[SentFile] = field(default_factory=list)
    _error: BaseException | None = None
    _thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="camera", daemon=True)
        self._thread.start()

    @property
    def is_busy(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def join(self, timeout: float = PATIENCE) -> None:
        """Wait until everything is acknowledged."""
        if self._thread:
            self._thread.join(timeout)
            assert not self.is_busy, "notifications are still not acknowledged"
        if self._error:
            raise self._error

    def _run(self) -> None:
        try:
            asyncio.run(self._expose())
        except BaseException as err:
            self._error = err

    async def _expose(self) -> None:
        chance = random.Random(self.seed)
        async with AsyncExitStack() as stack:
            notifiers = [
                await stack.enter_async_context(Notifier.open(url, self.secret, patience=PATIENCE)) for url in self.urls
            ]

            async def post(files: Sequence[SentFile]) -> None:
                await asyncio.gather(*(chance.choice(notifiers).post(file) for file in files))

            begin = time.monotonic()
            for number, exposure in enumerate(self._exposures()):
                await asyncio.sleep(max(0.0, begin + number * self.cadence - time.monotonic()))
                files = [
                    put(self.server, shot, sidecar=self.sidecars, cards=self.cards.get(shot.path)) for shot in exposure
                ]
                self.sent += files
                told = [file for file in files if file.path not in self.lost]
                if not self.shuffled:
                    await post(told)
            again = [file for file in self.sent if file.path not in self.lost for _ in range(self.duplicates)]
            late = [file for file in self.sent if file.path not in self.lost] if self.shuffled else []
            chance.shuffle(everything := [*late, *again])
            await post(everything)

    def _exposures(self) -> Iterator[list[Shot]]:
        by_exposure: dict[str, list[Shot]] = {}
        for shot in self.shots:
            by_exposure.setdefault(shot.exposure.obs_id, []).append(shot)
        yield from by_exposure.values()
