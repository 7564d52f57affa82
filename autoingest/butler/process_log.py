"""The log of a child process: passed on, and its end kept for dead letters."""

from __future__ import annotations

import asyncio
import os
import re
import threading
from contextlib import suppress

KEPT = 64 * 1024
"""Number of bytes kept of the end of the log."""

LINES = 20
CHARACTERS = 2000
"""Maximum number of lines and characters of an excerpt."""

_FRAME = re.compile(r'\s*File "([^"]+)", line \d+ in ')
_WAITS_FOR_SERVER = ("/psycopg/", "/psycopg_binary/", "/sqlalchemy/", "/socket.py", "/ssl.py", "/selectors.py")
"""Parts of the paths of modules that wait for database or store."""


class ProcessLog:
    """A pipe that a thread empties, so that no amount of output blocks either process.

    The thread writes to this process's standard error, and ends when the last writer has closed the pipe.
    """

    def __init__(self) -> None:
        self._reader, self.writer = os.pipe()
        self._last = b""
        self._thread = threading.Thread(target=self._pass_on, name="butler-log", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:
            os.close(self._reader)
            os.close(self.writer)
            raise

    def begin(self) -> None:
        """Forget what was written so far."""
        self._last = b""

    async def text(self, wait: float) -> str:
        """Return the end of the log, after the writer has ended; wait at most `wait` seconds for its last output.

        A process that the writer started may keep the pipe open.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(wait):
                while self._thread.is_alive():  # noqa: ASYNC110 - it is a thread that ends
                    await asyncio.sleep(0.01)
        return self._last.decode(errors="replace")

    def _pass_on(self) -> None:
        with open(self._reader, "rb", buffering=0) as pipe:
            while data := pipe.read(KEPT):
                self._last = (self._last + data)[-KEPT:]
                try:
                    while data:
                        data = data[os.write(2, data) :]
                except OSError:
                    continue  # nobody reads our log; the writer must not be blocked


def last_words(text: str) -> str:
    """Return an excerpt for people to read: the stack of the process if the log has it, otherwise its last lines."""
    lines = text.splitlines()
    begins = [number for number, line in enumerate(lines) if line.startswith("Fatal Python error")]
    if begins:
        return "\n".join(lines[begins[-1] : begins[-1] + LINES])[:CHARACTERS]
    if stack := _main_stack(lines):
        return "\n".join(stack[:LINES])[:CHARACTERS]
    return "\n".join(lines[-LINES:])[-CHARACTERS:]


def waited_for_server(text: str) -> bool | None:
    """Return whether a process that took too long was waiting for database or store; None if that is not known.

    The process logs its stack shortly before its time is up. If it logged nothing, it was not running: it was stopped
    by a signal, or had no processor.
    """
    stack = _main_stack(text.splitlines())
    frames = [match[1] for line in stack or [] if (match := _FRAME.match(line))]
    return any(part in frames[0] for part in _WAITS_FOR_SERVER) if frames else None


def _main_stack(lines: list[str]) -> list[str] | None:
    """Return the frames of the main thread, innermost first, as the watchdog of `faulthandler` wrote them."""
    begins = [number for number, line in enumerate(lines) if line.startswith("Timeout (")]
    if not begins:
        return None
    heads = [number for number, line in enumerate(lines) if number > begins[-1] and "(most recent call first)" in line]
    if not heads:
        return None
    stack = []
    for line in lines[heads[-1] + 1 :]:  # the main thread comes last
        if not _FRAME.match(line):
            break
        stack.append(line)
    return stack
