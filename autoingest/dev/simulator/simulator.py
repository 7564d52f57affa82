"""Takes exposures: writes their files and sends the notifications."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal

from ...model.objects import observing_day
from .camera import Exposure, Sensor, sensors
from .notifier import Notifier, SentFile
from .sinks import Sink

Order = Literal["natural", "shuffled", "guiders-first"]
ORDERS: tuple[Order, ...] = ("natural", "shuffled", "guiders-first")

CONCURRENCY = 16
"""Maximum number of files written at the same time."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to an image."""

    kind: Literal["written", "notified"]
    file: SentFile


@dataclass(slots=True)
class Result:
    """What was sent."""

    exposures: list[Exposure] = field(default_factory=list)
    images: list[SentFile] = field(default_factory=list)
    """The FITS files; with `SentFile.notified_time` where they were notified."""
    duplicates: int = 0
    """Notifications that were posted a second time."""
    seconds: float = 0.0
    """Time it took."""


class Simulator:
    """A camera at work.

    Parameters
    ----------
    sink
        Where files go.
    notifier
        Announces each image; `None` leaves that to the store.
    order
        Order in which detectors are written: by their ids, at random, or all guiders before the rest.
    duplicates
        Fraction of the notifications that are posted again, later.
    sidecars
        Whether each image has its JSON sidecar, written before it.
    image_type
        One of `autoingest.dev.simulator.camera.IMAGE_TYPES`.
    on_event
        Called as images are written and notified.
    seed
        Makes order and duplicates repeatable.
    """

    def __init__(
        self,
        sink: Sink,
        notifier: Notifier | None = None,
        *,
        order: Order = "natural",
        duplicates: float = 0.0,
        sidecars: bool = True,
        image_type: str = "OBJECT",
        on_event: Callable[[Event], None] = lambda event: None,
        seed: int | None = None,
    ) -> None:
        self._sink = sink
        self._notifier = notifier
        self._order = order
        self._duplicates = duplicates
        self._sidecars = sidecars
        self._image_type = image_type
        self._on_event = on_event
        self._random = random.Random(seed)  # noqa: S311 - nothing secret
        self._slots = asyncio.Semaphore(CONCURRENCY)

    async def run(
        self, exposures: int = 1, *, cadence: float = 0.0, day_obs: int | None = None, first_seq: int | None = None
    ) -> Result:
        """Take exposures one after the other.

        Parameters
        ----------
        exposures
            Number of exposures.
        cadence
            Seconds from one to the next; 0 takes the next as soon as one is written.
        day_obs
            Observing day, ``YYYYMMDD``; today by default. For another day, times during its night are invented.
        first_seq
            Sequence number of the first; what is there is overwritten. By default an unused one, from the seconds that
            have passed since noon UTC, or from 1 on another day: two simulators never take the same exposure.

        Raises
        ------
        TransientError
            If the store or the receiver of notifications does not answer.
        ConfigurationError
            If the sink does not exist.
        """
        started = time.monotonic()
        result = Result()
        overwrites = first_seq is not None
        seq_num = first_seq
        for index in range(exposures):
            await asyncio.sleep(max(0.0, started + index * cadence - time.monotonic()))
            now = datetime.now(UTC) - timedelta(seconds=32)
            if seq_num is None:
                seq_num = _since_noon(now) if day_obs is None else 1
            while True:
                begin = now if day_obs is None else _night(day_obs, seq_num)
                exposure = Exposure(day_obs or observing_day(begin), seq_num, begin, self._image_type)
                seq_num += 1
                if await self._claim(exposure, overwrites):
                    break
            await self._expose(exposure, result)
        result.seconds = time.monotonic() - started
        return result

    async def _claim(self, exposure: Exposure, overwrites: bool) -> bool:
        """Write an exposure's list of sensors, which comes first; return False if the exposure is there already."""
        key, content = exposure.expected_sensors_key, exposure.expected_sensors()
        if not overwrites:
            return await self._sink.put_new(key, content)
        await self._sink.put(key, content)
        return True

    async def _expose(self, exposure: Exposure, result: Result) -> None:
        sent: list[SentFile] = []
        for group in self._ordered():
            sent += await _all(self._send(exposure, sensor) for sensor in group)
        if self._notifier:
            again = self._random.sample(sent, round(self._duplicates * len(sent)))
            await _all(self._notifier.post(file) for file in again)
            result.duplicates += len(again)
        result.exposures.append(exposure)
        result.images += sent

    def _ordered(self) -> list[list[Sensor]]:
        """Return the detectors in groups; each group is written after the previous one."""
        todo = list(sensors())
        if self._order == "shuffled":
            self._random.shuffle(todo)
        if self._order == "guiders-first":
            guiders = [sensor for sensor in todo if sensor.purpose == "GUIDER"]
            return [guiders, [sensor for sensor in todo if sensor.purpose != "GUIDER"]]
        return [todo]

    async def _send(self, exposure: Exposure, sensor: Sensor) -> SentFile:
        async with self._slots:
            if self._sidecars:
                await self._sink.put(exposure.sidecar_key(sensor), exposure.sidecar(sensor))
            file = await self._sink.put(exposure.key(sensor), exposure.image(sensor))
            self._on_event(Event("written", file))
            if self._notifier:
                file = await self._notifier.post(file)
                self._on_event(Event("notified", file))
            return file


async def _all(sends: Iterable[Coroutine[None, None, SentFile]]) -> list[SentFile]:
    """Run all concurrently; the first failure cancels the others and is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(send) for send in sends]
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return [task.result() for task in tasks]


def _since_noon(now: datetime) -> int:
    return int((now - timedelta(hours=12)).timestamp()) % 86400


def _night(day_obs: int, seq_num: int) -> datetime:
    """Return a time in the nine dark hours that begin at midnight UTC, 40 s after the previous exposure."""
    noon = datetime.strptime(f"{day_obs}12+0000", "%Y%m%d%H%z")
    return noon + timedelta(hours=12, seconds=seq_num * 40 % 32400)
