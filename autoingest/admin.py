"""Health and metrics of the process: ``/livez``, ``/readyz``, ``/metrics``."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence

import prometheus_client
import redis.asyncio
import structlog

from . import metrics
from .config import ADMIN_TOKEN, Config, tokens
from .lean_http import Answer, Request
from .listener import Bearer, Listener
from .queue.connection import REDIS_AWAY
from .queue.status import queue_status
from .roles import Role

REDIS_TIMEOUT = 1.0
"""Seconds that Redis may take before it counts as away here; probes wait for 1 s by default."""

SHUTDOWN = 2.0
"""Seconds that open connections get to finish at the end."""

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
        What runs in this process.
    """

    def __init__(self, config: Config, client: redis.asyncio.Redis, roles: Sequence[Role]) -> None:
        self._listen = config.admin.listen
        self._buckets = config.buckets
        self._redis = client
        self._roles = roles
        self._bearer = Bearer(tokens(ADMIN_TOKEN))
        self._listener = Listener("admin", config.admin.listen, self._handle)
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

    async def _handle(self, request: Request) -> Answer:
        if request.method not in ("GET", "HEAD"):
            return _answer({"error": f"{request.method} is not supported"}, 405, b"Allow: GET, HEAD\r\n")
        match request.target.partition("?")[0]:
            case "/livez":
                return _answer({"alive": True})
            case "/readyz":
                return await self._readyz()
            case "/metrics":
                return await self._metrics(request)
        return _answer({"error": "none of /livez, /readyz, /metrics"}, 404)

    async def _readyz(self) -> Answer:
        missing = [f"{role.name}: {why}" for role in self._roles for why in role.missing()]
        try:
            async with asyncio.timeout(REDIS_TIMEOUT):
                await self._redis.ping()
        except (*REDIS_AWAY, TimeoutError):
            missing.append("Redis does not answer")
        # Where enqueue runs, nothing else makes the process unready: it holds its answers back until Redis returns.
        # Taken out of its service it would refuse connections instead, and Ceph stops delivering for good where it is
        # refused for half a minute.
        enqueue = [role for role in self._roles if role.name == "enqueue"]
        ready = not any(role.missing() for role in enqueue) if enqueue else not missing
        return _answer({"ready": ready, "missing": missing}, 200 if ready else 503)

    async def _metrics(self, request: Request) -> Answer:
        # Probes can't carry a token; what they are told is nobody's secret.
        if not self._bearer.admits(request.authorization):
            return _answer({"error": "a bearer token is needed"}, 401, b"WWW-Authenticate: Bearer\r\n")
        try:
            async with asyncio.timeout(REDIS_TIMEOUT):
                await self._refresh()
        except (*REDIS_AWAY, TimeoutError):
            # No number is better than an old one.
            for gauge in _GAUGES:
                gauge.clear()
            metrics.REDIS_UP.set(0)
        else:
            metrics.REDIS_UP.set(1)
        text = prometheus_client.generate_latest(metrics.REGISTRY)
        return Answer(200, text, content_type=prometheus_client.CONTENT_TYPE_LATEST.encode())

    async def _refresh(self) -> None:
        for bucket in self._buckets:
            status = await queue_status(self._redis, bucket)
            values = (
                status.depth, status.oldest or 0.0, status.working, status.workers, status.waiting, status.dead,
                status.owed,
            )  # fmt: skip
            for gauge, value in zip(_GAUGES, values, strict=True):
                gauge.labels(bucket).set(value)


def _answer(content: object, status: int = 200, headers: bytes = b"") -> Answer:
    return Answer(status, json.dumps(content).encode(), headers)


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
