"""Role presence: whether the image of a group, snap and detector has arrived.

``GET /presence/{instrument}/{group}/{snap}/{detector}``. Version 1 is frozen: paths, keys and bodies. Version 2 is in
`autoingest.roles.presence_v2`.
"""

from __future__ import annotations

import asyncio
import re
from urllib.parse import unquote_to_bytes

import redis.asyncio
import structlog
from aiohttp import web

from ..app import metrics
from ..app.config import Config
from ..app.secrets import PRESENCE_TOKEN, tokens
from ..http.answers import answer
from ..http.listener import Listener
from ..http.tokens import Secrets
from ..model.objects import CAMERA_CODES, RAFT_SENSOR
from ..operations.groups import GroupReader
from ..queue.arrivals import Arrivals
from ..queue.connection import REDIS_AWAY, health
from ..queue.presence import GroupKeys
from .presence_v2 import PresenceV2

LASTS = 5.0
"""Seconds for which the role is unready after a failed lookup; while unready it gets no lookups that could succeed."""

SHUTDOWN = 2.0
"""Seconds that requests in progress get to finish when the role stops."""

ROUTE = "/{before:/*}presence/{question:(?s:.*)}"
"""Slashes may be doubled: a client does so if its base URL ends with one."""

_SNAP = re.compile(r"[0-9]{1,9}")
_PRESENT, _ABSENT = metrics.PRESENCE.labels("present"), metrics.PRESENCE.labels("absent")

log = structlog.get_logger(__name__)


class PresenceRole:
    """Answers lookups from the presence keys in Redis.

    Parameters
    ----------
    config
        The whole configuration.
    client
        The process's Redis client.
    """

    name = "presence"

    def __init__(self, config: Config, client: redis.asyncio.Redis) -> None:
        settings = config.presence
        self._listen = settings.listen
        self._health = health(client)
        self._keys = GroupKeys(client, settings.expiry, delete_on_sight=settings.delete_on_sight)
        self._tokens = Secrets(tokens(PRESENCE_TOKEN))
        self._arrivals = Arrivals(client)
        self._group_reader = GroupReader(config) if settings.butler else None
        second = PresenceV2(
            self._arrivals,
            unauthenticated=settings.unauthenticated,
            from_butler=self._group_reader.images if self._group_reader else None,
        )
        routes = [("GET", ROUTE, self._lookup), *second.routes]
        self._listener = Listener(self.name, settings.listen, routes, error_form)
        self.port = settings.listen.port
        """Bound TCP port, once started."""

    async def start(self) -> None:
        """Open the listener."""
        await self._listener.open()
        self.port = self._listener.port
        log.info("presence listens", host=self._listen.host, port=self.port)

    async def run(self, stop: asyncio.Event) -> None:
        """Follow the stream of arrivals until `stop` is set; lookups are answered until `close`."""
        await self._arrivals.run(stop)

    async def close(self) -> None:
        """Answer those who wait, and close the listener."""
        self._arrivals.close()
        await self._listener.close(SHUTDOWN)
        if self._group_reader is not None:
            await self._group_reader.close()

    def doing(self) -> str:
        """Return where it listens."""
        return f"listens on port {self.port}"

    def unready_reasons(self) -> list[str]:
        """Tell whether the listener is open."""
        return [] if self._listener.is_open else ["listener is not open"]

    async def is_drained(self) -> bool:
        """Return True: the role has no pending work."""
        return True

    async def _lookup(self, request: web.Request) -> web.Response:
        if not self._tokens.admits(request.headers.get("Authorization")):
            return _error(401, "a bearer token is required", {"WWW-Authenticate": "Bearer"})
        _, *parts = [_unquote(part) for part in request.rel_url.raw_path.split("/") if part]
        if len(parts) < 4:
            return _error(404, "not /presence/{instrument}/{group}/{snap}/{detector}")
        instrument, *groups, snap, detector = parts
        if instrument not in CAMERA_CODES:
            return _error(400, f"unknown instrument {instrument!r}")
        if not _SNAP.fullmatch(snap):
            return _error(400, f"snap {snap!r} is not a number")
        found = RAFT_SENSOR.fullmatch(detector)
        if not found:
            return _error(400, f"detector {detector!r} is not like R22_S11")
        if found["sensor"][1] == "G":  # guiders are not part of a group
            return _absent()
        try:
            url = await self._keys.lookup(instrument, "/".join(groups), int(snap), detector)
        except REDIS_AWAY as err:
            self._health.failed(self.name, err, LASTS)
            return _error(503, "Redis is away")
        self._health.worked(self.name)
        if url is None:
            return _absent()
        _PRESENT.inc()
        return answer({"error": False, "present": True, "uri": url})


def error_form(status: int, message: str) -> dict[str, object]:
    """Return the content of an error's answer in the form of the interface, and count it."""
    metrics.PRESENCE.labels("unavailable" if status >= 500 else "refused").inc()
    return {"error": True, "message": message}


def _error(status: int, message: str, headers: dict[str, str] | None = None) -> web.Response:
    return answer(error_form(status, message), status, headers)


def _absent() -> web.Response:
    _ABSENT.inc()
    return answer({"error": False, "present": False})


def _unquote(part: str) -> str:
    if "%" not in part and part.isascii():
        return part
    return unquote_to_bytes(part.encode(errors="surrogateescape")).decode(errors="replace")
