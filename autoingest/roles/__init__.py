"""What each role does with the rooms; nothing but the daemon imports a role."""

from __future__ import annotations

import asyncio
from typing import Protocol


class Role(Protocol):
    """A part of the program that can run alone or beside the others in one event loop.

    The daemon calls ``start``, ``run`` and ``close`` once each, in this order. A role that has a listener opens it in
    ``start`` and closes it in ``close``, so that of all roles the listeners are the first to come and the last to go.
    """

    name: str
    """``enqueue``, ``ingest``, ``idle``, ``presence`` or ``reconcile``."""

    async def start(self) -> None:
        """Bind listeners and prepare what `run` needs.

        An error ends the process. Something that is merely away (Redis, store, database) is no error: it is `missing`
        until it is there.
        """

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set and what was begun is finished.

        An error, or a return before `stop` is set, ends the process.
        """

    async def close(self) -> None:
        """Close listeners and connections; called last, also after a failed `start`."""

    def missing(self) -> list[str]:
        """Tell in words what keeps the role from being ready; empty when it is ready.

        Redis is checked by the admin listener and need not be told here.
        """

    async def idle(self) -> bool:
        """Tell whether nothing is left to do; with ``--once`` the process ends when every role says so."""
