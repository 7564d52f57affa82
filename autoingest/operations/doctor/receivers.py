"""Looks at the receivers of events by HTTP."""

from __future__ import annotations

import asyncio

import aiohttp

from ...app.config import Config
from ...model.checks import Check, ok, warn

PATIENCE = 10.0
"""Seconds that a receiver has to answer."""


async def check_receivers(config: Config) -> list[Check]:
    """Ask whether the receivers answer at all; no event is sent."""
    receivers = {f"webhook {webhook.name}": webhook.url for webhook in config.events.webhooks}
    if config.ingest.exposure_webhook:
        receivers["webhook of ingest"] = config.ingest.exposure_webhook
    timeout = aiohttp.ClientTimeout(total=PATIENCE)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        return list(await asyncio.gather(*(_ask(session, name, url) for name, url in receivers.items())))


async def _ask(session: aiohttp.ClientSession, name: str, url: str) -> Check:
    remedy = "start the receiver or correct its URL; events wait for it meanwhile"
    try:
        async with session.head(url, allow_redirects=False) as answer:
            if answer.status < 500:
                return ok(name, "answers")
            return warn(name, f"{url} answers {answer.status}", remedy)
    except (aiohttp.ClientError, OSError, TimeoutError) as err:
        return warn(name, f"{url} does not answer: {type(err).__name__}", remedy)
