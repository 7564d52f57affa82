"""Role events: tells what has happened to exposures and files, and watches exposures until they are complete.

``GET /events`` is a stream of server-sent events; ``GET /exposures`` and ``GET /exposures/{obs_id}`` tell the state of
exposures as it is now, for those who come late.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import redis.asyncio
import structlog
from aiohttp import web

from ..app import metrics
from ..app.config import Config
from ..app.secrets import READ_TOKEN, tokens
from ..http.answers import answer
from ..http.listener import Listener
from ..http.sse import COMMENT, COMMENT_INTERVAL, EventResponse, message
from ..http.tokens import Secrets
from ..model.cameras import CAMERAS
from ..model.events import EXPOSURE_TYPES, FILE_TYPES, TYPE_PREFIX, Event, rfc3339
from ..model.objects import parse_obs_id
from ..queue import keys
from ..queue.connection import REDIS_AWAY
from ..queue.event_stream import BEGINNING, EventStream, is_position
from ..queue.progress import obs_ids_of_day, read_exposure
from .event_publishers import Publishers
from .exposure_watch import ExposureWatch

HEARTBEAT = 60.0
"""Seconds between two events ``heartbeat`` in a stream: silence then means that nothing has happened."""

RETRY_AFTER = 1
"""Seconds after which a client should try again while Redis is away."""

READ_AT_ONCE = 50
"""Exposures of a day that are read concurrently from Redis."""

SHUTDOWN = 2.0
"""Seconds that requests in progress get to finish when the role stops."""

log = structlog.get_logger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class RefusedRequestError(Exception):
    """The request is not valid."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What the client of a stream asks for; everything if a set is empty."""

    instruments: frozenset[str]
    types: frozenset[str]
    positions: list[str] | None
    """Positions in the streams, after which it goes on; None: from now on."""

    def __contains__(self, event: Event) -> bool:
        return (not self.instruments or event.instrument in self.instruments) and event.type in self.types


