"""What Redis holds, as tests put it there and look at it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from redis.asyncio import Redis

from autoingest.dev import embedded
from autoingest.queue import keys
from autoingest.queue.audit import Auditor, AuditReport
from autoingest.queue.work import Claimed, Done

from .waiting import until

BUCKET = "embargo@rubin-summit"


def image(number: int, detector: str = "R22_S11", seq: int = 1) -> str:
    """Path of one of many objects."""
    obs_id = f"MC_O_20250415_{seq:06d}"
    return f"{BUCKET}/LSSTCam/20250415/{obs_id}/{obs_id}_{detector}-{number}.fits"


def text(value: object) -> str:
    """A value of Redis, which must be there: redis-py's types don't know that clients decode."""
    assert isinstance(value, str)
    return value


def texts(values: Iterable[object]) -> list[str]:
    """Values of Redis."""
    return [text(value) for value in values]


async def put(client: Redis, *paths: str, bucket: str = BUCKET, **fields: str | float) -> None:
    """Put paths onto the queue as enqueue does."""
    record: dict[Any, Any] = {"state": "queued", "recv_time": 1.5, **fields}
    for path in paths:
        await client.hset(keys.file(path), mapping=record)
        await client.expire(keys.file(path), keys.FILE_EXPIRY)
        await client.lpush(keys.queue(bucket), path)


async def upcoming(client: Redis, bucket: str = BUCKET) -> list[str]:
    """Paths on the queue, the next to be taken first."""
    return texts(await client.lrange(keys.queue(bucket), 0, -1))[::-1]


async def state(client: Redis, path: str) -> str | None:
    """State of a file."""
    found = await client.hget(keys.file(path), "state")
    return None if found is None else text(found)


async def claim_of(client: Redis, path: str) -> Claimed:
    """The last claim of a file, as its worker got it."""
    found: list[Any] = await client.hmget(keys.file(path), "claim", "etag")
    token, etag = found
    return Claimed(path, token or "", time.time(), None, etag, None, None, 0, None, None)


async def done(client: Redis, path: str, obs_id: str | None = None, etag: str | None = None) -> Done:
    """A file that its worker has put into the Butler."""
    return Done(await claim_of(client, path), etag, 17 if etag else None, "LSSTCam", "20250415", obs_id)


async def audit(client: Redis, limit: int = 1000) -> AuditReport:
    """Audit all buckets."""
    return await Auditor(client).run(limit)


@contextmanager
def sentinel(folder: Path, primary: int) -> Iterator[str]:
    """Run a Redis Sentinel that watches the primary at a port as ``images``; yield ``host:port``."""
    port = embedded.free_port()
    folder.mkdir()
    settings = folder / "sentinel.conf"
    settings.write_text(
        f"port {port}\nbind 127.0.0.1\ndir {folder}\nsentinel monitor images 127.0.0.1 {primary} 1\n"
        "sentinel down-after-milliseconds images 500\nsentinel failover-timeout images 2000\n"
    )
    command = [embedded.valkey_binary(), str(settings), "--sentinel"]
    with embedded.child("sentinel", command, folder / "sentinel.log", lambda: embedded.listens(port)):
        yield f"127.0.0.1:{port}"


class Service:
    """A port behind which servers can be exchanged: connections stay where they lead."""

    def __init__(self, port: int) -> None:
        self.target = port
        self.port = 0
        self._used = 0

    @asynccontextmanager
    async def run(self) -> AsyncIterator[str]:
        """Yield the URL."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        async with server:
            yield f"redis://127.0.0.1:{self.port}/0"
        await until(self._is_unused)

    async def _is_unused(self) -> bool:
        return not self._used

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._used += 1
        onward, back = await asyncio.open_connection("127.0.0.1", self.target)
        copies = [asyncio.create_task(_copy(reader, back)), asyncio.create_task(_copy(onward, writer))]
        try:
            await asyncio.wait(copies, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for copy in copies:
                copy.cancel()
            await asyncio.gather(*copies, return_exceptions=True)
            writer.close()
            back.close()
            self._used -= 1


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
