"""A lean HTTP load generator, so that the server and not the client is measured."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Load:
    """What a load run showed."""

    rate: float
    """Requests per second."""
    p50: float
    """Median latency, ms."""
    p99: float
    """99th percentile of the latency, ms."""


async def load(port: int, requests: list[bytes], connections: int, *, keep_alive: bool = True) -> Load:
    """Send every request once over `connections` connections and wait for a 200 to each.

    Parameters
    ----------
    port
        Port on the loopback interface.
    requests
        Whole HTTP requests, head and body.
    connections
        How many requests are under way at once.
    keep_alive
        Whether a connection serves many requests.

    Raises
    ------
    RuntimeError
        If an answer is not 200.
    """
    waiting = iter(requests)
    latencies: list[float] = []
    started = time.perf_counter()
    await asyncio.gather(*(_client(port, waiting, latencies, keep_alive) for _ in range(connections)))
    elapsed = time.perf_counter() - started
    return Load(
        rate=len(latencies) / elapsed,
        p50=percentile(latencies, 0.5) * 1e3,
        p99=percentile(latencies, 0.99) * 1e3,
    )


def percentile(values: Iterable[float], fraction: float) -> float:
    """Return the value that a fraction of all does not exceed; of few values the largest."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * fraction))]


async def _client(port: int, requests: Iterator[bytes], latencies: list[float], keep_alive: bool) -> None:
    reader: asyncio.StreamReader | None = None
    writer: asyncio.StreamWriter | None = None
    try:
        for request in requests:
            started = time.perf_counter()
            if reader is None or writer is None:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(f"unexpected answer: {head[:200]!r}")
            length = head.lower().index(b"content-length:") + 15
            await reader.readexactly(int(head[length : head.index(b"\r\n", length)]))
            latencies.append(time.perf_counter() - started)
            if not keep_alive:
                writer.close()
                reader = writer = None
    finally:
        if writer is not None:
            writer.close()


def post(path: str, body: bytes) -> bytes:
    """Return a POST request with a JSON body."""
    return (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode() + body


def get(path: str, *, keep_alive: bool = True) -> bytes:
    """Return a GET request."""
    connection = "" if keep_alive else "Connection: close\r\n"
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{connection}\r\n".encode()
