"""The roles: each module runs one part of the program in the daemon's event loop. Only the daemon imports them."""

from __future__ import annotations

import asyncio
from typing import Protocol, runtime_checkable


class Role(Protocol):
    """A part of the program that can run alone or beside the others in one event loop.

    The daemon calls ``start``, ``run`` and ``close`` once each, in this order. A role that has a listener opens it in
    ``start`` and closes it in ``close``, so that listeners open before any role runs and close after all have stopped.
    """

    name: str
    """``enqueue``, ``ingest``, ``idle``, ``presence``, ``events``, ``reconcile`` or ``status``."""

    async def start(self) -> None:
        """Bind listeners and prepare what `run` needs.

        An error ends the process. A service that is unavailable (Redis, object store, database) is no error: it is
        one of the `unready_reasons` until it is back.
        """

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set and everything begun is finished.

        An error, or a return before `stop` is set, ends the process.
        """

    async def close(self) -> None:
        """Close listeners and connections; called last, also after a failed `start`."""

    def unready_reasons(self) -> list[str]:
        """Return why the role is not ready, for the operator; empty when it is ready.

        The admin listener checks Redis itself, so Redis is not mentioned here.
        """

    async def is_drained(self) -> bool:
        """Return whether no work is left; with ``--once`` the process ends when every role is drained."""


@runtime_checkable
class HasDependencies(Protocol):
    """A role that uses services other than Redis."""

    def dependencies(self) -> dict[str, str]:
        """Return why each service can't be used, by its name; empty if it can."""
