"""Role enqueue: receives notifications and queues the names of new objects."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import redis.asyncio
import structlog

from ..app.config import Config
from ..app.secrets import NOTIFICATION_SECRETS, notification_secrets
from ..errors import ConfigurationError
from ..http.bodies import Bodies
from ..http.listener import Listener
from ..http.tokens import Secrets
from ..notify.counts import Counts
from ..notify.records import RecordParser
from ..notify.webhook import NotifyHandler
from ..queue.coalescing import Replicas
from ..queue.intake import Intake

if TYPE_CHECKING:
    from ..notify.kafka import KafkaSource

SHUTDOWN_MARGIN = 2.0
"""Seconds that requests in progress get to finish, in addition to the longest delay of an answer."""

log = structlog.get_logger(__name__)


class EnqueueRole:
    """Receives notifications: by HTTP from `start` to `close`, from Kafka during `run`.

    Parameters
    ----------
    config
        The whole configuration.
    client
        Redis client that decodes responses.

    Raises
    ------
    ConfigurationError
        If a secret or certificate that the configuration asks for is missing.
    """

    name = "enqueue"

    def __init__(self, config: Config, client: redis.asyncio.Redis) -> None:
        enqueue = config.enqueue
        replicas = config.redis.replicas
        self._intake = Intake(
            client, enqueue.max_rejected, Replicas(replicas, config.redis.replica_timeout) if replicas else None
        )
        counts = Counts(config.buckets)
        self._listen = enqueue.listen
        self._listener: Listener | None = None
        self._patience = enqueue.hold + SHUTDOWN_MARGIN
        if enqueue.listen:
            secrets = notification_secrets()
            if not secrets:
                log.warning(
                    "notifications are not authenticated: no secret is configured", variable=NOTIFICATION_SECRETS
                )
            parser = RecordParser(config.buckets, enqueue.filter, enqueue.key_encoding, secrets, enqueue.max_body)
            bodies = Bodies(enqueue.max_body, enqueue.max_bodies)
            self._handler = NotifyHandler(parser, self._intake, counts, bodies, Secrets(secrets), enqueue.hold)
            self._listener = Listener(self.name, enqueue.listen, [("POST", "/notify", self._handler.handle)])
        self._kafka = _kafka_source(config, self._intake, counts) if enqueue.kafka else None
        self.port = enqueue.listen.port if enqueue.listen else 0
        """Bound TCP port, once started; 0 without a listener."""

    async def start(self) -> None:
        """Bind the listener; requests are answered from now on."""
        if self._listener and self._listen:
            await self._listener.open()
            self.port = self._listener.port
            log.info("listening for notifications", host=self._listen.host, port=self.port)

    async def run(self, stop: asyncio.Event) -> None:
        """Read Kafka until `stop` is set; requests are answered until `close`."""
        if self._kafka:
            await self._kafka.run(stop)
        else:
            await stop.wait()

    async def close(self) -> None:
        """Close the listener, answer the requests in progress, and disconnect from Redis."""
        if self._listener:
            await self._listener.close(self._patience)
        await self._intake.close()

    def doing(self) -> str:
        """Return where it takes notifications from."""
        sources = [f"listens on port {self.port}"] if self._listener else []
        return ", ".join([*sources, "reads Kafka"] if self._kafka else sources)

    def dependencies(self) -> dict[str, str]:
        """Return why Kafka can't be read, if it is to be."""
        return {"kafka": "; ".join(self._kafka.unready_reasons())} if self._kafka else {}

    def unready_reasons(self) -> list[str]:
        """Return whether the listener is open, if there is one; an outage of Redis or Kafka does not count then.

        The listener delays its answers while Redis is away. A pod that is not ready would be removed from its service
        instead, and Ceph gives up a topic for good after half a minute of refused connections.
        """
        if self._listener:
            return [] if self._listener.is_open else ["the listener for notifications is not open"]
        return self._kafka.unready_reasons() if self._kafka else []

    async def is_drained(self) -> bool:
        """Return whether no message is being written to Redis or waits in Kafka."""
        if self._intake.is_busy:
            return False
        return await self._kafka.is_drained() if self._kafka else True


def _kafka_source(config: Config, intake: Intake, counts: Counts) -> KafkaSource:
    from ..notify.kafka import KafkaSource
    from ..notify.kafka_client import settings

    enqueue, kafka = config.enqueue, config.enqueue.kafka
    assert kafka is not None
    secrets = notification_secrets() if kafka.check_secret else ()
    if kafka.check_secret and not secrets:
        raise ConfigurationError(f"enqueue.kafka.checkSecret needs {NOTIFICATION_SECRETS}, or a file in it with _FILE")
    parser = RecordParser(config.buckets, enqueue.filter, enqueue.key_encoding, secrets, enqueue.max_body)
    return KafkaSource(kafka.topics, settings(kafka), parser, intake, counts, enqueue.hold)
