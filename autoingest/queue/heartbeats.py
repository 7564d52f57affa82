"""Heartbeats: every process tells in Redis that it is alive, and what each of its roles does.

A process that ends in order removes its heartbeat. One that was killed, or has lost Redis, stays for an hour as silent.
"""

from __future__ import annotations

import os
import re
import secrets
import socket
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import orjson
import redis.asyncio

from . import keys
from .health import without_wrong_type
from .scripts import load

INTERVAL = 5.0
"""Seconds between two heartbeats of a process."""

SILENT = 3 * INTERVAL
"""Seconds without a heartbeat after which a process no longer counts as alive."""

MOST_PROCESSES = 500
"""Maximum number of processes that are remembered."""

LONGEST_TEXT = 300
"""Maximum number of characters of a text in a heartbeat."""

BEAT = load("beat")


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a role, or the process, can't work."""

    text: str
    since: float
    """Epoch seconds."""


@dataclass(frozen=True, slots=True)
class RoleState:
    """What a role of a process does."""

    doing: str
    """In words; empty if it only waits for work."""
    troubles: tuple[Trouble, ...] = ()
    dependencies: Mapping[str, Trouble | None] = field(default_factory=dict)
    """Each service that it needs, beside Redis: why it can't be used, None if it can."""


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """What a process has told of itself."""

    name: str
    """Unique name of the process."""
    host: str
    pid: int
    version: str
    since: float
    """Epoch seconds at which it started."""
    time: float
    """Epoch seconds by the clock of its host."""
    roles: Mapping[str, RoleState]
    troubles: tuple[Trouble, ...] = ()
    """What is wrong with Redis, as it sees it."""
    workers: Mapping[str, int] = field(default_factory=dict)
    """Number of its workers by bucket."""
    heard: float = 0.0
    """Epoch seconds by the clock of Redis at which it was last heard of."""
    age: float = 0.0
    """Seconds since then."""

    @property
    def is_alive(self) -> bool:
        """Whether it was heard of lately."""
        return self.age <= SILENT

    @property
    def clock_offset(self) -> float:
        """Seconds by which the clock of its host is ahead of that of Redis."""
        return self.time - self.heard


async def beat(client: redis.asyncio.Redis, heartbeat: Heartbeat) -> None:
    """Record a heartbeat."""
    content = {name: value for name, value in asdict(heartbeat).items() if name not in ("name", "heard", "age")}
    script = client.register_script(BEAT)
    await script(
        [keys.HEARTBEATS, keys.HEARTBEAT_TIMES],
        [heartbeat.name, orjson.dumps(_short(content)), keys.HEARTBEAT_EXPIRY, MOST_PROCESSES],
    )


async def end_heartbeat(client: redis.asyncio.Redis, name: str) -> None:
    """Remove the heartbeat of a process that ends in order."""
    async with client.pipeline(transaction=True) as step:
        step.hdel(keys.HEARTBEATS, name)
        step.zrem(keys.HEARTBEAT_TIMES, name)
        await step.execute()


async def heartbeats(client: redis.asyncio.Redis) -> list[Heartbeat]:
    """Return the last heartbeats of all processes, by host and start; what can't be read is left out."""
    async with client.pipeline(transaction=True) as step:
        step.hgetall(keys.HEARTBEATS)
        step.zrange(keys.HEARTBEAT_TIMES, 0, -1, withscores=True)
        step.time()
        contents, times, (seconds, micros) = await step.execute(raise_on_error=False)
    contents, times = without_wrong_type(contents, {}), without_wrong_type(times, ())
    now = seconds + micros / 1e6
    found = [
        heartbeat
        for name, heard in times
        if name in contents and (heartbeat := _read(name, contents[name], heard, now - heard)) is not None
    ]
    return sorted(found, key=lambda heartbeat: (heartbeat.host, heartbeat.since))


def workers_alive(found: Iterable[Heartbeat], bucket: str) -> int:
    """Return the number of a bucket's workers in living processes."""
    return sum(heartbeat.workers.get(bucket, 0) for heartbeat in found if heartbeat.is_alive)


def _read(name: str, text: str, heard: float, age: float) -> Heartbeat | None:
    try:
        content = orjson.loads(text)
        roles = {
            role: RoleState(state["doing"], _troubles(state["troubles"]), _dependencies(state.get("dependencies", {})))
            for role, state in content["roles"].items()
        }
        return Heartbeat(
            name, str(content["host"]), int(content["pid"]), str(content["version"]), float(content["since"]),
            float(content["time"]), roles, _troubles(content["troubles"]),
            {bucket: int(number) for bucket, number in content["workers"].items()}, heard, max(0.0, age),
        )  # fmt: skip
    except (ValueError, LookupError, TypeError, AttributeError):
        return None  # of another release


def _troubles(items: Iterable[Mapping[str, Any]]) -> tuple[Trouble, ...]:
    return tuple(Trouble(str(item["text"]), float(item["since"])) for item in items)


def _dependencies(items: Mapping[str, Mapping[str, Any] | None]) -> dict[str, Trouble | None]:
    return {name: _troubles([item])[0] if item else None for name, item in items.items()}


def _short(value: Any) -> Any:
    if isinstance(value, str):
        return value[:LONGEST_TEXT]
    if isinstance(value, dict):
        return {name: _short(item) for name, item in value.items()}
    return [_short(item) for item in value] if isinstance(value, list | tuple) else value


def process_name() -> str:
    """Return a name that no other process has or had; it has no colon, which separates name and bucket in keys."""
    host = re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname())
    return f"{host}-{os.getpid()}-{secrets.token_hex(3)}"


class Since:
    """Remembers since when each of several texts has been told."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}

    def __call__(self, texts: Iterable[str]) -> tuple[Trouble, ...]:
        """Return the texts that hold now, each with the time at which it was first told."""
        now = time.time()
        self._since = {text: self._since.get(text, now) for text in texts}
        return tuple(Trouble(text, since) for text, since in self._since.items())
