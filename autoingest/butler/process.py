"""An engine in a process of its own.

Butler work is synchronous and holds the interpreter's lock for tenths of a second; here it never delays a webhook of
the same program. The process can be killed and replaced at any moment: a batch is one transaction, or is found done
when it is tried again.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Sequence
from typing import Any

import structlog

from ..config import IngestConfig, LoggingConfig
from ..errors import AutoingestError, ConfigurationError, TransientError
from .channel import SIZE_BYTES, Batch, DefineVisits, Setup, Started, pack, unpack, unpack_size
from .engine import BatchResult, IngestFile, Key

START_TIMEOUT = 120.0
"""Seconds until a process must have imported the Butler and opened the repository. About 1 s is normal; a cold
network disk may take much longer."""

CLOSE_TIMEOUT = 10.0
"""Seconds in which a process without work must end."""

log = structlog.get_logger(__name__)


class _DiedError(TransientError):
    """The process ended without an answer."""


class ButlerProcess:
    """Owns the process and speaks to it, one batch at a time.

    Parameters
    ----------
    config
        Repository, and how visits are grouped.
    logging
        The process logs as this one does.
    """

    def __init__(self, config: IngestConfig, logging: LoggingConfig) -> None:
        self._engine = config.engine
        self._setup = Setup(
            config.repo,
            config.visits,
            config.differing_metadata,
            logging,
            os.getpid(),
            config.instruments,
        )
        self._process: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()
        self._why: str | None = "not started"
        self._has_served = False

    @property
    def pid(self) -> int | None:
        """Process id, while there is a process."""
        return self._process.pid if self._process and self._alive else None

    @property
    def is_busy(self) -> bool:
        """Whether a request would have to wait for another."""
        return self._turn.locked()

    def missing(self) -> str | None:
        """Tell in words why the repository isn't open, or None if it is."""
        return self._why if self._alive else self._why or "died"

    @property
    def _alive(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def launch(self) -> None:
        """Start the process, unless there is one; it imports the Butler while this one does something else."""
        async with self._turn:
            await self._launch()

    async def start(self) -> None:
        """Start the process, unless there is one, and wait until it has opened the repository.

        Raises
        ------
        ConfigurationError
            If the repository can't be used, or the process dies as it starts; the message says why.
        TransientError
            If the repository's database is away, or takes longer than `START_TIMEOUT`.
        """
        async with self._turn:
            await self._ensure()

    async def ingest(self, files: Sequence[IngestFile], timeout: float) -> BatchResult:  # noqa: ASYNC109 - its end kills the process
        """Have a batch written.

        Parameters
        ----------
        files
            The batch.
        timeout
            Seconds that it may take, from the moment at which the batch before it is done.

        Raises
        ------
        TransientError
            If the database is away, or the process died or took too long; the next call starts a new one.
        """
        return await self._request(Batch(list(files)), timeout)

    async def define_visits(self, exposures: Sequence[Key], timeout: float) -> BatchResult:  # noqa: ASYNC109 - as above
        """Have missing visits of stored exposures defined; see `autoingest.butler.engine.Engine.define_visits`.

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
        return await self._request(DefineVisits(list(exposures)), timeout)

    async def _request(self, request: object, limit: float) -> BatchResult:
        async with self._turn:
            await self._ensure()
            result: BatchResult = await self._call(request, limit, BatchResult)
        return result

    async def close(self) -> None:
        """End the process once it has finished its batch."""
        async with self._turn:
            if self._process is None:
                return
            is_open = self._why is None
            process, self._process, self._why = self._process, None, "closed"
            assert process.stdin is not None
            process.stdin.close()
            if not is_open:  # it may still be importing
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
            try:
                async with asyncio.timeout(CLOSE_TIMEOUT):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()

    async def _launch(self) -> None:
        if self._alive:
            return
        if self._process is not None:
            await self._discard("died")
        # -P: what lies in the current folder is not to be imported. A session of its own: Ctrl-C in a terminal goes
        # to the parent alone, which decides.
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", "autoingest.butler", self._engine,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        self._why = "opening the repository"

    async def _ensure(self) -> None:
        await self._launch()
        if self._why is None:
            return
        try:
            started: Started = await self._call(self._setup, START_TIMEOUT, Started)
        except _DiedError as err:
            if self._has_served:
                raise
            raise ConfigurationError("the Butler process dies as it starts; the log says why", **err.context) from err
        self._why, self._has_served = None, True
        log.info("butler process started", pid=started.pid, repo=self._setup.repo)

    async def _call(self, request: object, limit: float, kind: type) -> Any:
        """Send a request and wait for its answer, a `kind`; without one, the process is given up."""
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            async with asyncio.timeout(limit):
                process.stdin.write(pack(request))
                await process.stdin.drain()
                size = unpack_size(await process.stdout.readexactly(SIZE_BYTES))
                answer = unpack(await process.stdout.readexactly(size), kind)
        except TimeoutError:
            await self._discard(f"no answer within {limit:g} s")
            raise TransientError("the Butler process took too long", timeout_s=limit) from None
        except (asyncio.IncompleteReadError, ConnectionError):
            code = await self._discard("died")
            raise _DiedError("the Butler process died", returncode=code) from None
        except BaseException:
            await self._discard("interrupted")
            raise
        if isinstance(answer, AutoingestError):
            if isinstance(request, Setup):
                await self._discard(str(answer))
            raise answer
        return answer

    async def _discard(self, why: str) -> int | None:
        process, self._process, self._why = self._process, None, why
        assert process is not None
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        code = await process.wait()
        log.warning("butler process discarded", pid=process.pid, why=why, returncode=code)
        return code