class EventsRole:
    """Serves events and exposures, and watches exposures.

    Parameters
    ----------
    config
        The whole configuration.
    client
        The process's Redis client.
    """

    name = "events"

    def __init__(self, config: Config, client: redis.asyncio.Redis) -> None:
        settings = config.events
        self._redis = client
        self._buckets = config.buckets
        self._source = settings.source
        self._listen = settings.listen
        self._tokens = Secrets(tokens(READ_TOKEN))
        self._unauthenticated = settings.unauthenticated
        self._exposure_events = EventStream(client, keys.EVENTS)
        self._file_events = EventStream(client, keys.FILE_EVENTS)
        self._watch = ExposureWatch(config, client)
        self._publishers = Publishers(settings, client, (self._exposure_events, self._file_events))
        self._closing = False
        routes = [
            ("GET", prefix + path, self._checked(handler))
            for prefix in dict.fromkeys(("", settings.path_prefix))
            for path, handler in (
                ("/events", self._events), ("/exposures", self._exposures), ("/exposures/{obs_id}", self._exposure),
            )
        ]  # fmt: skip
        self._listener = Listener(self.name, settings.listen, routes)
        self.port = settings.listen.port
        """Bound TCP port, once started."""

    async def start(self) -> None:
        """Open the listener."""
        await self._listener.open()
        self.port = self._listener.port
        log.info("events listens", host=self._listen.host, port=self.port)

    async def run(self, stop: asyncio.Event) -> None:
        """Follow and publish events, and watch exposures, until `stop` is set; requests are answered until `close`."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._exposure_events.run(stop))
            tasks.create_task(self._file_events.run(stop))
            tasks.create_task(self._watch.run(stop))
            tasks.create_task(self._publishers.run(stop))

    async def close(self) -> None:
        """End the streams, and close the listener."""
        self._closing = True
        for stream in (self._exposure_events, self._file_events):
            stream.wake()
        await self._listener.close(SHUTDOWN)

    def doing(self) -> str:
        """Return where it listens, and to whom events can't be delivered now."""
        troubles = [f"{reader}: {why}" for reader, why in self._publishers.troubles().items() if why]
        return ", ".join([f"listens on port {self.port}", *troubles])

    def dependencies(self) -> dict[str, str]:
        """Return why the readers of events can't be reached."""
        return {f"reader {name}": why for name, why in self._publishers.troubles().items()}

    def unready_reasons(self) -> list[str]:
        """Tell whether the listener is open; a target that takes no events must not take it from others."""
        return [] if self._listener.is_open else ["listener is not open"]

    async def is_drained(self) -> bool:
        """Return True: the role has no pending work."""
        return True

    def _checked(self, handler: Handler) -> Handler:
        """Return a handler that demands a token, and answers invalid requests and outages of Redis."""

        async def checked(request: web.Request) -> web.StreamResponse:
            if not self._unauthenticated and not self._tokens.in_header(request.headers.get("Authorization")):
                return answer({"error": "a bearer token is required"}, 401, {"WWW-Authenticate": "Bearer"})
            try:
                return await handler(request)
            except RefusedRequestError as err:
                return answer({"error": str(err)}, err.status)
            except REDIS_AWAY:
                return answer({"error": "Redis does not answer"}, 503, {"Retry-After": str(RETRY_AFTER)})

        return checked

    async def _exposure(self, request: web.Request) -> web.Response:
        obs_id = request.match_info["obs_id"]
        if parse_obs_id(obs_id) is None:
            raise RefusedRequestError(f"{obs_id!r} is not an obs_id such as MC_O_20251231_000010")
        for bucket in self._buckets:
            if found := await read_exposure(self._redis, bucket, obs_id):
                return answer(found)
        raise RefusedRequestError(f"nothing is known of exposure {obs_id}, or no longer", 404)

    async def _exposures(self, request: web.Request) -> web.Response:
        _check_names(request, {"day_obs", "instrument"})
        day = request.query.get("day_obs", "").replace("-", "")
        if not re.fullmatch(r"[0-9]{8}", day):
            raise RefusedRequestError("day_obs must be an observing day such as 20251231")
        instruments = _instruments(request)
        position = await self._exposure_events.newest()
        found = []
        for bucket in self._buckets:
            names = await obs_ids_of_day(self._redis, bucket, day)
            for first in range(0, len(names), READ_AT_ONCE):
                part = names[first : first + READ_AT_ONCE]
                found += await asyncio.gather(*(read_exposure(self._redis, bucket, name) for name in part))
        exposures = [
            item for item in found if item is not None and (not instruments or item["instrument"] in instruments)
        ]
        return answer({"exposures": exposures, "position": position})

    async def _events(self, request: web.Request) -> web.StreamResponse:
        wanted = _wanted(request)
        streams = [self._exposure_events]
        if wanted.types & set(FILE_TYPES):
            streams.append(self._file_events)
        positions = wanted.positions or [await stream.newest() for stream in streams]
        positions = positions[: len(streams)] + [await stream.newest() for stream in streams[len(positions) :]]
        gaps = await self._gaps(streams, positions)
        response = await EventResponse.begin(request)
        metrics.EVENT_CLIENTS.inc()
        try:
            await self._send(response, wanted, streams, positions, gaps)
        finally:
            metrics.EVENT_CLIENTS.dec()
        return response.response

    async def _gaps(self, streams: Sequence[EventStream], positions: list[str]) -> bytes:
        """Return events that say what is lost; the positions are moved to where reading goes on."""
        lines = []
        for number, stream in enumerate(streams):
            if (position := await stream.gap(positions[number])) is not None:
                metrics.EVENT_GAPS.labels("sse").inc()
                lost = Event.gap(positions[number], time.time())
                positions[number] = position
                lines.append(message(lost.type, lost.cloud_event(self._source), "/".join(positions)))
        return b"".join(lines)

    async def _send(
        self,
        response: EventResponse,
        wanted: _Wanted,
        streams: Sequence[EventStream],
        positions: list[str],
        first: bytes,
    ) -> None:
        """Send events as they come, until the client or the process leaves."""
        if not await response.send(first or COMMENT):
            return
        beat = spoken = time.monotonic()
        while not self._closing:
            lines = []
            try:
                for number, stream in enumerate(streams):
                    for event in await stream.after(positions[number]):
                        positions[number] = event.position
                        if event in wanted:
                            lines.append(message(event.type, event.cloud_event(self._source), "/".join(positions)))
            except REDIS_AWAY:
                await asyncio.sleep(RETRY_AFTER)
            now = time.monotonic()
            if now - beat >= HEARTBEAT:
                beat = now
                lines.append(message("heartbeat", {"time": rfc3339(time.time())}, "/".join(positions)))
            if lines or now - spoken >= COMMENT_INTERVAL:
                spoken = now
                if not await response.send(b"".join(lines) or COMMENT):
                    return
            await self._wait(streams, positions, spoken + COMMENT_INTERVAL - now)

    async def _wait(self, streams: Sequence[EventStream], positions: Sequence[str], timeout: float) -> None:  # noqa: ASYNC109
        """Wait until one of the streams has something new."""
        waits = [
            asyncio.ensure_future(stream.wait(position, timeout))
            for stream, position in zip(streams, positions, strict=True)
        ]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()


def _check_names(request: web.Request, known: set[str]) -> None:
    if unknown := sorted(set(request.query) - known):
        raise RefusedRequestError(f"{unknown[0]!r} is not a parameter; there are {', '.join(sorted(known))}")


def _instruments(request: web.Request) -> frozenset[str]:
    names = frozenset(request.query.getall("instrument", []))
    if unknown := sorted(names - set(CAMERAS)):
        raise RefusedRequestError(f"instrument {unknown[0]!r} is none of {', '.join(CAMERAS)}")
    return names


def _wanted(request: web.Request) -> _Wanted:
    """Validate a request for a stream.

    Raises
    ------
    RefusedRequestError
        If it is not valid; the message names the parameter.
    """
    _check_names(request, {"instrument", "type", "after"})
    types = frozenset(name.removeprefix(TYPE_PREFIX) for name in request.query.getall("type", [])) or frozenset(
        EXPOSURE_TYPES
    )
    if unknown := sorted(types - set(EXPOSURE_TYPES) - set(FILE_TYPES)):
        raise RefusedRequestError(f"type {unknown[0]!r} is none of {', '.join((*EXPOSURE_TYPES, *FILE_TYPES))}")
    text = request.headers.get("Last-Event-ID", request.query.get("after"))
    if text is None:
        return _Wanted(_instruments(request), types, None)
    positions = [BEGINNING if part == "0" else part for part in text.split("/")]
    if len(positions) > 2 or not all(map(is_position, positions)):
        raise RefusedRequestError("Last-Event-ID (or after) is not the id of an event of this stream")
    return _Wanted(_instruments(request), types, positions)
