"""Publishes events to Kafka and to webhooks: at least once each, in order, by one process at a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

import redis.asyncio
import structlog

from ..app import metrics
from ..app.config import EventsConfig
from ..app.retry import Backoff, pause
from ..app.secrets import WEBHOOK_SECRETS, tokens
from ..errors import TransientError
from ..model.events import EXPOSURE_TYPES, FILE_TYPES, Event, EventType
from ..queue import keys
from ..queue.connection import REDIS_AWAY, health
from ..queue.delivery import LEASE, Delivery
from ..queue.event_stream import EventStream
from .event_targets import NotTakenError, RefusedEventError, Target, WebhookTarget

STANDBY = 3.0
"""Seconds between two attempts to take over from a process that no longer delivers."""

IDLE = 5.0
"""Seconds after which a process that has nothing to deliver says that it is still there."""

LONGEST_PAUSE = 60.0
"""Longest pause in seconds between two attempts."""

log = structlog.get_logger(__name__)


TRIES = 10
"""Times, over some five minutes, that a target may answer without taking an event until the event after it is tried."""


class Publishers:
    """Publishes events to all configured targets.

    Parameters
    ----------
    config
        Configuration of the role.
    client
        The process's Redis client.
    streams
        The streams of events of exposures, and of those of files.
    """

    def __init__(
        self, config: EventsConfig, client: redis.asyncio.Redis, streams: tuple[EventStream, EventStream]
    ) -> None:
        secrets = tokens(WEBHOOK_SECRETS)
        makers: list[tuple[tuple[EventType, ...], Callable[[], Target]]] = [
            (webhook.types, partial(WebhookTarget, webhook, config.source, secrets)) for webhook in config.webhooks
        ]
        if config.kafka:
            from .event_kafka import KafkaTarget

            makers.append((config.kafka.types, partial(KafkaTarget, config.kafka, config.source)))
        self._publishers = [
            _Publisher(client, make(), key, stream)
            for types, make in makers
            for key, stream, own in zip(
                (keys.EVENTS, keys.FILE_EVENTS), streams, (EXPOSURE_TYPES, FILE_TYPES), strict=True
            )
            if set(types) & set(own)
        ]

    def troubles(self) -> dict[str, str]:
        """Return why events can't be delivered to a reader now, by its name; empty if they can."""
        found: dict[str, str] = {}
        for each in self._publishers:
            found[each.reader] = found.get(each.reader) or each.trouble
        return found

    async def run(self, stop: asyncio.Event) -> None:
        """Publish until `stop` is set."""
        async with asyncio.TaskGroup() as tasks:
            for publisher in self._publishers:
                tasks.create_task(publisher.run(stop))


class _Publisher:
    """Delivers one stream to one target."""

    def __init__(
        self,
        client: redis.asyncio.Redis,
        target: Target,
        key: str,
        stream: EventStream,
    ) -> None:
        self._target = target
        self._tries = 0
        """Times in a row that the target has answered without taking an event."""
        self._is_suspect = False
        """Whether it has then taken the event after it: if it fails at this one again, the event is to blame."""
        self._error = ""
        self._stream = stream
        self._delivery = Delivery(client, target.name, key)
        self._health = health(client)
        self._log = log.bind(reader=target.name, stream=key)
        self._lag = metrics.EVENT_LAG.labels(target.name, key)
        self._gaps = metrics.EVENT_GAPS.labels(target.name)
        self._refused = metrics.EVENTS_REFUSED.labels(target.name)

    @property
    def reader(self) -> str:
        """Name of the target."""
        return self._target.name

    @property
    def trouble(self) -> str:
        """Why events can't be delivered now; empty if they can."""
        return self._error

    async def run(self, stop: asyncio.Event) -> None:
        """Deliver until `stop` is set."""
        backoff = Backoff(first=1.0, last=LONGEST_PAUSE)
        while not stop.is_set():
            try:
                if (position := await self._delivery.hold()) is None:
                    self._lag.set(0)
                    self._error = ""
                    await pause(stop, STANDBY)
                    continue
                await self._deliver(position or await self._begin())
                self._health.worked(f"events to {self._target.name}")
                backoff.reset()
                self._error = ""
            except REDIS_AWAY as err:
                self._health.failed(f"events to {self._target.name}", err)
                await pause(stop, STANDBY)
            except TransientError as err:
                delay = backoff.next()
                if self._error != str(err):
                    self._log.warning("events not delivered", error=str(err), retry_s=round(delay, 1))
                self._error = str(err)
                await self._wait(stop, delay)
        with suppress(*REDIS_AWAY):
            await self._delivery.release()
        await self._target.close()

    async def _begin(self) -> str:
        """Return where a new reader begins: after the events that there are."""
        position = await self._stream.newest()
        await self._delivery.moved(position)
        return position

    async def _deliver(self, position: str) -> None:
        """Deliver what follows a position, or wait for more."""
        if (start := await self._stream.gap(position)) is not None:
            self._gaps.inc()
            self._log.error("events lost for a reader", after=position)
            await self._send([Event.gap(position, time.time())])
            await self._delivery.moved(start)
            return
        found = await self._stream.after(position)
        wanted = [event for event in found if event.type in self._target.types]
        self._lag.set(max(0.0, time.time() - wanted[0].time) if wanted else 0.0)
        if not found:
            await self._stream.wait(position, IDLE)
        elif not wanted:
            await self._delivery.moved(found[-1].position)
        else:
            try:
                done = await self._send(wanted)
            except RefusedEventError as err:
                await self._keep(wanted[0], err)
            except NotTakenError as err:
                if self._is_suspect:
                    await self._keep(wanted[0], err)
                    return
                self._tries += 1
                self._is_suspect = self._tries >= TRIES and await self._takes_another(wanted[1:])
                raise
            else:
                self._tries, self._is_suspect = 0, False
                await self._delivery.moved(found[-1].position if done == wanted[-1].position else done)

    async def _keep(self, event: Event, error: Exception) -> None:
        """Keep an event that the target does not take, and go on after it."""
        self._tries, self._is_suspect = 0, False
        self._refused.inc()
        self._log.error("event refused", id=event.id, error=str(error))
        await self._delivery.refused(event, event.cloud_event(self._target.source), str(error))

    async def _takes_another(self, events: Sequence[Event]) -> bool:
        """Return whether the target takes the next event, which is delivered again later."""
        try:
            return bool(events) and bool(await self._send(events[:1]))
        except (TransientError, RefusedEventError):
            return False

    async def _send(self, events: Sequence[Event]) -> str:
        """Deliver events within the time for which no other process does so."""
        try:
            async with asyncio.timeout(LEASE - 1):
                return await self._target.deliver(events)
        except TimeoutError:
            raise TransientError(f"not delivered within {LEASE - 1:g} s") from None

    async def _wait(self, stop: asyncio.Event, delay: float) -> None:
        """Wait for the next attempt, and go on being the process that delivers."""
        while delay > 0 and not stop.is_set():
            part = min(delay, LEASE / 3)
            await pause(stop, part)
            delay -= part
            try:
                await self._delivery.hold()
            except REDIS_AWAY:
                return
