"""Kafka as a target of events."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import orjson
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from ..app.config import EventsKafka
from ..errors import TransientError
from ..model.events import CONTENT_TYPE, Event
from ..notify.kafka_client import connection_settings


class KafkaTarget:
    """A Kafka topic.

    Parameters
    ----------
    config
        How it is reached.
    source
        Names this site.
    """

    name = "kafka"

    def __init__(self, config: EventsKafka, source: str) -> None:
        self.types = config.types
        self._topic = config.topic
        self.source = source
        self._settings = connection_settings(config, "events.kafka")
        self._producer: AIOKafkaProducer | None = None

    async def deliver(self, events: Sequence[Event]) -> str:
        """Send events, and wait until all in-sync replicas have them."""
        try:
            if self._producer is None:
                producer = AIOKafkaProducer(enable_idempotence=True, acks="all", **self._settings)
                try:
                    await producer.start()
                except BaseException:
                    await producer.stop()
                    raise
                self._producer = producer
            sent = [
                await self._producer.send(
                    self._topic,
                    orjson.dumps(event.cloud_event(self.source)),
                    key=event.subject.encode(),
                    headers=[("content-type", CONTENT_TYPE.encode())],
                )
                for event in events
            ]
            await asyncio.gather(*sent)
        except (KafkaError, OSError, TimeoutError) as err:
            await self.close()  # a producer that has failed may not be used again
            raise TransientError(f"Kafka does not take events: {type(err).__name__}: {err}") from err
        return events[-1].position

    async def close(self) -> None:
        """Close connections."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await producer.stop()
