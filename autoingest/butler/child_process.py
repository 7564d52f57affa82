"""A process that works on the Butler, as the program that owns it sees it.

Butler work is synchronous and holds the interpreter's lock for tenths of a second; in a process of its own it never
delays a webhook of the same program.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from typing import Any

import structlog

from ..errors import AutoingestError, ConfigurationError, TransientError
from .bookmark import Bookmark
from .channel import SIZE_BYTES, pack, send, unpack, unpack_size
from .messages import Setup, Started
from .process_log import ProcessLog, last_words, waited_for_server

START_TIMEOUT = 120.0
"""Seconds until a process must have imported the Butler and opened the repository. About 1 s is normal; a cold
network disk may take much longer."""

CLOSE_TIMEOUT = 10.0
"""Seconds in which a process without work must end."""

LAST_WORDS = 5.0
"""Seconds for an ended process to close its log, and for a process that closed its answers to end."""

LONGEST_ANSWER = 64 * 2**20
"""Maximum size of an answer in bytes."""

_CRASHES = {signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGSYS, signal.SIGTRAP}
"""Signals that a process causes itself. Any other comes from outside."""

log = structlog.get_logger(__name__)


class ButlerEndedError(TransientError):
    """The Butler process ended, or was killed, without answering a request."""

    own_doing: bool
    """Whether the request may be the cause: the process crashed, exited, or was busy for too long. Not if it was killed
    from outside."""
    too_long: bool
    """Whether it took too long."""
    last_words: str
    """The end of its log."""
    path: str
    """The single file that it was working on, if any."""

    def __init__(
        self, message: str, *, own_doing: bool, too_long: bool = False, last_words: str, path: str, **context: object
    ) -> None:
        super().__init__(message, **context)
        self.path = path
        self.own_doing = own_doing
        self.too_long = too_long
        self.last_words = last_words


class ChildProcess:
    """Starts a Butler process, sends it one request at a time, and ends it.

    If an answer does not arrive in time, the process is killed, so that a late answer is never taken for that of the
    next request. Calls must not overlap.

    Parameters
    ----------
    kind
        Kind of process: ``native``, ``stack`` or ``reader``.
    setup
        Repository and settings.
    """

    not_open: str | None = "not started"
    """Why the process has no open repository, or None if it has."""

    def __init__(self, kind: str, setup: Setup) -> None:
        self._kind = kind
        self._setup = setup
        self._process: asyncio.subprocess.Process | None = None
        self._log: ProcessLog | None = None
        self._bookmark: Bookmark | None = None
        self._has_served = False

    @property
    def pid(self) -> int | None:
        """Process id, while there is a process."""
        return self._process.pid if self._process and self.is_alive else None

    @property
    def is_alive(self) -> bool:
        """Whether there is a process."""
        return self._process is not None and self._process.returncode is None

    async def launch(self) -> None:
        """Start the process, unless there is one; it imports the Butler while this one does something else.

        Raises
        ------
        TransientError
            If no process can be started now.
        """
        if self.is_alive:
            return
        if self._process is not None:
            await self.discard("died")
        try:
            self._bookmark = self._bookmark or Bookmark()
            self._log = ProcessLog()
            try:
                # -P: nothing is imported from the current folder. A new session: Ctrl-C in a terminal reaches only the
                # parent, which decides.
                self._process = await asyncio.create_subprocess_exec(
                    sys.executable, "-P", "-m", "autoingest.butler", self._kind, str(self._bookmark.descriptor),
                    stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=self._log.writer,
                    start_new_session=True, env=_environment(), pass_fds=[self._bookmark.descriptor],
                )  # fmt: skip
            finally:
                os.close(self._log.writer)
        except (OSError, RuntimeError) as err:  # also a thread that can't be started
            self.not_open = f"a Butler process can't be started: {err}"
            raise TransientError(self.not_open) from err
        self.not_open = "opening the repository"

    async def open(self) -> bool:
        """Start the process, unless there is one, and wait until it has opened the repository.

        Returns
        -------
        opened
            Whether it was not open before.

        Raises
        ------
        ConfigurationError
            If the repository can't be used, or the process dies as it starts; the message says why.
        TransientError
            If the repository's database is away or takes longer than `START_TIMEOUT`, or no process can be started
            now. Once the repository has been open, every error is transient, since an operator can fix it.
        """
        await self.launch()
        if self.not_open is None:
            return False
        try:
            await self.call(pack(self._setup), START_TIMEOUT, Started)
        except ButlerEndedError as err:
            if self._has_served or not err.own_doing:
                raise TransientError(f"{err} as it started", **err.context) from err
            raise ConfigurationError("the Butler process dies as it starts; the log says why", **err.context) from err
        except (ConfigurationError, TransientError) as err:
            if self._process is not None:
                await self._end(str(err))
            if self._has_served:
                raise TransientError(str(err), **err.context) from err
            raise
        self.not_open, self._has_served = None, True
        return True

    async def close(self) -> None:
        """End the process: immediately if it is still importing, otherwise once it has finished its request."""
        if self._bookmark is not None:
            self._bookmark.close()
            self._bookmark = None
        if self._process is None:
            return
        is_open = self.not_open is None
        process, self._process, self.not_open = self._process, None, "closed"
        assert process.stdin is not None
        process.stdin.close()
        if not is_open:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()

    async def call(self, request: bytes, limit: float, kind: type) -> Any:
        """Send a request and wait for its answer; a process that gives none is killed.

        Parameters
        ----------
        request
            The packed message.
        limit
            Seconds that the answer may take.
        kind
            Data class of the answer.

        Raises
        ------
        ButlerEndedError
            If the process died, took too long, or gave an answer that makes no sense.
        TransientError
            If it took too long because the database did not answer.
        AutoingestError
            If that is the answer.
        """
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        assert self._log is not None
        assert self._bookmark is not None
        self._log.begin()
        self._bookmark.path = ""
        try:
            async with asyncio.timeout(limit):
                await send(process.stdin, request)
                size = unpack_size(await process.stdout.readexactly(SIZE_BYTES))
                if size > LONGEST_ANSWER:
                    raise ValueError(f"an answer of {size} bytes")
                answer = unpack(await process.stdout.readexactly(size), kind)
        except TimeoutError:
            _, text = await self.discard(f"no answer within {limit:g} s")
            if waited := waited_for_server(text):
                raise TransientError(f"no answer from the Butler's database within {limit:g} s") from None
            raise ButlerEndedError(
                f"the Butler process took longer than {limit:g} s", own_doing=waited is False, too_long=True,
                last_words=last_words(text), path=self._bookmark.path, timeout_s=limit,
            ) from None  # fmt: skip
        except (asyncio.IncompleteReadError, ConnectionError):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), LAST_WORDS)  # its own exit code is more informative than ours
            left = process.returncode is None
            code, text = await self.discard("died")
            how = _ending(code)
            raise ButlerEndedError(
                "the Butler process closed its answers" if left else f"the Butler process ended by {how}",
                own_doing=left or code >= 0 or -code in _CRASHES, last_words=last_words(text), path=self._bookmark.path,
                returncode=code,
            ) from None  # fmt: skip
        except (ValueError, TypeError) as err:
            _, text = await self.discard("its answer makes no sense")
            raise ButlerEndedError(
                f"the answer of the Butler process makes no sense: {str(err)[:200]}", own_doing=True,
                last_words=last_words(text), path="",  # it may be at another file by now
            ) from None  # fmt: skip
        except BaseException:
            await self.discard("interrupted")
            raise
        if isinstance(answer, AutoingestError):
            raise answer
        return answer

    async def discard(self, why: str) -> tuple[int, str]:
        """End a process that did not answer, if it still runs; return its exit code and the end of its log."""
        pid = self._process.pid if self._process else None
        code, text = await self._end(why)
        log.warning("butler process discarded", pid=pid, why=why, returncode=code)
        return code, text

    async def _end(self, why: str) -> tuple[int, str]:
        process, self._process, self.not_open = self._process, None, why
        assert process is not None
        assert self._log is not None
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        code = await process.wait()
        text = await self._log.text(LAST_WORDS)
        return code, text


def _environment() -> dict[str, str]:
    """Return the environment of a process that works on the Butler: this one's without the program's own secrets."""
    return {name: value for name, value in os.environ.items() if not name.startswith("AUTOINGEST_")}


def _ending(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:
        return f"signal {-code}"
