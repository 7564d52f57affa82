"""What a Butler process does."""

from __future__ import annotations

import gc
import os
import signal
import sys
from typing import TYPE_CHECKING

import structlog

from ..errors import AutoingestError
from ..instruments import describe
from ..log import configure_logging
from .channel import Batch, DefineVisits, Setup, Started, die_with, read, write

if TYPE_CHECKING:
    from .base import ButlerEngine

LOGGED = 500
"""Characters of a request that are logged when it makes the process fail."""


def main() -> None:
    """Serve batches from standard input until it is closed."""
    # The owner decides when to end: it closes the pipe once the batch is done.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    # Answers get a descriptor of their own; whatever a library prints goes to the log.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    requests = sys.stdin.buffer
    make = _engine_class(sys.argv[1])
    setup: Setup | None = read(requests, Setup)
    if setup is None:
        return
    die_with(setup.owner)
    configure_logging(setup.logging)
    log = structlog.get_logger(__name__)

    engine = make(setup.repo, setup.visits, setup.differing)
    try:
        describe(setup.instruments)
        engine.connect()
    except AutoingestError as err:
        write(answers, err)
        return
    # What is there now stays; without this, the collector walks through all of it every few batches, for 0.1 s.
    gc.freeze()
    gc.enable()
    write(answers, Started(os.getpid()))
    while (request := read(requests, Batch, DefineVisits)) is not None:
        try:
            if isinstance(request, DefineVisits):
                answer: object = engine.define_visits(request.exposures)
            else:
                answer = engine.ingest(request.files)
        except AutoingestError as err:
            answer = err
        except Exception:
            # Not foreseen: nothing can be said about the batch, and nothing about the state of this process either.
            log.exception("butler process fails", request=repr(request)[:LOGGED])
            sys.exit(1)
        try:
            write(answers, answer)
        except BrokenPipeError:
            # The owner was killed. What is committed is found done by whoever gets the batch next; there is nobody to
            # tell, and the interpreter's own end would try once more.
            os._exit(0)


def _engine_class(name: str) -> type[ButlerEngine]:
    """Import the engine that was chosen, with the Butler; the other's code is not imported."""
    if name == "stack":
        from .stack import StackEngine

        return StackEngine
    from .native import NativeEngine

    return NativeEngine
