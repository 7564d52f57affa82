"""Looks at Kafka."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError

from ...app.config import KafkaConnection
from ...errors import ConfigurationError
from ...model.checks import Check, fail, ok
from ...notify.kafka_client import connection_settings

PATIENCE = 15.0
"""Seconds that the brokers may take."""


async def check_kafka(block: str, config: KafkaConnection, topics: Sequence[str]) -> list[Check]:
    """Connect as a role does, without joining its group, and look for topics.

    Parameters
    ----------
    block
        Name of the configuration block, for messages.
    config
        How Kafka is reached.
    topics
        Topics that must exist.
    """
    name = f"Kafka ({block})"
    try:
        settings = connection_settings(config, block)
    except ConfigurationError as err:
        return [fail(name, str(err), "correct the configuration or the environment")]
    consumer = AIOKafkaConsumer(**settings)
    try:
        async with asyncio.timeout(PATIENCE):
            await consumer.start()
            known = await consumer.topics()
    except (KafkaError, OSError, TimeoutError) as err:
        where = ", ".join(config.bootstrap_servers)
        text = f"{where}: {type(err).__name__}: {err}".rstrip(": ")
        return [fail(name, text, f"check the brokers, {block}.bootstrapServers, securityProtocol and the password")]
    finally:
        await consumer.stop()
    found = [ok(name, "brokers answer")]
    for topic in topics:
        if topic in known:
            found.append(ok(f"Kafka topic {topic}", "exists"))
        else:
            remedy = "create it, or allow this user to describe and read it"
            found.append(fail(f"Kafka topic {topic}", "does not exist, or this user may not see it", remedy))
    return found
