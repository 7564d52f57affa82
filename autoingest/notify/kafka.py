"""Notifications from Kafka, as a member of a consumer group.

A partition's offset is committed only once everything up to it is in Redis. Messages that could not be written there
are read again, and repeated ones are recognised by their event ids. So nothing is lost if the process ends at any
moment, and while Redis is away the messages simply stay in Kafka.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, ConsumerRecord, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError

from ..app import metrics
from ..app.retry import Backoff, end, unless
from ..model.notices import NO_BUCKET, Rejection
from ..queue.intake import Intake
from .counts import Counts
from .kafka_lag import measure, unknown
from .records import MalformedMessageError, ParsedMessage, RecordParser

MAX_POLL_RECORDS = 500
"""Maximum number of messages that are processed at the same time."""

POLL = 1.0
"""Seconds that one call waits for messages."""

WATCH = 5.0
"""Seconds between two measurements of the lag."""

HAND_OVER = 10.0
"""Seconds that unfinished messages get to reach Redis when their partitions are reassigned, and time limit for a
commit. Together they are shorter than `kafka_client.SESSION`, for which the group waits."""

ASIDE = 60.0
"""Seconds until a partition that can't be read is retried."""

PAUSE = 0.1
"""Seconds between fetches from single partitions, if there was nothing to read."""

POSITION = 0.05
"""Time limit in seconds for a partition's position, when partitions are fetched one by one."""

LEAVE = 10.0
"""Time limit in seconds for leaving the group."""

log = structlog.get_logger(__name__)


