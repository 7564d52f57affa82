"""Readers of events for tests: a receiver of webhooks, and clients of server-sent events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from autoingest.client import AsyncEventsClient

from .waiting import until


@asynccontextmanager
async def following(urls: Sequence[str]) -> AsyncIterator[list[list[str]]]:
    """Follow the events of some processes from the beginning; yields the ids that came from each."""
    found: list[list[str]] = [[] for _ in urls]

    async def follow(url: str, ids: list[str]) -> None:
        async with AsyncEventsClient(url) as client:
            async for event in client.events(after="0"):
                ids.append(event.id)

    tasks = [asyncio.create_task(follow(url, ids)) for url, ids in zip(urls, found, strict=True)]
    try:
        yield found
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Receiver:
    """A web server that takes events, or answers as it is told."""

    def __init__(self) -> None:
        self.statuses: list[int] = []
        """What it answers next; 200 when there is nothing more."""
        self.is_away = False
        """Whether it answers 503 to all."""
        self.requests: list[tuple[dict[str, str], bytes]] = []
        self.taken: list[dict[str, Any]] = []
        self.port = 0

    async def _post(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.requests.append((dict(request.headers), body))
        status = 503 if self.is_away else self.statuses.pop(0) if self.statuses else 200
        if status == 200:
            self.taken.append(json.loads(body))
        return web.Response(status=status)

    @property
    def numbers(self) -> list[int]:
        return [event["data"]["number"] for event in self.taken if "number" in event["data"]]

    @asynccontextmanager
    async def run(self, port: int = 0) -> AsyncIterator[str]:
        app = web.Application()
        app.router.add_post("/events", self._post)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", port)
        await site.start()
        self.port = runner.addresses[0][1]
        try:
            yield f"http://127.0.0.1:{self.port}/events"
        finally:
            await runner.cleanup()

    async def has(self, *numbers: int) -> None:
        """Wait until it has taken these."""

        async def got() -> bool:
            return set(numbers) <= set(self.numbers)

        await until(got)
