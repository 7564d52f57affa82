"""How far a consumer is behind its topics."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

ANSWER = 5.0
"""Seconds that the brokers may take to return end offsets before they count as unavailable."""


async def measure(
    consumer: AIOKafkaConsumer,
    topics: Sequence[str],
    in_hand: Callable[[], Mapping[TopicPartition, Sequence[ConsumerRecord]]],
) -> dict[str, int]:
    """Return how many messages of the assigned partitions are not in Redis yet.

    A member without partitions asks about one anyway, to find out whether the brokers answer.

    Parameters
    ----------
    consumer
        A member of the group.
    topics
        Topics that it has subscribed to.
    in_hand
        Returns the messages that have been fetched but are not in Redis yet. It is called after the brokers have
        answered, since more may have been fetched in the meantime.

    Returns
    -------
    lag
        Number of messages, by topic.

    Raises
    ------
    aiokafka.errors.KafkaError
        If the brokers refuse, or partitions have just moved.
    TimeoutError
        If the brokers don't answer.
    """
    lag = dict.fromkeys(topics, 0)
    assigned = consumer.assignment()
    known = [topic for topic in topics if consumer.partitions_for_topic(topic)]
    async with asyncio.timeout(ANSWER):
        ends = await consumer.end_offsets(assigned or [TopicPartition(topic, 0) for topic in known[:1]])
        for partition in assigned:
            records = in_hand().get(partition)
            position = records[0].offset if records else await consumer.position(partition)
            lag[partition.topic] += max(0, ends[partition] - position)
    return lag


def unknown(consumer: AIOKafkaConsumer, topics: Sequence[str]) -> dict[str, str]:
    """Return the topics that can't be read, each with the reason."""
    refused = consumer._client.cluster.unauthorized_topics
    return {
        topic: f"topic {topic} {'may not be read: no authorization' if topic in refused else 'does not exist'}"
        for topic in topics
        if not consumer.partitions_for_topic(topic)
    }
