"""Role status: one page that shows a site live, and the same as JSON.

All viewers share one look at Redis a second, and one at each exposure shown; none is taken while nobody watches.
"""

from __future__ import annotations

import asyncio
import base64
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from functools import cache
from html import escape
from importlib.resources import files
from typing import Any

import orjson
import redis.asyncio
import structlog
from aiohttp import web

from ..app import metrics
from ..app.config import Config
from ..app.retry import pause
from ..app.secrets import READ_TOKEN, tokens
from ..errors import MetadataError
from ..http.answers import answer
from ..http.listener import Listener
from ..http.sse import EventResponse, message
from ..http.tokens import Secrets
from ..instruments import camera as cameras
from ..model.objects import parse_obs_id
from ..operations.detector_states import detector_states
from ..operations.site_status import SiteStatus, look
from ..queue.connection import REDIS_AWAY
from ..queue.dead_letters import Selection, dead_letters
from ..queue.progress import read_exposure

INTERVAL = 1.0
"""Seconds between two looks at Redis while somebody watches."""

EXPOSURES = 30
"""Exposures of each camera that are shown."""

MOST_DEAD = 10_000
"""Dead letters that are read for the list of reasons."""

SHUTDOWN = 2.0
"""Seconds that requests in progress get to finish when the role stops."""

ASSETS = {"app.js": "text/javascript", "style.css": "text/css"}

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Server": "autoingest",
}

