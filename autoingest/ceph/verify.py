"""Check whether Ceph matches a specification, and whether the topics' endpoints answer."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

import aiohttp

from .client import Gateway
from .desired import DesiredState, Finding
from .plan import compare
from .schema import TopicSpec
from .state import read_state

PROBE_TIMEOUT = 5.0
"""Seconds within which an endpoint must answer; Ceph itself waits 10 s."""


async def verify(gateway: Gateway, desired: DesiredState, *, endpoints: bool = True) -> list[Finding]:
    """Return everything that is wrong.

    Parameters
    ----------
    gateway
        Ceph.
    desired
        State that Ceph should have.
    endpoints
        Whether to also post to the topics' endpoints from this machine.

    Raises
    ------
    AutoingestError
        As `Gateway` does.
    """
    state = await read_state(gateway, desired.spec)
    findings = compare(desired, state)
    if endpoints:
        answers = await asyncio.gather(*(_probe(topic) for topic in desired.spec.topics))
        findings += [
            Finding(
                f"topic {desired.name(topic, state)}, endpoint {topic.push_endpoint}",
                wrong,
                "start the receiver, or correct pushEndpoint; if only Ceph can reach it, use verify --no-endpoints. "
                "If the endpoint was down for more than 20 s the topic may have stalled: run canary, and if that fails "
                "apply --rotate",
            )
            for topic, wrong in zip(desired.spec.topics, answers, strict=True)
            if wrong
        ]
    return findings


async def _probe(topic: TopicSpec) -> str | None:
    """Post a message without records, which is harmless, and return what is wrong with the endpoint, if anything."""
    url = urlsplit(topic.push_endpoint)
    try:
        async with asyncio.timeout(PROBE_TIMEOUT):
            if url.scheme == "kafka":
                _, writer = await asyncio.open_connection(url.hostname, url.port)
                writer.close()
                return None
            async with (
                aiohttp.ClientSession() as session,
                session.post(
                    topic.push_endpoint, json={"Records": []}, ssl=topic.verify_ssl is not False, allow_redirects=False
                ) as response,
            ):
                if response.status < 300:
                    return None
                return f"it answers {response.status}; Ceph retries anything but a 2xx at once and for ever"
    except TimeoutError:
        return f"it does not answer within {PROBE_TIMEOUT:.0f} s"
    except (aiohttp.ClientError, OSError) as err:
        return f"it does not answer: {type(err).__name__}"
