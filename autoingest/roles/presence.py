"""Role presence: whether the image of a group, snap and detector has arrived.

``GET /presence/{instrument}/{group}/{snap}/{detector}``. Version 1 is frozen: paths, keys and bodies.
"""

from __future__ import annotations

import asyncio
import re
from urllib.parse import unquote

import orjson
import redis.asyncio
import structlog

from .. import metrics
from ..config import PRESENCE_TOKEN, Config, tokens
from ..lean_http import Answer, Request
from ..listener import Bearer, Listener
from ..objects import CAMERA_CODES
from ..queue.connection import REDIS_AWAY
from ..queue.presence import GroupKeys

SHUTDOWN = 2.0
"""Seconds that open connections get to finish at the end."""

_PATH = re.compile(r"/presence/(?P<instrument>[^/]+)/(?P<group>.+)/(?P<snap>[^/]+)/(?P<detector>[^/]+)")
_SNAP = re.compile(r"[0-9]{1,9}")
_DETECTOR = re.compile(r"R[0-9]{2}_S[0-9GW][0-9]")
log = structlog.get_logger(__name__)


class PresenceRole:
    """Answers from the presence keys.

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
        self._keys = GroupKeys(client, settings.expiry, delete_on_sight=settings.delete_on_sight)
        self._bearer = Bearer(tokens(PRESENCE_TOKEN))
        self._listener = Listener(self.name, settings.listen, self._handle)
        self.port = settings.listen.port
        """Bound TCP port, once started."""

    async def start(self) -> None:
        """Open the listener."""
        await self._listener.open()
        self.port = self._listener.port
        log.info("presence listens", host=self._listen.host, port=self.port)

    async def run(self, stop: asyncio.Event) -> None:
        """Answer until `stop` is set, and beyond it until `close`."""
        await stop.wait()

    async def close(self) -> None:
        """Close the listener."""
        await self._listener.close(SHUTDOWN)

    def missing(self) -> list[str]:
        """Tell whether the listener is open."""
        return [] if self._listener.is_open else ["listener is not open"]

    async def idle(self) -> bool:
        """Return True: requests are nothing to wait for."""
        return True

    async def _handle(self, request: Request) -> Answer:
        if not self._bearer.admits(request.authorization):
            return _error(401, "a bearer token is needed")
        # In a group, + and # and ? mean themselves.
        parts = _PATH.fullmatch(request.target)
        if parts is None:
            return _error(404, "not /presence/{instrument}/{group}/{snap}/{detector}")
        if request.method != "GET":
            return _error(405, f"{request.method} is not supported")
        instrument, group, snap, detector = map(unquote, parts.groups())
        if instrument not in CAMERA_CODES:
            return _error(400, f"unknown instrument {instrument!r}")
        if not _SNAP.fullmatch(snap):
            return _error(400, f"snap {snap!r} is no number")
        if not _DETECTOR.fullmatch(detector):
            return _error(400, f"detector {detector!r} is not like R22_S11")
        try:
            url = await self._keys.lookup(instrument, group, int(snap), detector)
        except REDIS_AWAY as err:
            log.warning("redis away", error=repr(err))
            return _error(503, "Redis is away")
        if url is None:
            return _answer("absent", 200, {"error": False, "present": False})
        return _answer("present", 200, {"error": False, "present": True, "uri": url})


def _error(status: int, message: str) -> Answer:
    return _answer("unavailable" if status == 503 else "refused", status, {"error": True, "message": message})


def _answer(kind: str, status: int, body: dict[str, object]) -> Answer:
    metrics.PRESENCE.labels(kind).inc()
    return Answer(status, orjson.dumps(body))
