"""Readers of events for tests: a receiver of webhooks, and clients of server-sent events."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from autoingest.client import AsyncEventsClient

from .waiting import until


@asynccontextmanager
async def listening(urls: Sequence[str]) -> AsyncIterator[list[dict[str, float]]]:
    """Follow the events of exposures from the beginning, a client for each URL.

    Yields for each client when events came (epoch seconds), by their ids.
    """
    heard: list[dict[str, float]] = [{} for _ in urls]

    async def listen(url: str, times: dict[str, float]) -> None:
        async with AsyncEventsClient(url) as client:
            async for event in client.events(after="0"):
                times.setdefault(event.id, time.time())

    tasks = [asyncio.create_task(listen(url, times)) for url, times in zip(urls, heard, strict=True)]
    try:
        yield heard
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
        self.poison = ""
        """Id of an event at which it fails."""
        self.requests: list[tuple[dict[str, str], bytes]] = []
        self.taken: list[dict[str, Any]] = []
        self.port = 0

    async def _post(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.requests.append((dict(request.headers), body))
        status = 503 if self.is_away else self.statuses.pop(0) if self.statuses else 200
        if self.poison and request.headers["webhook-id"] == self.poison:
            status = 500
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
