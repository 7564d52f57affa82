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
from ..queue.status import queue_status
from ..roles import Role
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
        missing = [f"{role.name}: {why}" for role in self._roles for why in role.unready_reasons()]
        try:
            async with asyncio.timeout(REDIS_TIMEOUT):
                await self._redis.look()
        except TimeoutError:
            self._redis.health.failed("look", TimeoutError(f"no answer within {REDIS_TIMEOUT:g} s"))
        missing += self._redis.health.unready_reasons()
        # With the enqueue role, only that role makes the process unready. It delays its answers until Redis returns. If
        # the pod were removed from its service instead, connections would be refused, and Ceph gives up a topic for
        # good after half a minute of refusals.
        enqueue = [role for role in self._roles if role.name == "enqueue"]
        ready = not any(role.unready_reasons() for role in enqueue) if enqueue else not missing
        return answer({"ready": ready, "missing": missing}, 200 if ready else 503)

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
        text = prometheus_client.generate_latest(metrics.REGISTRY)
        return web.Response(body=text, headers={"Content-Type": prometheus_client.CONTENT_TYPE_LATEST})

    async def _refresh(self) -> None:
        for bucket in self._buckets:
            status = await queue_status(self._redis, bucket)
            values = (
                status.depth, status.oldest or 0.0, status.working, status.workers, status.waiting, status.dead,
                status.owed,
            )  # fmt: skip
            for gauge, value in zip(_GAUGES, values, strict=True):
                gauge.labels(bucket).set(value)


_GAUGES = (
    metrics.QUEUE_DEPTH,
    metrics.QUEUE_AGE,
    metrics.WORKING_FILES,
    metrics.WORKERS,
    metrics.WAITING_FILES,
    metrics.DEAD_LETTERS,
    metrics.OWED_VISITS,
)
"""In the order of `QueueStatus`."""
