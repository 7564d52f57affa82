"""An engine in a process of its own.

Butler work is synchronous and holds the interpreter's lock for tenths of a second; here it never delays a webhook of
the same program. The process can be killed and replaced at any moment: a batch is one transaction, or is found done
when it is tried again.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import structlog

from ..app.config import IngestConfig, LoggingConfig
from ..errors import AutoingestError, ConfigurationError, MetadataError, TransientError
from .channel import SIZE_BYTES, Batch, DefineVisits, Setup, Started, pack, send, unpack, unpack_size
from .engine import BatchResult, FileResult, IngestFile, Key
from .pipe import Log, last_words, waited_for_server

START_TIMEOUT = 120.0
"""Seconds until a process must have imported the Butler and opened the repository. About 1 s is normal; a cold
network disk may take much longer."""

CLOSE_TIMEOUT = 10.0
"""Seconds in which a process without work must end."""

LAST_WORDS = 5.0
"""Seconds in which a process that has ended must have closed its log, and one that has closed its answers must end."""

LONGEST_ANSWER = 64 * 2**20
"""Bytes of an answer at the most."""

LARGEST_FILE = 16 * 2**20
"""Bytes of the message that hands one file to the process at the most."""

_CRASHES = {signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGSYS, signal.SIGTRAP}
"""Signals by which a process ends through its own doing. Any other comes from outside."""

log = structlog.get_logger(__name__)


class ButlerEndedError(TransientError):
    """The Butler process ended, or had to be ended, without an answer to what it was asked."""

    own_doing: bool
    """Whether what it was asked may be the cause, as far as can be told: it crashed, left, or was busy for too long.
    Not so where it was killed from outside."""
    too_long: bool
    """Whether it took too long."""
    last_words: str
    """The end of its log."""

    def __init__(
        self, message: str, *, own_doing: bool, too_long: bool = False, last_words: str, **context: object
    ) -> None:
        super().__init__(message, **context)
        self.own_doing = own_doing
        self.too_long = too_long
        self.last_words = last_words


def environment() -> dict[str, str]:
    """Return the environment of a process that works on the Butler: this one's without the program's own secrets."""
    return {name: value for name, value in os.environ.items() if not name.startswith("AUTOINGEST_")}


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
            config.batch_timeout / 2,
        )
        self._process: asyncio.subprocess.Process | None = None
        self._log: Log | None = None
        self._trouble: str | None = None
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

    def unready_reason(self) -> str | None:
        """Tell in words why the repository isn't open or can't be written, or None if all is well."""
        return (self._why or self._trouble) if self._alive else self._trouble or self._why or "died"

    @property
    def _alive(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def launch(self) -> None:
        """Start the process, unless there is one; it imports the Butler while this one does something else."""
        async with self._turn:
            with contextlib.suppress(TransientError):  # `start` tries again
                await self._launch()

    async def start(self) -> None:
        """Start the process, unless there is one, and wait until it has opened the repository.

        Raises
        ------
        ConfigurationError
            If the repository can't be used, or the process dies as it starts; the message says why.
        TransientError
            If the repository's database is away or takes longer than `START_TIMEOUT`, or no process can be started
            now.
        """
        async with self._turn:
            await self._ensure()

    async def ingest(
        self,
        files: Sequence[IngestFile],
        timeout: float,  # noqa: ASYNC109 - its end kills the process
        *,
        cautious: bool = False,
        begin: Callable[[], Awaitable[None]] | None = None,
    ) -> BatchResult:
        """Have a batch written.

        Parameters
        ----------
        files
            The batch.
        timeout
            Seconds that it may take, from the moment at which the batch before it is done.
        cautious
            Whether these files may have ended a process before.
        begin
            Called when a process is ready and nothing else is in its hands; what it raises is raised here.

        Raises
        ------
        ButlerEndedError
            If the process died or took too long; the next call starts a new one.
        RefusedError
            If an answering database refuses a statement, perhaps for what one file makes of it.
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
        return BatchResult([results[file.path] for file in files], written.visits, written.owed, written.kept)

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
        request = DefineVisits(list(exposures), timeout)
        return await self._request(pack(request), request)

    async def _request(
        self, data: bytes, request: Batch | DefineVisits, begin: Callable[[], Awaitable[None]] | None = None
    ) -> BatchResult:
        async with self._turn:
            try:
                await self._ensure()
                if begin is not None:
                    await begin()
                    await self._ensure()
                result: BatchResult = await self._call(data, request.timeout, BatchResult)
            except ButlerEndedError:
                raise
            except (TransientError, ConfigurationError) as err:
                self._trouble = str(err)
                if isinstance(err, TransientError):
                    raise
                # An operator can mend it; no file is to blame.
                raise TransientError(str(err), **err.context) from err
            self._trouble = None
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
        try:
            self._log = Log()
            try:
                # -P: what lies in the current folder is not to be imported. A session of its own: Ctrl-C in a terminal
                # goes to the parent alone, which decides.
                self._process = await asyncio.create_subprocess_exec(
                    sys.executable, "-P", "-m", "autoingest.butler", self._engine,
                    stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=self._log.writer,
                    start_new_session=True, env=environment(),
                )  # fmt: skip
            finally:
                os.close(self._log.writer)
        except (OSError, RuntimeError) as err:  # also a thread that can't be started
            self._why = f"a Butler process can't be started: {err}"
            raise TransientError(self._why) from err
        self._why = "opening the repository"

    async def _ensure(self) -> None:
        await self._launch()
        if self._why is None:
            return
        try:
            started: Started = await self._call(pack(self._setup), START_TIMEOUT, Started)
        except ButlerEndedError as err:
            if self._has_served or not err.own_doing:
                raise TransientError(f"{err} as it started", **err.context) from err
            raise ConfigurationError("the Butler process dies as it starts; the log says why", **err.context) from err
        except (ConfigurationError, TransientError) as err:
            if self._process is not None:
                await self._discard(str(err))
            if self._has_served:  # it was open before, so an operator can mend it
                raise TransientError(str(err), **err.context) from err
            raise
        self._why, self._has_served, self._trouble = None, True, None
        log.info("butler process started", pid=started.pid, repo=self._setup.repo)

    async def _call(self, data: bytes, limit: float, kind: type) -> Any:
        """Send a request and wait for its answer, a `kind`; without one, the process is given up."""
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        assert self._log is not None
        self._log.begin()
        try:
            async with asyncio.timeout(limit):
                await send(process.stdin, data)
                size = unpack_size(await process.stdout.readexactly(SIZE_BYTES))
                if size > LONGEST_ANSWER:
                    raise ValueError(f"an answer of {size} bytes")
                answer = unpack(await process.stdout.readexactly(size), kind)
        except TimeoutError:
            _, text = await self._discard(f"no answer within {limit:g} s")
            if waited := waited_for_server(text):
                raise TransientError(f"no answer from the Butler's database within {limit:g} s") from None
            raise ButlerEndedError(
                f"the Butler process took longer than {limit:g} s", own_doing=waited is False, too_long=True,
                last_words=last_words(text), timeout_s=limit,
            ) from None  # fmt: skip
        except (asyncio.IncompleteReadError, ConnectionError):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), LAST_WORDS)  # its own end tells more than our killing it
            left = process.returncode is None
            code, text = await self._discard("died")
            how = _ending(code)
            raise ButlerEndedError(
                "the Butler process closed its answers" if left else f"the Butler process ended by {how}",
                own_doing=left or code >= 0 or -code in _CRASHES, last_words=last_words(text), returncode=code,
            ) from None  # fmt: skip
        except (ValueError, TypeError) as err:
            _, text = await self._discard("its answer makes no sense")
            raise ButlerEndedError(
                f"the answer of the Butler process makes no sense: {str(err)[:200]}", own_doing=True,
                last_words=last_words(text),
            ) from None  # fmt: skip
        except BaseException:
            await self._discard("interrupted")
            raise
        if isinstance(answer, AutoingestError):
            raise answer
        return answer

    async def _discard(self, why: str) -> tuple[int, str]:
        """End the process, if it still runs; return its exit code and the end of its log."""
        process, self._process, self._why = self._process, None, why
        assert process is not None
        assert self._log is not None
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        code = await process.wait()
        text = await self._log.text(LAST_WORDS)
        log.warning("butler process discarded", pid=process.pid, why=why, returncode=code)
        return code, text


def _ending(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:
        return f"signal {-code}"


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
