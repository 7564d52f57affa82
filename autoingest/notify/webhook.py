"""``POST /notify``: S3 event records by HTTP.

Nothing that a sender sends makes an answer of 5xx: Ceph repeats at once, without a pause, whatever is not answered 2xx.
Only what can't be put into Redis is a 503, and that answer is held back, so that the repetitions are paced.
"""

from __future__ import annotations

import asyncio

import orjson
import structlog
from aiohttp import web

from .. import metrics
from ..queue.intake import Intake
from .counts import Counts
from .records import MalformedMessageError, RecordParser

RETRY_AFTER = "5"
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

    async def handle(self, request: web.Request) -> web.Response:
        """Answer one request."""
        with metrics.NOTIFY_SECONDS.time():
            try:
                body = await request.read()
            except (web.RequestPayloadError, ConnectionError):
                answer = _answer({"error": "the body can't be read"}, 400)
                answer.force_close()
                return answer
            return await self._handle(body, request.remote)

    async def _handle(self, body: bytes, remote: str | None) -> web.Response:
        try:
            message = self._parse(body)
        except MalformedMessageError as err:
            log.warning("malformed notification", error=str(err), size=len(body), remote=remote)
            return _answer({"error": str(err)}, 400)
        self._counts.arrived(message, remote)
        if message.unauthentic and message.unauthentic == message.records:
            return _answer({"error": "no record is authentic"}, 401)
        try:
            async with asyncio.timeout(self._hold):
                outcomes = await self._intake.accept(message.notices)
                await self._intake.reject(message.rejected)
        except TimeoutError:
            log.error("notification refused, redis away", records=message.records, held_s=self._hold)
            return _answer({"error": "Redis is away"}, 503, {"Retry-After": RETRY_AFTER})
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


def _answer(content: object, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(body=orjson.dumps(content), status=status, headers=headers, content_type="application/json")
