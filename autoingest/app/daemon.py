"""The process: sets up what the roles share, runs the roles, and stops them in order."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from typing import TYPE_CHECKING

import structlog

from ..errors import ConfigurationError
from ..roles import Role
from .config import Config
from .config import Role as RoleName
from .retry import end, pause

if TYPE_CHECKING:
    import redis.asyncio

    from ..butler.process import ButlerProcess
    from .health import Admin

ONCE_POLL = 0.2
"""Seconds between two checks whether all work is done, with ``once``."""

ONCE_SETTLED = 3
"""Number of consecutive checks that must find no work left."""

log = structlog.get_logger(__name__)


def build_role(
    name: RoleName, config: Config, client: redis.asyncio.Redis, butlers: Sequence[ButlerProcess], *, alone: bool
) -> Role:
    """Create a role; only the modules that it needs are imported.

    Parameters
    ----------
    name
        The role.
    config
        The whole configuration.
    client
        Redis client that decodes responses.
    butlers
        Butler processes of the ingest role.
    alone
        Whether this is the only role of the process.
    """
    match name:
        case "enqueue":
            from ..roles.enqueue import EnqueueRole

            return EnqueueRole(config, client)
        case "ingest":
            from ..roles.ingest import IngestRole

            return IngestRole(config, client, butlers, alone=alone)
        case "idle":
            from ..roles.idle import IdleRole

            return IdleRole(config, client)
        case "presence":
            from ..roles.presence import PresenceRole

            return PresenceRole(config, client)
        case "events":
            from ..roles.events import EventsRole

            return EventsRole(config, client)
        case "reconcile":
            from ..roles.reconcile import ReconcileRole

            return ReconcileRole(config, client)
        case "status":
            from ..roles.status import StatusRole

            return StatusRole(config, client)


async def serve(config: Config, names: Sequence[RoleName], stop: asyncio.Event, *, once: bool = False,
                ready: Callable[[Sequence[Role], Admin], None] | None = None) -> int:  # fmt: skip
    """Run roles until `stop` is set.

    Parameters
    ----------
    config
        The whole configuration.
    names
        Roles to run.
    stop
        Stops the roles in order when set: they take no new work, finish what they have, and close their listeners last.
    once
        End when no work is left.
    ready
        Called with the roles and the admin listener once all have started.

    Returns
    -------
    code
        Exit code: 0 after a stop; 1 if a role ended unexpectedly or did not finish within the drain time; 2 if the
        configuration prevents `once` from completing.

    Notes
    -----
    A fault that an operator can fix while the program runs (a server, a repository, permissions) does not end it: the
    role concerned reports that it is not ready and why, and the others continue. An invalid configuration or
    environment ends the start.
    """
    code, why = 0, ""
    async with AsyncExitStack() as ending:
        with _uncollected():
            butlers: list[ButlerProcess] = []
            if "ingest" in names:
                from ..butler.process import ButlerProcess

                butlers = [ButlerProcess(config.ingest, config.logging) for _ in range(config.ingest.workers)]
            for butler in butlers:
                ending.push_async_callback(butler.close)
                await butler.launch()
            # The Butler processes have the most to import, so they start first.
            from ..queue.connection import connect
            from .health import Admin
            from .heartbeat import HeartbeatKeeper

            client = connect(config.redis)
            ending.push_async_callback(client.aclose)
            ending.push_async_callback(end, asyncio.create_task(client.keep_looking(), name="redis watch"))
            alone = once or len(names) == 1
            roles = [build_role(name, config, client, butlers, alone=alone) for name in names]
            admin = Admin(config, client, roles)
            ending.push_async_callback(admin.close)
            for role in reversed(roles):
                ending.push_async_callback(role.close)
            await admin.start()
            heartbeat = HeartbeatKeeper(client, roles)
            ending.push_async_callback(heartbeat.close)
            ending.push_async_callback(end, asyncio.create_task(heartbeat.run(), name="heartbeat"))
            started = await _start(roles, stop)
        if started:
            log.info("roles started", roles=list(names))
            if ready:
                ready(roles, admin)
            code, why = await run_roles(config, roles, stop, once=once)
    if code:
        log.error("process ends", code=code, why=why)
    else:
        log.info("process ends", code=code)
    return code


@contextmanager
def _uncollected() -> Iterator[None]:
    """Suspend garbage collection during the start: everything created there stays, and scanning it takes time."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


