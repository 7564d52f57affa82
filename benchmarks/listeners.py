"""Requests per second and latency of the two listeners."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import count

from autoingest.dev.simulator import SentFile, notification
from autoingest.queue.intake import Intake
from autoingest.queue.presence import Arrival, GroupKeys

from . import bench, program
from .load import Load, get, load, post
from .report import Row

ENQUEUE = {
    # connections, records a request: requests, and requests/s and ms of the replaced implementation
    (1, 1): (3_000, None, None),
    (16, 1): (15_000, 2000, 13),
    (64, 1): (15_000, None, None),
    (1, 205): (100, None, None),
    (16, 205): (200, None, None),
    (64, 205): (200, None, None),
}

PRESENCE = {
    # connections, keep-alive: as above
    (1, True): (3_000, None, None),
    (16, True): (15_000, 3650, 10.5),
    (64, True): (15_000, None, None),
    (205, True): (15_000, None, None),
    (1, False): (2_000, None, None),
    (16, False): (8_000, None, None),
    (64, False): (8_000, None, None),
    (205, False): (8_000, None, None),
}

BACKLOG = 10
"""Exposures on the queue when notifications begin to come while ingest works."""

BUSY = 5
"""Exposures whose notifications come then."""

WHILE_BUSY = 16
"""Connections over which they come."""

GROUP = "2026-01-01T00:00:00.000"


async def enqueue(servers: bench.Servers) -> list[Row]:
    """One process that does nothing else, each record of an object never seen before; then one that ingests, too."""
    rows = []
    numbers = count()
    for (connections, records), (requests, rate, p99) in ENQUEUE.items():
        found = []
        async with bench.empty_redis(servers.redis_url):
            with bench.site(servers, "unused") as site:
                program.start(site, "enqueue")
                for _ in range(servers.runs):
                    bodies = [_message(numbers, records) for _ in range(requests)]
                    found.append(await load(site.notify_port, bodies, connections))
        rows += _rows(f"enqueue: {_connections(connections)}, {records} a request", found, rate, p99)
    return rows + await _enqueue_while_ingesting(servers)


async def _enqueue_while_ingesting(servers: bench.Servers) -> list[Row]:
    found = []
    repo = bench.repository(servers)
    with bench.s3(servers.folder):
        files = await bench.expose(1 + servers.runs * (BACKLOG + BUSY))
        async with bench.empty_redis(servers.redis_url) as client:
            with bench.site(servers, repo) as site:
                program.start(site, "enqueue,ingest,idle,presence")
                taken = bench.FILES
                await bench.rate(client, files[:taken])
                intake = Intake(client)
                for _ in range(servers.runs):
                    await intake.accept(await bench.notices(files[taken : taken + BACKLOG * bench.FILES]))
                    taken += BACKLOG * bench.FILES
                    bodies = [post("/notify", notification(file)) for file in files[taken:][: BUSY * bench.FILES]]
                    taken += len(bodies)
                    found.append(await load(site.notify_port, bodies, WHILE_BUSY))
                    if await bench.count(client) >= taken - len(bodies):
                        raise RuntimeError("the backlog was gone before the last notification: the figure says nothing")
                    await bench.ingested(client, taken)
                await intake.close()
    return _rows(f"enqueue: {_connections(WHILE_BUSY)}, 1 a request, ingest busy in the same program", found)


async def presence(servers: bench.Servers) -> list[Row]:
    """One process, with and without keep-alive; every other lookup finds something."""
    rows = []
    async with bench.empty_redis(servers.redis_url) as client:
        arrivals = [Arrival("LSSTCam", GROUP, 0, f"R{raft:02d}_S11", "s3://there") for raft in range(50)]
        await GroupKeys(client, 3600).record(arrivals)
        with bench.site(servers, "unused") as site:
            program.start(site, "presence")
            for (connections, keep_alive), (number, rate, p99) in PRESENCE.items():
                requests = [
                    get(f"/presence/LSSTCam/{GROUP}/0/R{each % 100:02d}_S11", keep_alive=keep_alive)
                    for each in range(number)
                ]
                found = [
                    await load(site.presence_port, requests, connections, keep_alive=keep_alive)
                    for _ in range(servers.runs)
                ]
                how = "keep-alive" if keep_alive else "a connection each"
                rows += _rows(f"presence: {_connections(connections)}, {how}", found, rate, p99)
    return rows


def _connections(number: int) -> str:
    return f"{number} connection{'s' if number > 1 else ''}"


def _rows(name: str, found: list[Load], rate: float | None = None, p99: float | None = None) -> list[Row]:
    return [
        Row(name, "requests/s", [run.rate for run in found], rate),
        Row(f"{name}, median latency", "ms", [run.p50 for run in found]),
        Row(f"{name}, p99 latency", "ms", [run.p99 for run in found], p99),
    ]


def _message(numbers: Iterator[int], records: int) -> bytes:
    """Return a request that tells of some new objects."""
    bodies = [notification(unknown(next(numbers))) for _ in range(records)]
    begin, end = b'{"Records":[', b"]}"
    return post("/notify", begin + b",".join(body[len(begin) : -len(end)] for body in bodies) + end)


def unknown(number: int) -> SentFile:
    """Return an object that nobody wrote."""
    obs_id = f"MC_O_{bench.DAY_OBS}_{number // bench.FILES + 1:06d}"
    key = f"LSSTCam/{bench.DAY_OBS}/{obs_id}/{obs_id}_R22_S11-{number}.fits"
    return SentFile(f"{bench.BUCKET}/{key}", 20160, f"{number:032x}", time.time())
