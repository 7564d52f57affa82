"""``POST /notify``: S3 event records by HTTP.

Nothing that a sender sends makes an answer of 5xx: Ceph repeats at once, without a pause, whatever is not answered 2xx.
Only what can't be put into Redis is a 503, and that answer is held back, so that the repetitions are paced.
"""

from __future__ import annotations

import asyncio
import time

import structlog
from aiohttp import web

from .. import metrics
from ..http.answers import answer
from ..http.bodies import Bodies
from ..pacing import PacedLog
from ..queue.intake import Intake
from .counts import Counts
from .records import MalformedMessageError, RecordParser

RETRY_AFTER = {"Retry-After": "5"}
"""Seconds after which a sender that reads the header should come again."""

log = structlog.get_logger(__name__)


class NotifyHandler:
    """Answers notification requests.

    Parameters
    ----------
    parser
        Reads the bodies.
    intake
        Takes what is in them.
    counts
        Counts what becomes of them.
    bodies
        Reads requests' bodies.
    hold
        Seconds for which an answer is held back while Redis is away.
    """

    def __init__(self, parser: RecordParser, intake: Intake, counts: Counts, bodies: Bodies, hold: float) -> None:
        self._parse = parser.parse
        self._intake = intake
        self._counts = counts
        self._bodies = bodies
        self._hold = hold
        self._refused = PacedLog("notification refused, redis away")

    async def handle(self, request: web.Request) -> web.Response:
        """Answer one request."""
        started = time.perf_counter()
        response = await self._notify(request)
        metrics.NOTIFY_SECONDS.observe(time.perf_counter() - started)
        return response

    async def _notify(self, request: web.Request) -> web.Response:
        body = await self._bodies.read(request)
        try:
            message = self._parse(body)
        except MalformedMessageError as err:
            log.warning("malformed notification", error=str(err), size=len(body), remote=request.remote)
            return answer({"error": str(err)}, 400)
        self._counts.arrived(message, request.remote)
        if message.unauthentic and message.unauthentic == message.records:
            return answer({"error": "no record is authentic"}, 401)
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
