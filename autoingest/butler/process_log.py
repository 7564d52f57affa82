"""What a child process writes to its log: passed on, with the last of it kept for a dead letter."""

from __future__ import annotations

import asyncio
import os
import re
import threading
from contextlib import suppress

KEPT = 64 * 1024
"""Bytes kept of what was written last."""

LINES = 20
CHARACTERS = 2000
"""Lines and characters that are told at the most."""

_FRAME = re.compile(r'\s*File "([^"]+)", line \d+ in ')
_WAITS_FOR_SERVER = ("/psycopg/", "/psycopg_binary/", "/sqlalchemy/", "/socket.py", "/ssl.py", "/selectors.py")
"""Parts of the paths of modules that wait for database or store."""


class ProcessLog:
    """A pipe that is emptied by a thread of its own, so that no flood holds up either process.

    The thread writes to this process's standard error, and ends when the last writer has closed its end.
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
        """Return what was written last; the writer has ended, and `wait` is how many seconds its last words may take.

        A process that the writer has left behind may keep the pipe open.
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
                    continue  # nobody reads our log; the writer must not be held up


def last_words(text: str) -> str:
    """Return the end of a log for people to read: where the process was, if that was told, else its last lines."""
    lines = text.splitlines()
    begins = [number for number, line in enumerate(lines) if line.startswith("Fatal Python error")]
    if begins:
        return "\n".join(lines[begins[-1] : begins[-1] + LINES])[:CHARACTERS]
    if stack := _main_stack(lines):
        return "\n".join(stack[:LINES])[:CHARACTERS]
    return "\n".join(lines[-LINES:])[-CHARACTERS:]


def waited_for_server(text: str) -> bool | None:
    """Tell whether a process that took too long was waiting for database or store; None if it did not say.

    It says so by itself shortly before its time is over, whatever it is doing. One that says nothing was kept from
    running, by a stop signal or for lack of a processor.
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