async def _start(roles: Sequence[Role], stop: asyncio.Event) -> bool:
    """Start roles one after the other; return False if `stop` is set before all have started.

    Listeners open before ingest opens its repository, which takes a second or more.
    """

    async def start_all() -> None:
        for role in sorted(roles, key=lambda role: role.name == "ingest"):
            await role.start()

    starting, stopped = asyncio.create_task(start_all()), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait([starting, stopped], return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopped.cancel()
        starting.cancel()
        await asyncio.wait([starting, stopped])
    if starting.cancelled():
        return False
    starting.result()
    return True


async def run_roles(
    config: Config, roles: Sequence[Role], stop: asyncio.Event, *, once: bool = False
) -> tuple[int, str]:
    """Run roles until they end; return the exit code and, unless it is 0, the reason. Parameters as in `serve`.

    A role that ends before the stop ends the process: the supervisor restarts it.
    """
    tasks = {asyncio.create_task(role.run(stop), name=role.name): role for role in roles}
    watchers: list[asyncio.Task[object]] = [asyncio.create_task(stop.wait())]
    if once:
        watchers.append(asyncio.create_task(_stop_when_done(roles, stop)))
    await asyncio.wait([*tasks, watchers[0]], return_when=asyncio.FIRST_COMPLETED)
    code, why = 0, ""
    early = [task for task in tasks if task.done()] if not stop.is_set() else []
    stop.set()
    log.info("stopping", drain_s=config.ingest.drain)
    _, unfinished = await asyncio.wait(tasks, timeout=config.ingest.drain)
    for task in unfinished:
        log.error("drain time is over", role=task.get_name())
        task.cancel()
        code, why = 1, f"role {task.get_name()} did not end within ingest.drain ({config.ingest.drain:g} s)"
    await asyncio.gather(*tasks, return_exceptions=True)
    for task in tasks:
        if not task.cancelled() and (error := task.exception()):
            log.error("role ended unexpectedly", role=task.get_name(), exc_info=error)
            code, why = 1, f"role {task.get_name()}: {brief(error)}"
        elif task in early and not why:
            code, why = 1, f"role {task.get_name()} ended before the stop"
    for watcher in watchers:
        watcher.cancel()
    for found in await asyncio.gather(*watchers, return_exceptions=True):
        if isinstance(found, ConfigurationError):
            code, why = code or 2, why or str(found)
    return code, why


def brief(error: BaseException) -> str:
    """Return an error in one line; for an exception group, its first error."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return " ".join(f"{type(error).__name__}: {error}".split())


async def _stop_when_done(roles: Sequence[Role], stop: asyncio.Event) -> None:
    from ..queue.connection import REDIS_AWAY

    settled = 0
    while settled < ONCE_SETTLED:
        await pause(stop, ONCE_POLL)
        try:
            settled = settled + 1 if all([await role.is_drained() for role in roles]) else 0
        except REDIS_AWAY:
            settled = 0
        except ConfigurationError:
            stop.set()
            raise
        except Exception:
            settled = 0
            log.exception("not known whether all is done")
    stop.set()


@contextmanager
def stop_on_signal(stop: asyncio.Event) -> Iterator[None]:
    """Set `stop` at the first SIGTERM or SIGINT; a second signal kills the process."""
    loop = asyncio.get_running_loop()

    def first(number: int) -> None:
        log.info("signal received", signal=signal.Signals(number).name)
        stop.set()
        for other in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(other)
            signal.signal(other, second)

    def second(number: int, _frame: object) -> None:
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        # The kernel does not deliver it to PID 1 of a container.
        os._exit(128 + number)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, first, number)
    try:
        yield
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
