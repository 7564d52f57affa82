"""Whether Ceph holds what a spec declares, and whether anybody answers where it posts."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

import aiohttp

from .client import Gateway
from .desired import Finding, Wanted
from .plan import compare
from .schema import TopicSpec
from .state import read_state

PROBE_TIMEOUT = 5.0
"""Seconds that an endpoint may take to answer; Ceph waits 10 s."""


async def verify(gateway: Gateway, wanted: Wanted, *, endpoints: bool = True) -> list[Finding]:
    """Find everything that is wrong.

    Parameters
    ----------
    gateway
        Ceph.
    wanted
        What it is to hold.
    endpoints
        Whether to ask the topics' endpoints, too, as seen from this machine.

    Raises
    ------
    AutoingestError
        As `Gateway` does.
    """
    state = await read_state(gateway, wanted.spec)
    findings = compare(wanted, state)
    if endpoints:
        answers = await asyncio.gather(*(_probe(topic) for topic in wanted.spec.topics))
        findings += [
            Finding(
                f"topic {wanted.name(topic, state)}, endpoint {topic.push_endpoint}",
                wrong,
                "start the receiver, or correct pushEndpoint; if only Ceph can reach it, verify with --no-endpoints. "
                "A topic that was refused for half a minute may have stalled: try canary, then apply --rotate",
            )
            for topic, wrong in zip(wanted.spec.topics, answers, strict=True)
            if wrong
        ]
    return findings


async def _probe(topic: TopicSpec) -> str | None:
    """Tell what is wrong with an endpoint, if anything: a message without records is harmless, and answered."""
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
                return f"it answers {response.status}: Ceph repeats whatever is not answered 2xx, at once and for ever"
    except TimeoutError:
        return f"it does not answer within {PROBE_TIMEOUT:.0f} s"
    except (aiohttp.ClientError, OSError) as err:
        return f"it does not answer: {type(err).__name__}"
