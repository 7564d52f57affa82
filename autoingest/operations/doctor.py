"""Examines everything that a site depends on, each in one finding that says what to do."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Literal
from urllib.parse import urlsplit

import redis.asyncio

from ..app import secrets
from ..app.config import Config
from ..butler.reader import open_reader
from ..errors import AutoingestError
from ..queue.connection import REDIS_AWAY, Client, cause
from ..queue.heartbeats import heartbeats
from ..queue.status import server_state
from ..store.listing import open_listing

Verdict = Literal["ok", "warning", "failed"]

PATIENCE = 30.0
"""Seconds that one examination may take."""

LARGEST_OFFSET = 1.0
"""Seconds by which clocks may differ."""

ALMOST_FULL = 0.8
"""Part of Redis's memory from which a warning is given."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one examination."""

    subject: str
    """``Redis``, ``bucket rubin-summit``, ``Butler``, ..."""
    verdict: Verdict
    text: str
    """What was found."""
    remedy: str = ""
    """What to do; empty if nothing."""


async def examine(config: Config, client: redis.asyncio.Redis) -> AsyncIterator[Finding]:
    """Yield findings about Redis, processes, buckets, the Butler, receivers, Kafka and secrets, as they come.

    Parameters
    ----------
    config
        The site's configuration.
    client
        Redis client that decodes responses; it need not be connected.
    """
    examinations: list[tuple[str, Callable[[], Awaitable[list[Finding]]]]] = [
        ("Redis", lambda: _redis(client)),
        ("processes", lambda: _processes(client)),
        *((f"bucket {bucket}", lambda bucket=bucket: _bucket(bucket)) for bucket in config.buckets),
        ("Butler", lambda: _butler(config)),
        *((f"receiver {name}", lambda name=name, url=url: _receiver(name, url)) for name, url in _receivers(config)),
        *((f"Kafka {block}", lambda block=block: _kafka(config, block)) for block in _kafka_blocks(config)),
        ("secrets", lambda: _secrets(config)),
    ]
    for subject, examination in examinations:
        try:
            async with asyncio.timeout(PATIENCE):
                found = await examination()
        except TimeoutError:
            found = [Finding(subject, "failed", f"no answer within {PATIENCE:g} s", "see whether it is overloaded")]
        except (AutoingestError, OSError) as err:
            found = [Finding(subject, "failed", str(err), "mend it; processes go on by themselves")]
        for finding in found:
            yield finding


async def _redis(client: redis.asyncio.Redis) -> list[Finding]:
    try:
        if isinstance(client, Client):
            await client.look()
        seconds, micros = await client.time()
        state = await server_state(client)
    except REDIS_AWAY as err:
        remedy = f"check redis.url, {secrets.REDIS_PASSWORD} and the log of that server"
        return [Finding("Redis", "failed", cause(err), remedy)]
    found = []
    policy = client.health.policy if isinstance(client, Client) else None
    if policy:
        found.append(
            Finding("Redis", "failed", f"maxmemory-policy is {policy}: it may drop acknowledged files",
                    "CONFIG SET maxmemory-policy noeviction, and in its configuration")
        )  # fmt: skip
    if state is None:
        found.append(Finding("Redis", "warning", "this user may not call INFO", "allow the command INFO"))
    else:
        if not state.is_persistent:
            found.append(
                Finding("Redis", "warning", "it would forget acknowledged files if it restarted",
                        "set appendonly to yes, and look at INFO persistence")
            )  # fmt: skip
        if state.max_memory and state.memory > ALMOST_FULL * state.max_memory:
            share = f"{state.memory / state.max_memory:.0%} of maxmemory is used"
            found.append(Finding("Redis", "warning", share, "raise maxmemory, or lower ingest.recordExpiry"))
    offset = time.time() - (seconds + micros / 1e6)
    found += _clock("Redis", offset)
    used = f", {state.memory / 2**20:,.0f} MiB used" if state else ""
    return found or [Finding("Redis", "ok", f"answers{used}")]


def _clock(subject: str, offset: float) -> list[Finding]:
    if abs(offset) <= LARGEST_OFFSET:
        return []
    text = f"its clock is {abs(offset):.1f} s {'behind' if offset > 0 else 'ahead of'} this machine's"
    return [Finding(subject, "warning", text, "synchronise the clocks; latencies are wrong until then")]


