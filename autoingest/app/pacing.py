"""Rate-limited warnings, for events that a client can cause as often as it likes."""

from __future__ import annotations

import time
from collections.abc import Hashable

import structlog

PAUSE = 60.0
"""Minimum interval in seconds between two lines of a kind."""

MAX_KINDS = 1000
"""Maximum number of kinds; all further kinds count as one."""

log = structlog.get_logger(__name__)


class PacedLog:
    """Logs warnings, at most one of each kind per interval, with the number of those left out.

    Parameters
    ----------
    event
        The message.
    pause
        Minimum interval in seconds between two lines of a kind.
    """

    def __init__(self, event: str, pause: float = PAUSE) -> None:
        self._event = event
        self._pause = pause
        self._kinds: dict[Hashable, tuple[float, int]] = {}

    def warn(self, kind: Hashable, **fields: object) -> None:
        """Log a warning of a kind, such as a sender; within the interval only count it for the next line."""
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
