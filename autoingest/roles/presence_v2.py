"""Version 2 of presence: what has arrived of a group, and waiting for more.

``GET /v2/presence/{instrument}?group=G&detector=94&snap=0&wait=15&after=CURSOR``, or the same as a stream of
server-sent events. A client that waits costs a small object and no request to Redis.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog
from aiohttp import web

from .. import __version__
from ..app import metrics
from ..app.secrets import PRESENCE_TOKEN, READ_TOKEN, tokens
from ..errors import AutoingestError, MetadataError
from ..http.answers import answer
from ..http.listener import Route
from ..http.sse import COMMENT, COMMENT_INTERVAL, EventResponse, message
from ..http.tokens import Secrets
from ..model.objects import parse_obs_id
from ..queue.arrivals import BEFORE, FIRST, Arrivals, Arrived, Cursor, Group, Waiter, cursor_of
from ..queue.connection import REDIS_AWAY

LONGEST_WAIT = 15.0
"""Longest time in seconds that a request may wait; Prompt Processing's own limit for a call."""

MAX_GROUP = 256
"""Maximum length of a group's name."""

RETRY_AFTER = 1
"""Seconds after which a client should try again while Redis is away."""

BUTLER_MEMORY = 60.0
"""Seconds for which the Butler's answer about a group is kept."""

_SNAP = re.compile(r"[0-9]{1,9}")
_GROUP_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?")

FromButler = Callable[[str, str], Awaitable[list[Arrived]]]
"""Looks up the images of an instrument's group in the Butler."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Question:
    """A request, validated."""

    instrument: str
    group: str
    detectors: frozenset[str]
    """Raft and sensor; all if empty."""
    snap: int | None
    wait: float
    after: Cursor


class RefusedQuestionError(Exception):
    """The request is not valid."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code = code
        self.status = status


class PresenceV2:
    """Answers the requests.

    Parameters
    ----------
    arrivals
        What has arrived.
    unauthenticated
        Whether no token is needed.
    from_butler
        Looks up groups that are older than the recorded arrivals, if the Butler is to be asked.
    """

    def __init__(self, arrivals: Arrivals, *, unauthenticated: bool, from_butler: FromButler | None = None) -> None:
        self._arrivals = arrivals
        self._unauthenticated = unauthenticated
        self._tokens = Secrets([*tokens(READ_TOKEN), *tokens(PRESENCE_TOKEN)])
        self._from_butler = from_butler
        self._old: dict[tuple[str, str], tuple[float, list[Arrived]]] = {}
        self.routes: Sequence[Route] = (
            ("GET", "/v2/presence/{instrument}", self._presence),
            ("GET", "/v2/version", self._version),
        )

    async def _version(self, _: web.Request) -> web.Response:
        return answer({"version": __version__, "interfaces": {"presence": [1, 2]}})

    async def _presence(self, request: web.Request) -> web.StreamResponse:
        try:
            self._authorize(request)
            question = _question(request)
        except RefusedQuestionError as err:
            metrics.PRESENCE.labels("refused").inc()
            headers = {"WWW-Authenticate": "Bearer"} if err.status == 401 else None
            return answer({"error": {"code": err.code, "message": str(err)}}, err.status, headers)
        try:
            if "text/event-stream" in request.headers.get("Accept", ""):
                return await self._stream(request, question)
            return await self._answer(question)
        except REDIS_AWAY:
            metrics.PRESENCE.labels("unavailable").inc()
            error = {"code": "unavailable", "message": "Redis does not answer", "retry_after": RETRY_AFTER}
            return answer({"error": error}, 503, {"Retry-After": str(RETRY_AFTER)})

    def _authorize(self, request: web.Request) -> None:
        if self._unauthenticated or self._tokens.in_header(request.headers.get("Authorization")):
            return
        raise RefusedQuestionError("unauthorized", "a bearer token is required", 401)

    async def _answer(self, question: Question) -> web.Response:
        """Answer as soon as there is an arrival after the cursor, or when the time is over."""
        deadline = asyncio.get_running_loop().time() + question.wait
        with self._waiter(question) as waiter:
            while True:
                group = await self._read(question)
                found = _matching(group, waiter)
                newest = max((item.cursor for item in found), default=question.after)
                left = deadline - asyncio.get_running_loop().time()
                if newest > question.after or left <= 0 or self._arrivals.closing:
                    break
                waiter.woken.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(left):
                        await waiter.woken.wait()
        metrics.PRESENCE.labels("present" if found else "absent").inc()
        return answer(
            {
                "arrivals": [_shown(question.instrument, item) for item in found],
                "expected_snaps": group.expected_snaps,
                "cursor": _text(max(newest, question.after, FIRST)),
                "known_since": None if group.known_since is None else _time(group.known_since),
            }
        )

    async def _stream(self, request: web.Request, question: Question) -> web.StreamResponse:
        """Send arrivals as they come, until the client or the process leaves."""
        after = question.after
        if (last := request.headers.get("Last-Event-ID")) is not None:
            after = cursor_of(last) or after
        with self._waiter(question) as waiter:
            group = await self._read(question)
            stream = await EventResponse.begin(request)
            while True:
                new = sorted((item for item in _matching(group, waiter) if item.cursor > after), key=_cursor)
                lines = [message("arrival", _shown(question.instrument, item), _text(item.cursor)) for item in new]
                if not await stream.send(b"".join(lines) or COMMENT):
                    break
                if new:
                    after = new[-1].cursor
                if self._arrivals.closing:
                    break
                try:
                    async with asyncio.timeout(COMMENT_INTERVAL):
                        await waiter.woken.wait()
                except TimeoutError:
                    continue
                waiter.woken.clear()
                try:
                    group = await self._read(question)
                except REDIS_AWAY:  # all waiters are woken when Redis is back
                    continue
        return stream.response

    def _waiter(self, question: Question) -> AbstractContextManager[Waiter]:
        return self._arrivals.waiter(question.instrument, question.group, question.detectors, question.snap)

    async def _read(self, question: Question) -> Group:
        group = await self._arrivals.read(question.instrument, question.group)
        if self._from_butler is None or group.arrived or not _is_older(question.group, group.known_since):
            return group
        return Group(await self._old_group(self._from_butler, question), group.expected_snaps, group.known_since)

    async def _old_group(self, from_butler: FromButler, question: Question) -> list[Arrived]:
        key = (question.instrument, question.group)
        now = time.monotonic()
        self._old = {name: value for name, value in self._old.items() if value[0] > now}
        if key not in self._old:
            try:
                found = await from_butler(*key)
            except AutoingestError as err:
                log.warning("group not looked up in the Butler", instrument=key[0], group=key[1], error=str(err))
                return []
            self._old[key] = (now + BUTLER_MEMORY, found)
        return self._old[key][1]