async def _processes(client: redis.asyncio.Redis) -> list[Finding]:
    try:
        found = await heartbeats(client)
    except REDIS_AWAY:
        return []
    alive = [one for one in found if one.is_alive]
    findings = [
        Finding(f"process {one.host} {one.pid}", "warning", f"not heard of for {one.age:.0f} s", "see why it ended")
        for one in found
        if not one.is_alive
    ]
    for one in alive:
        findings += _clock(f"process {one.host} {one.pid}", -one.clock_offset)
        for name, role in one.roles.items():
            findings += [
                Finding(f"role {name} on {one.host}", "failed", trouble.text, "mend it; the role goes on by itself")
                for trouble in role.troubles
            ]
    roles = {name for one in alive for name in one.roles}
    if missing := sorted({"enqueue", "ingest", "idle"} - roles):
        findings.append(
            Finding(
                "processes", "failed", f"none has role {', '.join(missing)}", "start one: autoingest run --roles ..."
            )
        )
    return findings or [Finding("processes", "ok", f"{len(alive)} alive, with roles {', '.join(sorted(roles))}")]


async def _bucket(bucket: str) -> list[Finding]:
    subject = f"bucket {bucket}"
    async with open_listing(bucket) as listing:
        sample = None
        async for page in listing.objects(""):
            sample = next((item for item in page if item.path.endswith(".json")), page[0] if page else None)
            break
        date = await listing.clock()
        if sample is None:
            found = [Finding(subject, "warning", "can be listed, and is empty", "see whether it is the right bucket")]
        else:
            await listing.read(sample.path.partition("/")[2])
            found = []
    if date is not None:
        found += _clock(subject, time.time() - parsedate_to_datetime(date).timestamp())
    return found or [Finding(subject, "ok", "can be listed and read")]


async def _butler(config: Config) -> list[Finding]:
    repo = config.ingest.repo
    async with open_reader(config.ingest, config.logging.model_copy(update={"level": "ERROR"})) as reader:
        state = await reader.inspect()
    if not state.instruments:
        return [Finding("Butler", "failed", f"{repo} has no instrument", f"autoingest repo create {repo} --camera ...")]
    if state.refusal:
        remedy = "grant this database user INSERT and UPDATE on the schema's tables"
        return [Finding("Butler", "failed", f"{repo} can't be written: {state.refusal}", remedy)]
    return [Finding("Butler", "ok", f"{repo} on {state.database}, with {', '.join(state.instruments)}")]


def _receivers(config: Config) -> list[tuple[str, str]]:
    found = [(webhook.name, webhook.url) for webhook in config.events.webhooks]
    return [*found, *([("exposureWebhook", url)] if (url := config.ingest.exposure_webhook) else [])]


async def _receiver(name: str, url: str) -> list[Finding]:
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        _, writer = await asyncio.open_connection(parts.hostname, port)
    except OSError as err:
        remedy = "start it; nothing is lost, events wait" if name != "exposureWebhook" else "start it"
        return [Finding(f"receiver {name}", "failed", f"{parts.hostname}:{port}: {err}", remedy)]
    writer.close()
    return [Finding(f"receiver {name}", "ok", f"{parts.hostname}:{port} takes connections")]


def _kafka_blocks(config: Config) -> list[str]:
    blocks = {"enqueue.kafka": config.enqueue.kafka, "events.kafka": config.events.kafka}
    return [name for name, block in blocks.items() if block is not None]


async def _kafka(config: Config, block: str) -> list[Finding]:
    from aiokafka.errors import KafkaError

    from ..notify.kafka_client import connection_settings
    from ..notify.kafka_lag import topics_of

    is_source = block == "enqueue.kafka"
    settings = config.enqueue.kafka if is_source else config.events.kafka
    assert settings is not None
    wanted = config.enqueue.kafka.topics if config.enqueue.kafka and is_source else ()
    wanted = wanted or ((config.events.kafka.topic,) if config.events.kafka else ())
    try:
        known = await topics_of(connection_settings(settings, block))
    except KafkaError as err:
        brokers = ", ".join(settings.bootstrap_servers)
        return [Finding(f"Kafka {block}", "failed", f"{brokers}: {err!r}", "check brokers, TLS and SASL settings")]
    if missing := sorted(set(wanted) - known):
        text = f"this user sees no topic {', '.join(missing)}"
        return [Finding(f"Kafka {block}", "failed", text, "create it, or allow this user to describe and use it")]
    return [Finding(f"Kafka {block}", "ok", f"topic {', '.join(wanted)}")]


async def _secrets(config: Config) -> list[Finding]:
    wanted = {
        secrets.NOTIFICATION_SECRETS: "anybody who reaches the webhook can announce objects",
        secrets.READ_TOKEN: "events and version 2 of presence refuse everybody",
    }
    if config.events.unauthenticated and config.presence.unauthenticated:
        del wanted[secrets.READ_TOKEN]
    if config.events.webhooks:
        wanted[secrets.WEBHOOK_SECRETS] = "receivers can't tell whether events are genuine"
    found = []
    for name, why in wanted.items():
        if secrets.secret(name) is None:
            found.append(Finding("secrets", "warning", f"{name} is not set here: {why}", f"set {name}, or {name}_FILE"))
    return found or [Finding("secrets", "ok", f"{', '.join(wanted)} are set" if wanted else "none is needed")]