class KafkaSource(ConsumerRebalanceListener):  # type: ignore[misc]
    """Reads topics into Redis.

    Brokers that are away or refuse access are retried for ever; `unready_reasons` names them meanwhile.

    Parameters
    ----------
    topics
        Topics to read.
    settings
        Arguments of the consumer, from `kafka_client.settings`.
    parser
        Reads the messages.
    intake
        Queues what they announce.
    counts
        Counts what becomes of them.
    hold
        Seconds after a stop that unfinished messages may wait for Redis.
    """

    def __init__(
        self, topics: tuple[str, ...], settings: Mapping[str, Any], parser: RecordParser, intake: Intake,
        counts: Counts, hold: float,
    ) -> None:  # fmt: skip
        self._topics = topics
        self._settings = settings
        self._parser = parser
        self._intake = intake
        self._counts = counts
        self._hold = hold
        self._backoff = Backoff(0.5, 30.0)
        self._consumer: AIOKafkaConsumer | None = None
        self._joined = False
        self._trouble: str | None = "not connected to Kafka yet"
        self._batch: dict[TopicPartition, list[ConsumerRecord]] = {}
        self._hand: asyncio.Task[None] | None = None
        self._empty_handed = asyncio.Event()
        self._empty_handed.set()
        self._uncommitted: dict[TopicPartition, int] = {}
        self._apart_until = 0.0
        self._aside: dict[TopicPartition, _Aside] = {}

    async def run(self, stop: asyncio.Event) -> None:
        """Read until `stop` is set; then finish and commit the current messages, and leave the group."""
        stopping = asyncio.create_task(stop.wait())
        try:
            while not stopping.done():
                try:
                    await self._session(stopping)
                except Exception as err:
                    self._trouble = f"Kafka can't be read: {err!r}"
                    log.warning("kafka away", error=repr(err), exc_info=not isinstance(err, KafkaError))
                    await asyncio.wait({stopping}, timeout=self._backoff.next())
        finally:
            stopping.cancel()

    def unready_reasons(self) -> list[str]:
        """Return the reasons why messages are not read, in words."""
        if self._trouble:
            return [self._trouble]
        if not self._joined or self._consumer is None:
            return ["not a member of the consumer group yet"]
        return [
            *unknown(self._consumer, self._topics).values(),
            *(f"{_name(partition)} can't be read: {aside.why}" for partition, aside in self._aside.items()),
        ]

    async def is_drained(self) -> bool:
        """Return whether all messages of this member's partitions are in Redis and committed."""
        consumer = self._consumer
        if consumer is None or not self._joined or self._batch or self._uncommitted or unknown(consumer, self._topics):
            return False
        with suppress(KafkaError, TimeoutError):
            lag = await measure(consumer, self._topics, lambda: self._batch)
            return not (any(lag.values()) or self._batch or self._uncommitted)
        return False

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        """Finish and commit the current messages; drop those that do not reach Redis in time."""
        try:
            async with asyncio.timeout(HAND_OVER):
                await self._empty_handed.wait()
        except TimeoutError:
            log.warning("partitions lost, unfinished messages dropped", partitions=len(self._batch))
            if hand := self._hand:
                await end(hand)
        if revoked and self._consumer:
            await self._commit(self._consumer)
        self._uncommitted.clear()
        self._aside.clear()

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        """Record the partitions that the group has assigned."""
        self._joined = True
        log.info("kafka partitions assigned", partitions=len(assigned))

    async def _session(self, stopping: asyncio.Task[Any]) -> None:
        """Connect, and read until the stop or an error of Kafka."""
        consumer = AIOKafkaConsumer(**self._settings)
        watch: asyncio.Task[None] | None = None
        try:
            if not await unless(stopping, consumer.start()):
                return
            # Subscribed only now: start() would wait for every topic to exist.
            consumer.subscribe(self._topics, listener=self)
            self._trouble = None
            self._consumer = consumer
            watch = asyncio.create_task(self._watch(consumer), name="kafka lag")
            while await unless(stopping, self._fetch(consumer)):
                if self._batch:
                    await self._handle(consumer, stopping)
            await self._commit(consumer)
        finally:
            self._put_down()
            if watch:
                watch.cancel()
            await _leave(consumer)
            self._consumer, self._joined = None, False
            self._uncommitted.clear()
            self._aside.clear()
            metrics.KAFKA_LAG.clear()

    async def _fetch(self, consumer: AIOKafkaConsumer) -> None:
        if time.monotonic() < self._apart_until:
            self._batch = await self._fetch_apart(consumer)
        else:
            self._aside.clear()  # each was tried again for `ASIDE`, without an error
            try:
                self._batch = await consumer.getmany(timeout_ms=int(POLL * 1000), max_records=MAX_POLL_RECORDS)
            except Exception:
                # It may be about one partition, but the messages of all are lost with it: read again from the commits,
                # and find the one.
                self._apart_until = time.monotonic() + 2 * ASIDE
                raise
        if self._batch:
            self._empty_handed.clear()

    async def _fetch_apart(self, consumer: AIOKafkaConsumer) -> dict[TopicPartition, list[ConsumerRecord]]:
        """Fetch from each partition separately, and set aside those that can't be read."""
        batch: dict[TopicPartition, list[ConsumerRecord]] = {}
        room = MAX_POLL_RECORDS
        for partition in consumer.assignment():
            aside = self._aside.get(partition)
            if not room or (aside and time.monotonic() < aside.until):
                continue
            try:
                async with asyncio.timeout(POSITION):
                    position = await consumer.position(partition)
            except (TimeoutError, IllegalStateError):
                continue
            try:
                if partition in consumer.paused():
                    consumer.resume(partition)
                found = (await consumer.getmany(partition, timeout_ms=0, max_records=room)).get(partition)
            except IllegalStateError:
                continue
            except Exception as err:
                consumer.seek(partition, position)
                consumer.pause(partition)
                self._set_aside(partition, position, err)
                continue
            if found:
                batch[partition] = found
                room -= len(found)
                if self._aside.pop(partition, None):
                    log.info("kafka partition can be read again", partition=_name(partition))
        if not batch:
            await asyncio.sleep(PAUSE)
        return batch

    def _set_aside(self, partition: TopicPartition, position: int, err: Exception) -> None:
        now = time.monotonic()
        why = f"{type(err).__name__}: {err}"
        if partition not in self._aside:
            log.error("kafka partition can't be read", partition=_name(partition), offset=position, error=why)
        self._aside[partition] = _Aside(now + ASIDE, why)
        self._apart_until = now + 2 * ASIDE

    async def _handle(self, consumer: AIOKafkaConsumer, stopping: asyncio.Task[Any]) -> None:
        """Process the current messages; if that fails, go back to the first of them."""
        batch = self._batch
        try:
            if await unless(stopping, self._take(consumer, batch), self._hold):
                self._backoff.reset()
        except KafkaError:
            raise
        except Exception:
            log.exception("messages failed, they are read again")
            for partition, records in batch.items():
                if partition in consumer.assignment():
                    consumer.seek(partition, records[0].offset)
            await asyncio.wait({stopping}, timeout=self._backoff.next())
        finally:
            self._put_down()

    def _put_down(self) -> None:
        self._batch = {}
        self._empty_handed.set()

    async def _take(self, consumer: AIOKafkaConsumer, batch: dict[TopicPartition, list[ConsumerRecord]]) -> None:
        self._hand = asyncio.current_task()
        try:
            message = await self._read(batch)
            self._counts.arrived(message, "kafka")
            outcomes = await self._intake.accept(message.notices, from_kafka=True)
            await self._intake.reject(message.rejected)
            self._counts.taken(message, outcomes)
            self._uncommitted |= {partition: records[-1].offset + 1 for partition, records in batch.items()}
            await self._commit(consumer)
        finally:
            self._hand = None

    async def _read(self, batch: dict[TopicPartition, list[ConsumerRecord]]) -> ParsedMessage:
        """Parse all messages as if they were one."""
        whole = ParsedMessage(0)
        for partition, records in batch.items():
            for record in records:
                try:
                    message = await self._parser.parse(record.value or b"")
                except MalformedMessageError as err:
                    where = f"{partition.topic}/{partition.partition}/{record.offset}"
                    whole.rejected.append(Rejection(NO_BUCKET, where, str(err), None))
                    continue
                whole.records += message.records
                whole.notices += message.notices
                whole.ignored += message.ignored
                whole.rejected += message.rejected
                whole.unauthentic += message.unauthentic
        return whole

    async def _commit(self, consumer: AIOKafkaConsumer) -> None:
        """Commit what is in Redis; if that fails, it is committed with the next messages."""
        assigned = consumer.assignment()
        offsets = {partition: offset for partition, offset in self._uncommitted.items() if partition in assigned}
        if not offsets:
            return
        try:
            async with asyncio.timeout(HAND_OVER):
                await consumer.commit(offsets)
        except TimeoutError:
            log.warning("offsets not committed in time", partitions=len(offsets))
            return
        except (CommitFailedError, IllegalStateError) as err:
            # The new owner of the partitions reads these messages again, and recognises their event ids.
            log.info("offsets not committed, the group has changed", partitions=len(offsets), error=repr(err))
        self._uncommitted.clear()

    async def _watch(self, consumer: AIOKafkaConsumer) -> None:
        """Measure the lag, and detect when Kafka does not answer."""
        while True:
            try:
                lag = await measure(consumer, self._topics, lambda: self._batch)
            except IllegalStateError:
                log.debug("lag not measured, partitions were reassigned")
            except (KafkaError, TimeoutError) as err:
                metrics.KAFKA_LAG.clear()
                if not self._trouble:
                    log.warning("kafka away", error=repr(err))
                self._trouble = "Kafka does not answer"
            else:
                for topic, number in lag.items():
                    metrics.KAFKA_LAG.labels(topic).set(number)
                if self._trouble:
                    log.info("kafka is back")
                self._trouble = None
            await asyncio.sleep(WATCH)


@dataclass(frozen=True, slots=True)
class _Aside:
    """A partition that can't be read."""

    until: float
    """Monotonic time of the next attempt."""
    why: str


def _name(partition: TopicPartition) -> str:
    return f"topic {partition.topic} partition {partition.partition}"


async def _leave(consumer: AIOKafkaConsumer) -> None:
    try:
        async with asyncio.timeout(LEAVE):
            await consumer.stop()
    except (KafkaError, TimeoutError) as err:
        log.warning("kafka group not left properly", error=repr(err))
