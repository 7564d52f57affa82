"""File descriptors that are kept for when all others are used up."""

from __future__ import annotations

import os
from contextlib import suppress


class Spare:
    """Descriptors that are held only to be let go of when there are no others.

    Parameters
    ----------
    number
        How many.
    """

    def __init__(self, number: int) -> None:
        self._number = number
        self._held: list[int] = []
        self.fill()

    def fill(self) -> None:
        """Take as many as are wanted and can be had."""
        with suppress(OSError):
            while len(self._held) < self._number:
                self._held.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))

    def let_go(self) -> bool:
        """Let go of one, if there is one left."""
        if not self._held:
            return False
        os.close(self._held.pop())
        return True

    def close(self) -> None:
        """Let go of all."""
        self._number = 0
        while self.let_go():
            pass
