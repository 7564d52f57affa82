"""An engine in a process of its own.

The process can be killed and replaced at any moment: a batch is one transaction, and one that was committed is
recognised when it is repeated.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable, Sequence

import structlog

from ..app.config import IngestConfig, LoggingConfig
from ..errors import ConfigurationError, MetadataError, TransientError
from .channel import pack
from .child_process import ButlerEndedError, ChildProcess
from .engine import BatchResult, FileResult, IngestFile, Key
from .messages import Batch, DefineVisits, Setup

__all__ = ["ButlerEndedError", "ButlerProcess"]

LARGEST_FILE = 16 * 2**20
"""Maximum size in bytes of a file in a message to the process."""

log = structlog.get_logger(__name__)


class ButlerProcess:
    """Owns the process and sends it one batch at a time.

    Parameters
    ----------
    config
        Repository, and how visits are grouped.
    logging
        The process logs as this one does.
    """

    def __init__(self, config: IngestConfig, logging: LoggingConfig) -> None:
        self._repo = config.repo
        setup = Setup(
            config.repo,
            config.visits,
            config.differing_metadata,
            logging,
            os.getpid(),
            config.instruments,
            config.batch_timeout / 2,
        )
        self._child = ChildProcess(config.engine, setup)
        self._trouble: str | None = None
        self._turn = asyncio.Lock()

    @property
    def pid(self) -> int | None:
        """Process id, while there is a process."""
        return self._child.pid

    @property
    def is_busy(self) -> bool:
        """Whether a request would have to wait for another."""
        return self._turn.locked()

    def unready_reason(self) -> str | None:
        """Return why the repository isn't open or can't be written, or None if all is well."""
        if self._child.is_alive:
            return self._child.not_open or self._trouble
        return self._trouble or self._child.not_open or "died"

    async def launch(self) -> None:
        """Start the process, unless there is one; it imports the Butler while this one does something else."""
        async with self._turn:
            with contextlib.suppress(TransientError):  # `start` tries again
                await self._child.launch()

    async def start(self) -> None:
        """Start the process, unless there is one, and wait until it has opened the repository.

        Raises
        ------
        ConfigurationError, TransientError
            As for `ChildProcess.open`.
        """
        async with self._turn:
            await self._open()

    async def ingest(
        self,
        files: Sequence[IngestFile],
        timeout: float,  # noqa: ASYNC109 - its end kills the process
        *,
        cautious: bool = False,
        begin: Callable[[], Awaitable[None]] | None = None,
    ) -> BatchResult:
        """Write a batch.

        Parameters
        ----------
        files
            The batch.
        timeout
            Seconds that it may take, from the moment at which the batch before it is done.
        cautious
            Whether these files may have ended a process before.
        begin
            Called when a process is ready and idle; its exceptions propagate.

        Raises
        ------
        ButlerEndedError
            If the process died or took too long; the next call starts a new one.
        RefusedError
            If the database answers but refuses a statement, perhaps because of a single file.
        TransientError
            If the repository can't be written now.
        """
        request = Batch(list(files), timeout, cautious)
        try:
            data = pack(request)
        except Exception:
            data = b""
        refused: dict[str, FileResult] = {}
        if not data or len(data) > LARGEST_FILE:
            refused = {file.path: result for file in files if (result := _refused(file)) is not None}
            request = Batch([file for file in files if file.path not in refused], timeout, cautious)
            data = pack(request)
        written = await self._request(data, request, begin) if request.files else BatchResult()
        results = {result.path: result for result in written.files} | refused
        return BatchResult(
            [results[file.path] for file in files], written.visits, written.owed, written.kept, written.exposures
        )

    async def define_visits(self, exposures: Sequence[Key], timeout: float) -> BatchResult:  # noqa: ASYNC109 - as above
        """Define the missing visits of stored exposures; see `autoingest.butler.engine.Engine.define_visits`.

        Parameters
        ----------
        exposures
            Instrument and id of each.
        timeout
            Seconds that it may take.

        Raises
        ------
        TransientError
            As for `ingest`.
        """
        request = DefineVisits(list(exposures), timeout)
        return await self._request(pack(request), request)

    async def _request(
        self, data: bytes, request: Batch | DefineVisits, begin: Callable[[], Awaitable[None]] | None = None
    ) -> BatchResult:
        async with self._turn:
            try:
                await self._open()
                if begin is not None:
                    await begin()
                    await self._open()
                result: BatchResult = await self._child.call(data, request.timeout, BatchResult)
            except ButlerEndedError:
                raise
            except (TransientError, ConfigurationError) as err:
                self._trouble = str(err)
                if isinstance(err, TransientError):
                    raise
                # An operator can fix it; no file is to blame.
                raise TransientError(str(err), **err.context) from err
            self._trouble = None
        return result

    async def close(self) -> None:
        """End the process once it has finished its batch."""
        async with self._turn:
            await self._child.close()

    async def _open(self) -> None:
        if await self._child.open():
            self._trouble = None
            log.info("butler process started", pid=self._child.pid, repo=self._repo)


def _refused(file: IngestFile) -> FileResult | None:
    """Return the failure of a file that can't be sent to the process, or None if it can."""
    try:
        size = len(pack(Batch([file], 0)))
    except Exception as err:
        exception = f"the header holds a value that can't be sent to the Butler process: {type(err).__name__}: {err}"
    else:
        if size <= LARGEST_FILE:
            return None
        exception = f"the header takes {size} bytes, more than {LARGEST_FILE}"
    return FileResult(file.path, "failed", reason=MetadataError.reason, exception=exception)
