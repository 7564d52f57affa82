"""Log lines that a client can cause as often as it likes: one of a kind in a while, with the number of the others."""

from __future__ import annotations

import time
from collections.abc import Hashable

import structlog

PAUSE = 60.0
"""Seconds from one line of a kind to the next."""

MAX_KINDS = 1000
"""Kinds that are told apart; all others count as one."""

log = structlog.get_logger(__name__)


class PacedLog:
    """Writes warnings, at most one a minute of each kind.

    Parameters
    ----------
    event
        The message.
    pause
        Seconds from one line of a kind to the next.
    """

    def __init__(self, event: str, pause: float = PAUSE) -> None:
        self._event = event
        self._pause = pause
        self._kinds: dict[Hashable, tuple[float, int]] = {}

    def warn(self, kind: Hashable, **fields: object) -> None:
        """Log unless that has just been done for this kind, say a sender; then count it for the next line."""
        now = time.monotonic()
        if kind not in self._kinds and len(self._kinds) >= MAX_KINDS:
            self._kinds = {name: entry for name, entry in self._kinds.items() if now - entry[0] < self._pause}
            if len(self._kinds) >= MAX_KINDS:
                kind = "others"
        last, unsaid = self._kinds.get(kind, (-self._pause, 0))
        if now - last < self._pause:
            self._kinds[kind] = (last, unsaid + 1)
            return
        self._kinds[kind] = (now, 0)
        if unsaid:
            fields["not_logged_since"] = unsaid
        log.warning(self._event, **fields)
