"""Clients that wait for images by version 2 of presence, beside polling by version 1."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from autoingest.dev.simulator import sensors
from autoingest.queue.presence import Arrival, GroupKeys
from testing.site import Site

from . import bench, program
from .report import Row

CLIENTS = (205, 1700)
GROUP = "2026-11-26T00:01:13.57{:d}"
TOKEN = "benchmark"
DETECTORS = [sensor.name for sensor in sensors() if sensor.purpose != "GUIDER"]

VISIT = 5.0
"""Seconds between the first question of a visit and the arrival of its images, and for which workers poll."""

POLLS = 200
"""Lookups of a worker that does not know how many images a group has."""


def _image(group: str, name: str) -> Arrival:
    return Arrival("LSSTCam", group, 0, name, f"s3://there/{name}", "MC_O_20261125_000001", 18_000_000, "e", 1)


async def measure(servers: bench.Servers) -> list[Row]:
    """Wake one of many waiting clients, then all; processor time of a visit by waiting and by polling."""
    rows = []
    async with bench.empty_redis(servers.redis_url) as client:
        groups = GroupKeys(client, 3600)
        with bench.site(servers, "unused", environment={"AUTOINGEST_READ_TOKEN": TOKEN}) as site:
            program.start(site, "presence")
            pid, run = site.processes[0].pid, 0
            for number in CLIENTS:
                one, every, cpu = list[float](), list[float](), list[float]()
                for _ in range(servers.runs):
                    run += 1
                    used = program.cpu(pid)
                    latencies = await _wake(site.presence_port, groups, GROUP.format(run), number, site)
                    one.append(latencies[0])
                    every.append(sorted(latencies)[round(0.99 * (len(latencies) - 1))])
                    cpu.append((program.cpu(pid) - used) * 1000)
                name = f"waiting: {number:,} clients"
                rows += [
                    Row(f"{name}, one is woken", "ms", one),
                    Row(f"{name}, all are woken, p99", "ms", every),
                    Row(f"{name}, processor time of a visit", "ms", cpu),
                ]
            polling = []
            for _ in range(servers.runs):
                used = program.cpu(pid)
                await _poll(site.presence_port)
                polling.append((program.cpu(pid) - used) * 1000)
            polls = len(DETECTORS) * POLLS
            rows.append(Row(f"waiting: version 1 instead, {polls:,} lookups of a visit, processor time", "ms", polling))
    return rows


async def _wake(port: int, groups: GroupKeys, group: str, number: int, site: Site) -> list[float]:
    """Let clients wait, the last one for a detector of its own; return the milliseconds until each was answered."""
    alone, *others = DETECTORS
    names = [others[each % len(others)] for each in range(number - 1)]
    connections = [await asyncio.open_connection("127.0.0.1", port) for _ in range(number)]
    for name, (_, writer) in zip([alone, *names], connections, strict=True):
        writer.write(
            f"GET /v2/presence/LSSTCam?group={group}&detector={name}&wait=15 HTTP/1.1\r\nHost: presence\r\n"
            f"Authorization: Bearer {TOKEN}\r\nConnection: close\r\n\r\n".encode()
        )
    while site.metric("autoingest_presence_waiting") < number:
        await asyncio.sleep(0.02)
    first = await _answered(groups, [_image(group, alone)], [connections[0][0]])
    rest = await _answered(groups, [_image(group, name) for name in others], [each for each, _ in connections[1:]])
    for _, writer in connections:
        writer.close()
    return first + rest


async def _answered(groups: GroupKeys, images: list[Arrival], readers: Sequence[asyncio.StreamReader]) -> list[float]:
    async def until_answered(reader: asyncio.StreamReader) -> float:
        answer = await reader.readuntil(b"\r\n")
        assert answer.startswith(b"HTTP/1.1 200"), answer
        return (time.perf_counter() - begun) * 1000

    tasks = [asyncio.create_task(until_answered(reader)) for reader in readers]
    await asyncio.sleep(0)
    begun = time.perf_counter()
    await groups.record(images)
    return await asyncio.gather(*tasks)


async def _poll(port: int) -> None:
    """Look up every detector as often as workers of Prompt Processing do that wait for an unknown number of images."""

    async def worker(name: str) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        request = f"GET /presence/LSSTCam/absent/0/{name} HTTP/1.1\r\nHost: presence\r\n\r\n".encode()
        for _ in range(POLLS):
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            await reader.readexactly(length)
        writer.close()

    await asyncio.gather(*map(worker, DETECTORS))
