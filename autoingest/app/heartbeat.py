"""The heartbeat of this process: what its roles do, told in Redis every few seconds."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from typing import Protocol, runtime_checkable

import structlog

from .. import __version__
from ..queue.connection import REDIS_AWAY, Client
from ..queue.heartbeats import INTERVAL, Heartbeat, RoleState, Since, Trouble, beat, end_heartbeat, process_name
from ..roles import HasDependencies, Role

LAST = 2.0
"""Seconds that the removal of the heartbeat may take when the process ends."""

log = structlog.get_logger(__name__)


@runtime_checkable
class Busy(Protocol):
    """A role that can say what it does."""

    def doing(self) -> str:
        """Return what it does now, in words; empty if it waits for work."""


@runtime_checkable
class HasWorkers(Protocol):
    """A role with workers."""

    def workers(self) -> dict[str, int]:
        """Return the number of workers by bucket."""


class HeartbeatKeeper:
    """Tells in Redis that this process is alive.

    Parameters
    ----------
    client
        The process's Redis client.
    roles
        Roles of this process.
    """

    def __init__(self, client: Client, roles: Sequence[Role]) -> None:
        self._redis = client
        self._roles = roles
        self._name = process_name()
        self._started = time.time()
        self._since: defaultdict[str, Since] = defaultdict(Since)

    def now(self) -> Heartbeat:
        """Return the heartbeat of this moment."""
        return Heartbeat(
            self._name,
            socket.gethostname(),
            os.getpid(),
            __version__,
            self._started,
            time.time(),
            {
                role.name: RoleState(
                    role.doing() if isinstance(role, Busy) else "",
                    self._since[role.name](role.unready_reasons()),
                    self._dependencies(role),
                )
                for role in self._roles
            },
            self._since["redis"](self._redis.health.unready_reasons()),
            {
                bucket: number
                for role in self._roles
                if isinstance(role, HasWorkers)
                for bucket, number in role.workers().items()
            },
        )

    def _dependencies(self, role: Role) -> dict[str, Trouble | None]:
        """Return the state of what a role needs; an outage lasts while its cause changes."""
        if not isinstance(role, HasDependencies):
            return {}
        found = role.dependencies()
        outages = self._since[f"{role.name} needs"](name for name, why in found.items() if why)
        return dict.fromkeys(found) | {one.text: Trouble(found[one.text], one.since) for one in outages}

    async def run(self) -> None:
        """Tell it for ever; an outage of Redis is left to those whose work needs Redis."""
        while True:
            try:
                with suppress(*REDIS_AWAY):
                    await beat(self._redis, self.now())
            except Exception:
                # No error here may end the roles of the process.
                log.exception("no heartbeat")
            await asyncio.sleep(INTERVAL)

    async def close(self) -> None:
        """Remove the heartbeat."""
        with suppress(*REDIS_AWAY, TimeoutError):
            async with asyncio.timeout(LAST):
                await end_heartbeat(self._redis, self._name)
