"""Long computations that must not block the event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Generator

SLICE = 0.002
"""Seconds of computation after which other tasks get their turn."""


class Turns:
    """Runs computations one at a time, and leaves other tasks as much time as it uses."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()

    async def run(self, steps: Generator[None, None, None]) -> None:
        """Run `steps` to the end; it should yield often."""
        async with self._lock:
            began = time.perf_counter()
            try:
                for _ in steps:
                    if (taken := time.perf_counter() - began) > SLICE:
                        await asyncio.sleep(taken)
                        began = time.perf_counter()
            finally:
                await asyncio.sleep(time.perf_counter() - began)