def _question(request: web.Request) -> Question:
    """Validate a request.

    Raises
    ------
    RefusedQuestionError
        If it is not valid; the message names the parameter.
    """
    from ..instruments import camera  # it reads the cameras' files, which version 1 does not need
    from ..model.cameras import CAMERAS

    instrument = request.match_info["instrument"]
    if instrument not in CAMERAS:
        raise RefusedQuestionError("unknown-instrument", f"{instrument!r} is none of {', '.join(CAMERAS)}", 404)
    unknown = sorted(set(request.query) - {"group", "detector", "snap", "wait", "after"})
    if unknown:
        raise RefusedQuestionError("unknown-parameter", f"{unknown[0]!r} is not a parameter")
    group = request.query.get("group", "")
    if not 0 < len(group) <= MAX_GROUP:
        raise RefusedQuestionError("invalid-group", f"group must have 1 to {MAX_GROUP} characters")
    detectors = camera.load(instrument).detectors
    names = {detector.name: detector.name for detector in detectors}
    names |= {str(detector.id): detector.name for detector in detectors}
    asked = request.query.getall("detector", [])
    for name in asked:
        if name not in names:
            raise RefusedQuestionError("unknown-detector", f"{instrument} has no detector {name!r}")
    snap = request.query.get("snap")
    if snap is not None and not _SNAP.fullmatch(snap):
        raise RefusedQuestionError("invalid-snap", f"snap {snap!r} is not a number")
    wait = request.query.get("wait", "0")
    try:
        seconds = float(wait)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= LONGEST_WAIT:
        raise RefusedQuestionError("invalid-wait", f"wait {wait!r} is not a number from 0 to {LONGEST_WAIT:g}")
    cursor = request.query.get("after")
    after = BEFORE if cursor is None else cursor_of(cursor)
    if after is None:
        raise RefusedQuestionError("invalid-cursor", "after is not a cursor that was answered before")
    return Question(
        instrument, group, frozenset(names[name] for name in asked), None if snap is None else int(snap), seconds, after
    )


def _matching(group: Group, waiter: Waiter) -> list[Arrived]:
    """Return the arrivals that a client asked for: by detector and snap, of the same the newest first."""
    found = [item for item in group.arrived if waiter.wants(item.snap, item.raft_sensor)]
    found.sort(key=lambda item: item.obs_id, reverse=True)
    found.sort(key=lambda item: (item.raft_sensor, item.snap))
    return found


def _cursor(item: Arrived) -> Cursor:
    return item.cursor


def _shown(instrument: str, item: Arrived) -> dict[str, object]:
    """Return an arrival as clients get it."""
    from ..instruments import camera, identity

    bucket, _, key = item.url.removeprefix("s3://").partition("/")
    exposure: int | None = None
    if (parts := parse_obs_id(item.obs_id)) is not None:
        header = {"DAYOBS": parts.day_obs, "SEQNUM": parts.seq_num, "CONTRLLR": parts.controller}
        try:
            exposure = identity.exposure_id(header, item.url)
        except MetadataError:
            exposure = None
    return {
        "detector": camera.load(instrument).detector_ids.get(item.raft_sensor),
        "raft_sensor": item.raft_sensor,
        "snap": item.snap,
        "exposure": exposure,
        "obs_id": item.obs_id,
        "uri": item.url,
        "bucket": bucket,
        "key": key,
        "size": item.size,
        "etag": item.etag,
        "arrived": None if item.time is None else _time(item.time),
    }


def _is_older(group: str, since: float | None) -> bool:
    """Return whether a group, whose name begins with its time, may be older than the recorded arrivals."""
    if since is None:
        return True
    match = _GROUP_TIME.match(group)
    return match is None or datetime.fromisoformat(match[0]).replace(tzinfo=UTC).timestamp() < since


def _text(cursor: Cursor) -> str:
    return f"{cursor[0]}-{cursor[1]}"


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
