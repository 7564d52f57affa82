"""``POST /notify``: S3 event records by HTTP.

No content is ever answered with 5xx, because Ceph immediately repeats whatever is not answered with 2xx. Only a
notification that can't be written to Redis gets a 503, and that answer is delayed to slow down the repetitions.
"""

from __future__ import annotations

import asyncio
import time

import structlog
from aiohttp import hdrs, web

from ..app import metrics
from ..app.pacing import PacedLog
from ..http.answers import answer
from ..http.bodies import Bodies, NoRoomError, Room
from ..http.refusals import Refusals
from ..http.tokens import Secrets
from ..queue.intake import Intake
from .counts import Counts
from .records import MalformedMessageError, ParsedMessage, RecordParser, TooLongError

RETRY_AFTER = {"Retry-After": "5"}
"""Value of the Retry-After header in seconds."""

log = structlog.get_logger(__name__)


class NotifyHandler:
    """Answers notification requests.

    Parameters
    ----------
    parser
        Reads the bodies.
    intake
        Queues what they announce.
    counts
        Counts what becomes of them.
    bodies
        Memory budget for the bodies.
    secrets
        Secrets that a request may carry as its bearer token; then its records need none.
    hold
        Seconds to delay an answer while Redis is away, and to delay a refusal.
    """

    def __init__(
        self, parser: RecordParser, intake: Intake, counts: Counts, bodies: Bodies, secrets: Secrets, hold: float
    ) -> None:
        self._parse = parser.parse
        self._intake = intake
        self._counts = counts
        self._bodies = bodies
        self._secrets = secrets
        self._refusals = Refusals(hold)
        self._malformed = PacedLog("malformed notifications")
        self._no_room = PacedLog("notifications refused, memory for bodies is used up")
        self._hold = hold
        self._refused = PacedLog("notification refused, redis away")

    async def handle(self, request: web.Request) -> web.Response:
        """Answer one request."""
        started = time.perf_counter()
        with self._bodies.room() as room:
            response = await self._notify(request, room)
        metrics.NOTIFY_SECONDS.observe(time.perf_counter() - started)
        return response

    async def _notify(self, request: web.Request, room: Room) -> web.Response:
        trusted = self._secrets.admits(request.headers.get(hdrs.AUTHORIZATION))
        refusal = None
        try:
            message = await self._parse(await room.read(request), trusted=trusted)
        except NoRoomError:
            self._no_room.warn("", limit=self._bodies.together)
            refusal = answer({"error": "too many long bodies"}, 503, RETRY_AFTER)
        except MalformedMessageError as err:
            self._malformed.warn(request.remote, error=str(err), remote=request.remote)
            refusal = answer({"error": str(err)}, 413 if isinstance(err, TooLongError) else 400)
            if trusted:
                return refusal
        if refusal:  # the error, which knows the body, is gone
            room.give_back()
            return await self._refusals.refuse(request, refusal)
        self._counts.arrived(message, request.remote)
        if message.unauthentic and message.unauthentic == message.records:
            room.give_back()
            return await self._refusals.refuse(request, answer({"error": "no record is authentic"}, 401))
        return await self._accept(message)

    async def _accept(self, message: ParsedMessage) -> web.Response:
        deadline = asyncio.get_running_loop().time() + self._hold
        try:
            outcomes = await self._intake.accept(message.notices, deadline)
            if message.rejected:
                await self._intake.reject(message.rejected, deadline)
        except TimeoutError:
            self._refused.warn("", records=message.records, held_s=self._hold)
            return answer({"error": "Redis is away"}, 503, RETRY_AFTER)
        self._counts.taken(message, outcomes)
        paths: dict[str, list[str]] = {"queued": [], "duplicate": []}
        for (notice, _), outcome in zip(message.notices, outcomes, strict=True):
            paths[outcome].append(notice.path)
        return answer(
            {
                **paths,
                "ignored": [path for _, path in message.ignored],
                "rejected": [{"key": item.key, "reason": item.reason} for item in message.rejected],
                "unauthentic": message.unauthentic,
            }
        )
