"""Seconds from the first notification of an exposure to its presence, its datasets and its visit."""

from __future__ import annotations

import time
from pathlib import Path

from autoingest.queue import keys
from autoingest.sim import notification

from . import bench
from .load import load, post
from .report import Row

CONNECTIONS = 16
"""Notifications under way at once."""


async def measure(folder: Path, redis_url: str, postgres_url: str, runs: int) -> list[Row]:
    """Post the notifications of whole exposures at once, all roles being in one process."""
    presence, dataset = [], []
    with bench.s3(folder, 0):
        exposures = [(await bench.expose(1, first_seq=seq)) for seq in range(1, 2 + runs)]
        async with bench.empty_redis(redis_url) as client:
            with bench.site(folder, redis_url, bench.repository(folder, postgres_url)) as site:
                site.start("enqueue,ingest,idle,presence")
                for number, result in enumerate(exposures, 1):
                    requests = [post("/notify", notification(file)) for file in result.images]
                    await client.delete(*[key async for key in client.scan_iter("GROUP:*")] or ["-"])
                    started = time.time()
                    await load(site.notify_port, requests, CONNECTIONS)
                    await bench.ingested(client, 205 * number)
                    async with client.pipeline(transaction=False) as pipe:
                        for file in result.images:
                            pipe.hget(keys.file(file.path), "ingest_time")
                        dataset.append(max(map(float, await pipe.execute())) - started)
                    names = [key async for key in client.scan_iter("GROUP:*")]
                    async with client.pipeline(transaction=False) as pipe:
                        for name in names:
                            pipe.pttl(name)
                        asked = time.time()
                        left = await pipe.execute()
                    # A key was written when its whole time to live was left.
                    presence.append(asked - 24 * 3600 + max(left) / 1000 - started)
    return [
        Row("burst: first notification to last presence key", "s", presence[1:], 2.6),
        Row("burst: first notification to last dataset and visit", "s", dataset[1:], 2.6),
    ]
