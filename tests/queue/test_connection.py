from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio

from autoingest import embedded
from autoingest.config import REDIS_PASSWORD, RedisConfig
from autoingest.queue.connection import REDIS_AWAY, connect


@asynccontextmanager
async def connected(url: str, **settings: Any) -> AsyncIterator[redis.asyncio.Redis]:
    client = connect(RedisConfig(url=url, **settings))
    yield client
    await client.aclose()


async def test_callers_wait_for_a_connection(valkey_url: str) -> None:
    async with connected(valkey_url, max_connections=4) as client:
        assert await asyncio.gather(*(client.echo(str(n)) for n in range(50))) == [str(n) for n in range(50)]


async def test_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with embedded.valkey(tmp_path) as url:
        async with connected(url) as client:
            await client.config_set("requirepass", "swordfish")
        async with connected(url) as client:
            with pytest.raises(REDIS_AWAY):
                await client.ping()
        monkeypatch.setenv(REDIS_PASSWORD, "swordfish")
        async with connected(url) as client:
            assert await client.ping()


async def test_restart_in_between_goes_unnoticed(tmp_path: Path) -> None:
    port = embedded.free_port()
    with embedded.valkey(tmp_path, port=port) as url:
        client = connect(RedisConfig(url=url))
        await asyncio.gather(*(client.ping() for _ in range(5)))
    with pytest.raises(REDIS_AWAY):
        await client.ping()
    with embedded.valkey(tmp_path, port=port):
        assert await asyncio.gather(*(client.ping() for _ in range(5))) == [True] * 5
    await client.aclose()


async def test_silence_is_away(valkey_url: str, redis_client: redis.asyncio.Redis) -> None:
    async with connected(valkey_url, socket_timeout=0.1) as client:
        await client.ping()
        await redis_client.client_pause(60_000, all=False)
        try:
            with pytest.raises(REDIS_AWAY):
                await client.set("a", "b")
        finally:
            await redis_client.client_unpause()
