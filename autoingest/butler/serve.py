"""The main loop of a Butler process: opens a repository, and answers one request after the other."""

from __future__ import annotations

import faulthandler
import gc
import os
import resource
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import structlog

from ..app.log import configure_logging
from ..errors import AutoingestError
from ..instruments import describe
from . import bookmark
from .channel import die_with, read, write
from .engine import BatchResult, Engine
from .messages import Batch, DefineVisits, Examine, FindExposures, FindGroup, ListObsIds, Setup, Started

if TYPE_CHECKING:
    from .butler_engine import ButlerEngine

LOGGED = 500
"""Number of characters of a request that are logged if it fails."""

TELL = 0.8
"""Fraction of a request's time limit after which the process logs its stack; see `autoingest.butler.process_log`."""

LEAST_GROWTH, MOST_GROWTH = 64 * 2**20, 256 * 2**20
"""Additional memory in bytes for a cautious request: half of what is free, within these bounds."""


REQUESTS = (Batch, DefineVisits, ListObsIds, FindExposures, FindGroup, Examine)
"""Requests to processes of all kinds."""

Request = Batch | DefineVisits | ListObsIds | FindExposures | FindGroup | Examine


class Service(Protocol):
    """An open repository that answers requests."""

    def answer(self, request: Request) -> object:
        """Return the answer to a request."""
        ...


class EngineService:
    """Writes batches and visits."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def answer(self, request: Request) -> BatchResult:
        """Write the files, or define the visits, of a request."""
        match request:
            case Batch(files, cautious=True):
                with _little_memory():
                    return self._engine.ingest(files)
            case Batch(files):
                return self._engine.ingest(files)
            case DefineVisits(exposures):
                return self._engine.define_visits(exposures)
        raise TypeError(f"an engine does not answer {type(request).__name__}")


def main() -> None:
    """Answer requests from standard input until it is closed."""
    # The owner decides when to end: it closes the pipe once the batch is done.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    # Answers use a separate descriptor; whatever a library prints goes to the log.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    faulthandler.enable()  # the log shows where it crashed
    requests = sys.stdin.buffer
    bookmark.current = bookmark.Bookmark(int(sys.argv[2]))
    make = _service(sys.argv[1])
    setup: Setup | None = read(requests, Setup)
    if setup is None:
        return
    die_with(setup.owner)
    configure_logging(setup.logging)
    log = structlog.get_logger(__name__)
    try:
        describe(setup.instruments)
        service = make(setup)
    except AutoingestError as err:
        write(answers, err)
        return
    # Everything up to here stays in memory; without this, it would be scanned every few batches, for 0.1 s.
    gc.freeze()
    gc.enable()
    write(answers, Started(os.getpid()))
    while (request := read(requests, *REQUESTS)) is not None:
        faulthandler.dump_traceback_later(TELL * request.timeout)
        try:
            answer = service.answer(request)
        except AutoingestError as err:
            answer = err
        except Exception:
            # Unexpected: neither the result of the request nor the state of this process is known.
            log.exception("butler process fails", request=repr(request)[:LOGGED])
            sys.exit(1)
        finally:
            faulthandler.cancel_dump_traceback_later()
        try:
            write(answers, answer)
        except BrokenPipeError:
            # The owner was killed. The worker that gets the batch next finds what is committed. A normal exit of the
            # interpreter would try to write again.
            os._exit(0)


@contextmanager
def _little_memory() -> Iterator[None]:
    """Limit memory, so that excessive use raises MemoryError before the kernel kills the process or the whole pod."""
    try:
        status = Path("/proc/self/status").read_text()
    except FileNotFoundError:  # not Linux
        yield
        return
    used = int(status.partition("VmData:")[2].split()[0]) * 1024
    growth = max(LEAST_GROWTH, min(MOST_GROWTH, _free_memory() // 2))
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limits = [used + growth, *(limit for limit in (soft, hard) if limit != resource.RLIM_INFINITY)]
    resource.setrlimit(resource.RLIMIT_DATA, (min(limits), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _free_memory() -> int:
    """Return the free memory of the machine or, if that is less, of the container, in bytes."""
    free = int(Path("/proc/meminfo").read_text().partition("MemAvailable:")[2].split()[0]) * 1024
    group = Path("/sys/fs/cgroup")
    try:
        limit = int((group / "memory.max").read_text())
        return min(free, limit - int((group / "memory.current").read_text()))
    except (OSError, ValueError):  # no limit, or another kind of control group
        return free


def _service(kind: str) -> Callable[[Setup], Service]:
    """Import the code for a kind of process, and return the function that opens the repository."""
    if kind == "reader":
        from .repository_reader import RepositoryReader

        return RepositoryReader
    from .database import set_lock_timeout
    from .private import convert_times_once

    convert_times_once()
    engine_class: type[ButlerEngine]
    if kind == "stack":
        from .stack import StackEngine as engine_class
    else:
        from .native import NativeEngine as engine_class

    def make(setup: Setup) -> EngineService:
        set_lock_timeout(setup.lock_timeout)
        engine = engine_class(setup.repo, setup.visits, setup.differing)
        engine.connect()
        return EngineService(engine)

    return make
