from __future__ import annotations

import asyncio
from pathlib import Path

from autoingest.app.config import Config
from autoingest.dev import embedded
from autoingest.queue import keys
from autoingest.queue.connection import connect
from autoingest.queue.work import WorkQueue
from autoingest.roles.idle import IdleRole
from testing.redis import BUCKET, image, put
from testing.waiting import until


async def test_goes_on_when_redis_comes_back(tmp_path: Path) -> None:
    port = embedded.free_port()
    config = Config.from_dict(
        {
            "buckets": [BUCKET],
            "redis": {"url": f"redis://127.0.0.1:{port}/0"},
            "ingest": {"repo": "/nowhere"},
            "idle": {"interval": 0.02},
        },
        "test",
    )
    stop = asyncio.Event()
    async with connect(config.redis) as client:
        role = IdleRole(config, client)
        await role.start()
        running = asyncio.create_task(role.run(stop))
        for _ in range(2):  # not there yet, and gone again
            with embedded.valkey(tmp_path, port=port):
                await client.flushall()
                await put(client, image(0))
                await WorkQueue(client, BUCKET, "dead", 60).claim(1)
                await client.delete(keys.lease(BUCKET, "dead"))

                async def returned() -> bool:
                    return bool(await client.llen(keys.queue(BUCKET)))

                await until(returned)
        assert role.unready_reasons() == []
        assert await role.is_drained()
        stop.set()
        await asyncio.wait_for(running, 60)
        await role.close()
