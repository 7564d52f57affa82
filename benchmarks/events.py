"""Seconds until an event has reached all who listen, and what that costs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

from autoingest.queue import keys
from testing.event_readers import listening
from testing.event_schemas import example

from . import bench, program
from .load import percentile
from .report import Row

CLIENTS = (1, 500)
EVENTS = 20
"""Events of one run, one after the other."""


async def arrival(times: Mapping[str, float], name: str) -> float:
    """Wait for an event; return when it came."""
    async with asyncio.timeout(120):
        while name not in times:
            await asyncio.sleep(0.005)
    return times[name]


async def measure(servers: bench.Servers) -> list[Row]:
    """Append events to the stream, as the steps of ingest do, while clients listen."""
    rows = []
    for number in CLIENTS:
        first, last, cpu = list[float](), list[float](), list[float]()
        for _ in range(servers.runs):
            async with bench.empty_redis(servers.redis_url) as client:
                with bench.site(servers, "unused") as site:
                    program.start(site, "events")
                    pid = site.processes[0].pid
                    async with listening([site.events_url] * number) as clients:
                        await _tell(client, clients, "connected")
                        used = program.cpu(pid)
                        latencies = [await _tell(client, clients, str(each)) for each in range(EVENTS)]
                        cpu.append((program.cpu(pid) - used) * 1000 / EVENTS)
            first.append(percentile([1000 * times[0] for times in latencies], 0.5))
            last.append(percentile([1000 * times[-1] for times in latencies], 0.99))
        name = f"events: {number} client{'s' if number > 1 else ''}"
        rows += [
            Row(f"{name}, the first has an event", "ms", first),
            Row(f"{name}, all have it, p99", "ms", last),
            Row(f"{name}, processor time", "ms per event", cpu),
        ]
    return rows


async def _tell(client: Any, clients: list[dict[str, float]], name: str) -> list[float]:
    """Append an event; return in order after how many seconds each client had it."""
    began = time.time()
    await client.xadd(keys.EVENTS, {**example("exposure.complete"), "id": name})
    return sorted([await arrival(times, name) - began for times in clients])