log = structlog.get_logger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class StatusRole:
    """Serves the status page.

    Parameters
    ----------
    config
        The whole configuration.
    client
        The process's Redis client.
    """

    name = "status"

    def __init__(self, config: Config, client: redis.asyncio.Redis) -> None:
        settings = config.status
        self._config = config
        self._redis = client
        self._tokens = Secrets(tokens(READ_TOKEN))
        self._unauthenticated = settings.unauthenticated
        self._viewers = 0
        self._readings: dict[str, tuple[float, asyncio.Future[bytes | None]]] = {}
        """When a look at an exposure began, and the look; the latest asked for is last."""
        self._wanted = asyncio.Event()
        self._changed = asyncio.Event()
        self._shown = b""
        self._closing = False
        routes = [
            ("GET", prefix + path, self._checked(handler))
            for prefix in dict.fromkeys(("", settings.path_prefix))
            for path, handler in (
                ("/", self._page), ("/assets/{name}", self._asset), ("/api/status", self._status),
                ("/api/feed", self._feed), ("/api/exposures/{obs_id}", self._exposure),
                ("/api/cameras/{instrument}", self._camera),
            )
        ]  # fmt: skip
        if settings.path_prefix:
            routes.append(("GET", settings.path_prefix, self._checked(self._to_page)))
        self._listener = Listener(self.name, settings.listen, routes)
        self.port = settings.listen.port
        """Bound TCP port, once started."""

    async def start(self) -> None:
        """Open the listener."""
        metrics.ROLE_ERRORS.labels(self.name)
        await self._listener.open()
        self.port = self._listener.port
        log.info("status listens", host=self._config.status.listen.host, port=self.port)

    async def run(self, stop: asyncio.Event) -> None:
        """Look at the site while somebody watches, until `stop` is set."""
        stopped = asyncio.ensure_future(stop.wait())
        stopped.add_done_callback(lambda _: self._wanted.set())
        while not stop.is_set():
            await self._wanted.wait()
            try:
                content = await self._content()
            except REDIS_AWAY:
                content = _redis_away()
            except Exception:
                # No error here may end the other roles of the process.
                metrics.ROLE_ERRORS.labels(self.name).inc()
                log.exception("status not read", retry_s=INTERVAL)
                content = None
            if content is not None:
                self._tell(message("status", content))
            await pause(stop, INTERVAL)
        stopped.cancel()

    async def close(self) -> None:
        """End the feeds, and close the listener."""
        self._closing = True
        self._tell(self._shown)
        await self._listener.close(SHUTDOWN)

    def doing(self) -> str:
        """Return where it listens."""
        return f"listens on port {self.port}"

    def unready_reasons(self) -> list[str]:
        """Tell whether the listener is open."""
        return [] if self._listener.is_open else ["listener is not open"]

    async def is_drained(self) -> bool:
        """Return True: the role has no pending work."""
        return True

    def _tell(self, shown: bytes) -> None:
        self._shown = shown
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def _content(self) -> dict[str, Any]:
        status = await look(self._config, self._redis, EXPOSURES)
        reasons: Counter[tuple[str, str]] = Counter()
        if any(queue.dead for queue in status.queues.values()):
            async for letter in dead_letters(self._redis, self._config.buckets, Selection()):
                reasons[letter.bucket, letter.reason] += 1
                if reasons.total() >= MOST_DEAD:
                    break
        dead = [
            {"bucket": bucket, "reason": reason, "number": number} for (bucket, reason), number in reasons.most_common()
        ]
        return {**status.document(), "exposures": list(status.exposures), "dead": dead}

    def _checked(self, handler: Handler) -> Handler:
        """Return a handler that demands a token, as bearer or as a password, and answers outages of Redis."""

        async def checked(request: web.Request) -> web.StreamResponse:
            if not self._unauthenticated and not self._is_admitted(request.headers.get("Authorization")):
                return answer({"error": "a token is required"}, 401, HEADERS | {"WWW-Authenticate": _CHALLENGE})
            try:
                return await handler(request)
            except REDIS_AWAY:
                return answer({"error": "Redis does not answer"}, 503, HEADERS)

        return checked

    def _is_admitted(self, authorization: str | None) -> bool:
        if self._tokens.in_header(authorization):
            return True
        scheme, _, credentials = (authorization or "").partition(" ")
        try:
            _, _, password = base64.b64decode(credentials, validate=True).decode().partition(":")
        except ValueError:
            return False
        return scheme.lower() == "basic" and self._tokens.matches(password)

    async def _to_page(self, request: web.Request) -> web.Response:
        return web.Response(status=308, headers=HEADERS | {"Location": f"{request.path}/"})

    async def _page(self, _: web.Request) -> web.Response:
        try:
            facts = _table(await self._content())
        except REDIS_AWAY:
            facts = _table(_redis_away())
        page = _read("index.html").decode().replace("<!--facts-->", facts)
        return web.Response(text=page, content_type="text/html", headers=HEADERS)

    async def _asset(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name not in ASSETS:
            return answer({"error": "there is no such file"}, 404, HEADERS)
        return web.Response(body=_read(name), content_type=ASSETS[name], charset="utf-8", headers=HEADERS)

    async def _status(self, _: web.Request) -> web.Response:
        return answer(await self._content(), headers=HEADERS)

    async def _exposure(self, request: web.Request) -> web.Response:
        obs_id = request.match_info["obs_id"]
        if parse_obs_id(obs_id) is None:
            return answer({"error": f"{obs_id!r} is not an obs_id such as MC_O_20251231_000010"}, 400, HEADERS)
        body = await asyncio.shield(self._reading_of(obs_id))
        if body is None:
            return answer({"error": f"nothing is known of exposure {obs_id}, or no longer"}, 404, HEADERS)
        return web.Response(body=body, content_type="application/json", headers=HEADERS)

    def _reading_of(self, obs_id: str) -> asyncio.Future[bytes | None]:
        """Return a look at an exposure that began in the last `INTERVAL`, which all viewers share."""
        now = time.monotonic()
        began, reading = self._readings.pop(obs_id, (float("-inf"), None))
        if reading is None or now - began > INTERVAL:
            began, reading = now, asyncio.ensure_future(self._read_exposure(obs_id))
            reading.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._readings[obs_id] = began, reading
        if len(self._readings) > EXPOSURES:
            del self._readings[next(iter(self._readings))]
        return reading

    async def _read_exposure(self, obs_id: str) -> bytes | None:
        for bucket in self._config.buckets:
            if found := await read_exposure(self._redis, bucket, obs_id):
                states = await detector_states(self._redis, bucket, found)
                return orjson.dumps({**found, "detectors": [asdict(state) for state in states]})
        return None

    async def _camera(self, request: web.Request) -> web.Response:
        try:
            return answer({"detectors": _geometry(request.match_info["instrument"])}, headers=HEADERS)
        except MetadataError as err:
            return answer({"error": str(err)}, 404, HEADERS)

    async def _feed(self, request: web.Request) -> web.StreamResponse:
        response = await EventResponse.begin(request)
        self._viewers += 1
        self._wanted.set()
        try:
            while not self._closing:
                await self._changed.wait()
                if self._closing or not await response.send(self._shown):
                    break
        finally:
            self._viewers -= 1
            if not self._viewers:
                self._wanted.clear()
        return response.response


_CHALLENGE = 'Basic realm="autoingest: any user name, the token as password", charset="UTF-8"'


@cache
def _read(name: str) -> bytes:
    return (files("autoingest") / "data" / "status" / name).read_bytes()


@cache
def _geometry(instrument: str) -> list[dict[str, Any]]:
    """Return where a camera's detectors are: centre, width and height in millimetres, y upwards, angle in degrees."""
    found = []
    for one in cameras.load(instrument).detectors:
        x0, y0, x1, y1 = one.bbox
        size = [(x1 - x0 + 1) * one.pixel_size[0], (y1 - y0 + 1) * one.pixel_size[1]]
        found.append({
            "name": one.name, "raft": one.raft, "purpose": one.purpose, "x": one.offset[0], "y": one.offset[1],
            "width": size[0], "height": size[1], "yaw": one.yaw,
        })  # fmt: skip
    return found


def _redis_away() -> dict[str, Any]:
    """Return what is shown while Redis does not answer."""
    text = "Redis does not answer. Notifications wait in the store until it is back; nothing is lost."
    lamp = {"name": "redis", "is_up": False, "cause": "does not answer", "since": None}
    empty = SiteStatus([], {}, {}).document()
    return empty | {
        "summary": {"level": "error", "text": text}, "dependencies": [lamp], "exposures": [], "dead": [],
        "time": time.time(),
    }  # fmt: skip


def _table(content: dict[str, Any]) -> str:
    """Return the facts as HTML, for browsers without scripts and for print."""
    rows: list[Sequence[object]] = [("Status", content["summary"]["text"])]
    rows += [(one["name"], "up" if one["is_up"] else f"down: {one['cause']}") for one in content["dependencies"]]
    rows += [
        (
            bucket,
            f"{queue['depth']} queued, {queue['working']} in work, {queue['waiting']} waiting, {queue['dead']} dead",
        )
        for bucket, queue in content["queues"].items()
    ]
    rows += [(one["obs_id"], one["state"]) for one in reversed(content["exposures"])]
    return "".join(f"<tr><th>{escape(str(name))}</th><td>{escape(str(text))}</td></tr>" for name, text in rows)
