"""``POST /notify``: S3 event records by HTTP.

Nothing that a sender sends makes an answer of 5xx: Ceph repeats at once, without a pause, whatever is not answered 2xx.
Only what can't be put into Redis is a 503, and that answer is held back, so that the repetitions are paced.
"""

from __future__ import annotations

import asyncio
import time

import orjson
import structlog

from .. import metrics
from ..lean_http import Answer, Request
from ..queue.intake import Intake
from .counts import Counts
from .records import MalformedMessageError, RecordParser

RETRY_AFTER = b"Retry-After: 5\r\n"
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
    hold
        Seconds for which an answer is held back while Redis is away.
    """

    def __init__(self, parser: RecordParser, intake: Intake, counts: Counts, hold: float) -> None:
        self._parse = parser.parse
        self._intake = intake
        self._counts = counts
        self._hold = hold

    async def handle(self, request: Request) -> Answer:
        """Answer one request."""
        if request.target.partition("?")[0] != "/notify":
            return _answer({"error": "not /notify"}, 404)
        if request.method != "POST":
            return _answer({"error": f"{request.method} is not supported"}, 405, b"Allow: POST\r\n")
        started = time.perf_counter()
        answer = await self._notify(request)
        metrics.NOTIFY_SECONDS.observe(time.perf_counter() - started)
        return answer

    async def _notify(self, request: Request) -> Answer:
        try:
            message = self._parse(request.body)
        except MalformedMessageError as err:
            log.warning("malformed notification", error=str(err), size=len(request.body), remote=request.remote)
            return _answer({"error": str(err)}, 400)
        self._counts.arrived(message, request.remote)
        if message.unauthentic and message.unauthentic == message.records:
            return _answer({"error": "no record is authentic"}, 401)
        deadline = asyncio.get_running_loop().time() + self._hold
        try:
            outcomes = await self._intake.accept(message.notices, deadline)
            if message.rejected:
                await self._intake.reject(message.rejected, deadline)
        except TimeoutError:
            log.error("notification refused, redis away", records=message.records, held_s=self._hold)
            return _answer({"error": "Redis is away"}, 503, RETRY_AFTER)
        self._counts.taken(message, outcomes)
        paths: dict[str, list[str]] = {"queued": [], "duplicate": []}
        for (notice, _), outcome in zip(message.notices, outcomes, strict=True):
            paths[outcome].append(notice.path)
        return _answer(
            {
                **paths,
                "ignored": [path for _, path in message.ignored],
                "rejected": [{"key": item.key, "reason": item.reason} for item in message.rejected],
                "unauthentic": message.unauthentic,
            }
        )


def _answer(content: object, status: int = 200, headers: bytes = b"") -> Answer:
    return Answer(status, orjson.dumps(content), headers)
