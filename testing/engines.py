"""Engines in a process of their own, for tests that every engine must pass.

The test double of the Science Pipelines is importable there and nowhere else.
"""

from __future__ import annotations

import importlib.util
import multiprocessing
import sys
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from autoingest.butler.engine import BatchResult, IngestFile, Key

OFFICIAL_TASKS = Path(__file__).with_name("official_tasks")
"""Folder that holds the test double's ``lsst`` package."""

NATIVE, DOUBLE, STACK = "native", "stack with test double", "stack"


def has_science_pipelines() -> bool:
    """Tell whether the genuine tasks are installed."""
    try:
        return importlib.util.find_spec("lsst.obs.base") is not None
    except ModuleNotFoundError:
        return False


def kinds() -> list[str]:
    """Return the engines that can run here: `STACK` where the Science Pipelines are installed, else `DOUBLE`.

    Never both: parts of the double would mix with genuine ones, for they are in the same namespace.
    """
    return [NATIVE, STACK if has_science_pipelines() else DOUBLE]


class EngineHost:
    """A process in which engines of one kind run."""

    def __init__(self, kind: str) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, kind), daemon=True)
        self._process.start()
        theirs.close()

    def open(self, repo: str, *args: str) -> HostedEngine:
        """Have an engine of a repository opened; `args` are the engine's."""
        return HostedEngine(self, self.call(None, "open", repo, *args))

    def call(self, engine: int | None, name: str, *args: Any) -> Any:
        self._connection.send((engine, name, args))
        answer = self._connection.recv()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close(self) -> None:
        self._connection.close()
        self._process.join(10)


class HostedEngine:
    """An engine in a host's process."""

    def __init__(self, host: EngineHost, number: int) -> None:
        self._host = host
        self._number = number

    def ingest(self, files: Sequence[IngestFile]) -> BatchResult:
        result: BatchResult = self._host.call(self._number, "ingest", files)
        return result

    def define_visits(self, exposures: Sequence[Key]) -> BatchResult:
        result: BatchResult = self._host.call(self._number, "define_visits", exposures)
        return result

    def close(self) -> None:
        self._host.call(self._number, "close")


def _serve(connection: Connection, kind: str) -> None:
    if kind == DOUBLE:
        sys.path.insert(0, str(OFFICIAL_TASKS))
    if kind == NATIVE:
        from autoingest.butler.native import NativeEngine as Engine
    else:
        import lsst.obs.base
        import lsst.obs.lsst

        from autoingest.butler.stack import StackEngine as Engine  # type: ignore[assignment]

        for module in (lsst.obs.base, lsst.obs.lsst):
            assert Path(module.__file__).is_relative_to(OFFICIAL_TASKS) == (kind == DOUBLE), module.__file__
    engines: list[Any] = []
    while True:
        try:
            number, name, args = connection.recv()
        except EOFError:
            return
        answer: object
        try:
            if number is None:
                engine = Engine(*args)
                engine.connect()
                engines.append(engine)
                answer = len(engines) - 1
            else:
                answer = getattr(engines[number], name)(*args)
        except Exception as err:
            answer = err
        connection.send(answer)
