"""Each request of the corpus, as raw bytes, to the real listeners."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import pytest
from redis.asyncio import Redis

from autoingest.app.config import Config
from autoingest.app.health import Admin
from autoingest.queue.connection import Client
from autoingest.roles.enqueue import EnqueueRole
from autoingest.roles.presence import PresenceRole

from .corpus import CASES, Case

PROBE = b"GET /probe HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


@asynccontextmanager
async def listeners(client: Redis) -> AsyncIterator[tuple[int, int, int]]:
    """Ports of administration, notifications and presence."""
    listen = {"listen": {"host": "127.0.0.1", "port": 0}}
    config = Config.from_dict(
        {"buckets": ["b"], "ingest": {"repo": "/nowhere"}, "enqueue": listen, "presence": listen, "admin": listen},
        "test",
    )
    admin, enqueue, presence = (
        Admin(config, cast(Client, client), []),
        EnqueueRole(config, client),
        PresenceRole(config, client),
    )
    try:
        for listener in (admin, enqueue, presence):
            await listener.start()
        yield admin.port, enqueue.port, presence.port
    finally:
        for listener in (admin, enqueue, presence):
            await listener.close()


async def answers(reader: asyncio.StreamReader, head: bool) -> list[int]:
    """Statuses of all answers until the listener closes the connection."""
    statuses = []
    try:
        while True:
            first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            statuses.append(int(first.split(" ")[1]))
            lengths = [line.split(":")[1] for line in lines if line.lower().startswith("content-length:")]
            if lengths and not (head and len(statuses) == 1):
                await reader.readexactly(int(lengths[0]))
    except (asyncio.IncompleteReadError, ConnectionResetError):
        return statuses


def of(case: Case) -> int:
    """Number of the listener that a case is for."""
    if case.sent.lstrip().startswith(b"POST"):
        return 1
    return 2 if b"/presence/" in case.sent else 0


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
async def test_corpus(redis_client: Redis, case: Case) -> None:
    async with listeners(redis_client) as ports, asyncio.timeout(60):
        port = ports[of(case)]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(case.sent)
        if not case.closes:
            writer.write(PROBE)
        found = await answers(reader, case.sent.startswith(b"HEAD"))
        writer.close()
        if case.closes:
            assert found == list(case.statuses)
        else:
            assert found == [*case.statuses, 404]
        # The listener goes on.
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(PROBE)
        assert await answers(reader, False) == [404]
        writer.close()


def test_corpus_is_as_large_as_promised() -> None:
    assert len(CASES) >= 60
    assert len({case.name for case in CASES}) == len(CASES)
    assert all(case.rule for case in CASES)
