"""Health and metrics of the process: ``/livez``, ``/readyz``, ``/metrics``."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import prometheus_client
import structlog
from aiohttp import web

from ..http.answers import answer
from ..http.listener import Listener
from ..http.tokens import Secrets
from ..queue.connection import REDIS_AWAY, Client
from ..queue.heartbeats import Since, heartbeats
from ..queue.status import last_canary, queue_status, server_state
from ..roles import HasDependencies, Role
from . import metrics
from .config import Config
from .secrets import ADMIN_TOKEN, tokens

REDIS_TIMEOUT = 1.0
"""Time limit in seconds for Redis in a probe; Kubernetes waits 1 s for a probe by default."""

SPARE = 8
"""Number of admin connections for which file descriptors are kept in reserve."""

SHUTDOWN = 2.0
"""Seconds that requests in progress get to finish when the process stops."""

log = structlog.get_logger(__name__)


class Admin:
    """The listener for probes and Prometheus.

    Parameters
    ----------
    config
        The whole configuration.
    client
        The process's Redis client.
    roles
        Roles of this process.
    """

    def __init__(self, config: Config, client: Client, roles: Sequence[Role]) -> None:
        self._listen = config.admin.listen
        self._buckets = config.buckets
        self._redis = client
        self._roles = roles
        self._tokens = Secrets(tokens(ADMIN_TOKEN))
        self._listener = Listener(
            "admin",
            config.admin.listen,
            [
                (method, path, handler)
                for path, handler in (
                    ("/livez", self._livez),
                    ("/readyz", self._readyz),
                    ("/metrics", self._metrics),
                )
                for method in ("GET", "HEAD")
            ],
            spare=SPARE,
        )
        self.port = config.admin.listen.port
        """Bound TCP port, once started."""
        self._down = Since()

    async def start(self) -> None:
        """Open the listener."""
        await self._listener.open()
        self.port = self._listener.port
        log.info("admin listens", host=self._listen.host, port=self.port)

    async def close(self) -> None:
        """Close the listener."""
        await self._listener.close(SHUTDOWN)

    async def _livez(self, _: web.Request) -> web.Response:
        return answer({"alive": True})

    async def _readyz(self, _: web.Request) -> web.Response:
        troubles = [f"{role.name}: {why}" for role in self._roles for why in role.unready_reasons()]
        try:
            async with asyncio.timeout(REDIS_TIMEOUT):
                await self._redis.look()
        except TimeoutError:
            self._redis.health.failed("look", TimeoutError(f"no answer within {REDIS_TIMEOUT:g} s"))
        troubles += self._redis.health.unready_reasons()
        # With the enqueue role, only that role makes the process unready. It delays its answers until Redis returns. If
        # the pod were removed from its service instead, connections would be refused, and Ceph gives up a topic for
        # good after half a minute of refusals.
        enqueue = [role for role in self._roles if role.name == "enqueue"]
        ready = not any(role.unready_reasons() for role in enqueue) if enqueue else not troubles
        return answer({"ready": ready, "troubles": troubles}, 200 if ready else 503)

    async def _metrics(self, request: web.Request) -> web.Response:
        if not self._tokens.admits(request.headers.get("Authorization")):
            return answer({"error": "a bearer token is required"}, 401, {"WWW-Authenticate": "Bearer"})
        try:
            async with asyncio.timeout(REDIS_TIMEOUT):
                await self._refresh()
        except (*REDIS_AWAY, TimeoutError):
            # Better no value than a stale one.
            for gauge in _GAUGES:
                gauge.clear()
            metrics.REDIS_UP.set(0)
        else:
            metrics.REDIS_UP.set(1)
        self._tell_dependencies()
        text = prometheus_client.generate_latest(metrics.REGISTRY)
        return web.Response(body=text, headers={"Content-Type": prometheus_client.CONTENT_TYPE_LATEST})

    def _tell_dependencies(self) -> None:
        found = {"redis": "; ".join(self._redis.health.unready_reasons())}
        for role in self._roles:
            if isinstance(role, HasDependencies):
                found |= role.dependencies()
        metrics.DEPENDENCY_UP.clear()
        metrics.DEPENDENCY_DOWN_SINCE.clear()
        down = {trouble.text: trouble.since for trouble in self._down(name for name, why in found.items() if why)}
        for name, why in found.items():
            metrics.DEPENDENCY_UP.labels(name).set(0 if why else 1)
            if why:
                metrics.DEPENDENCY_DOWN_SINCE.labels(name).set(down[name])

    async def _refresh(self) -> None:
        alive = [one.is_alive for one in await heartbeats(self._redis)]
        metrics.PROCESSES.labels("alive").set(sum(alive))
        metrics.PROCESSES.labels("silent").set(len(alive) - sum(alive))
        state = await server_state(self._redis)
        if state is not None:
            metrics.REDIS_MEMORY.set(state.memory)
            metrics.REDIS_MAX_MEMORY.set(state.max_memory)
            metrics.REDIS_PERSISTENT.set(state.is_persistent)
        for bucket in self._buckets:
            status = await queue_status(self._redis, bucket)
            values = (
                status.depth, status.oldest, status.working, status.oldest_working, status.workers, status.waiting,
                status.oldest_waiting, status.dead, status.owed,
            )  # fmt: skip
            for gauge, value in zip(_GAUGES, values, strict=True):
                gauge.labels(bucket).set(value or 0.0)
            if (last := await last_canary(self._redis, bucket)) is not None:
                metrics.CANARY_TIME.labels(bucket).set(last)


_GAUGES = (
    metrics.QUEUE_DEPTH,
    metrics.QUEUE_AGE,
    metrics.WORKING_FILES,
    metrics.WORK_AGE,
    metrics.WORKERS,
    metrics.WAITING_FILES,
    metrics.WAITING_AGE,
    metrics.DEAD_LETTERS,
    metrics.OWED_VISITS,
)
"""Of each bucket, as `Admin._refresh` sets them."""
