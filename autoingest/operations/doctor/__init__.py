"""Looks at everything that a site needs; nothing is changed. One module for each kind of server."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterator

from ...app.config import Config
from ...model.checks import Check, fail
from .butler import check_butler
from .kafka import check_kafka
from .receivers import check_receivers
from .redis import check_redis
from .secrets import check_secrets
from .store import check_bucket

PATIENCE = 60.0
"""Seconds that one server may take for all that is asked of it."""


async def examine(config: Config) -> list[Check]:
    """Look at a site: its secrets, Redis, processes, store, Butler, Kafka and webhooks, all at the same time.

    Whatever goes wrong is in the result; nothing is raised for it.
    """
    found = await asyncio.gather(*(_in_time(name, work) for name, work in _all(config)))
    return [*check_secrets(config), *(check for checks in found for check in checks)]


def _all(config: Config) -> Iterator[tuple[str, Awaitable[list[Check]]]]:
    yield "Redis", check_redis(config)
    for bucket in config.buckets:
        yield f"store {bucket}", check_bucket(bucket)
    yield "Butler", check_butler(config)
    if config.enqueue.kafka:
        yield "Kafka", check_kafka("enqueue.kafka", config.enqueue.kafka, config.enqueue.kafka.topics)
    if config.events.kafka:
        yield "Kafka", check_kafka("events.kafka", config.events.kafka, [config.events.kafka.topic])
    yield "webhooks", check_receivers(config)


async def _in_time(name: str, work: Awaitable[list[Check]]) -> list[Check]:
    try:
        async with asyncio.timeout(PATIENCE):
            return await work
    except TimeoutError:
        return [fail(name, f"no answer within {PATIENCE:g} s", "check the server and the network to it")]
