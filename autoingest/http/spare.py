"""A reserve of file descriptors."""

from __future__ import annotations

import os
from contextlib import suppress


class Spare:
    """Descriptors that are kept open, and closed when the process has no others left.

    Parameters
    ----------
    number
        Size of the reserve.
    """

    def __init__(self, number: int) -> None:
        self._number = number
        self._held: list[int] = []
        self.fill()

    def fill(self) -> None:
        """Refill the reserve as far as possible."""
        with suppress(OSError):
            while len(self._held) < self._number:
                self._held.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))

    def let_go(self) -> bool:
        """Close one; return False if none is left."""
        if not self._held:
            return False
        os.close(self._held.pop())
        return True

    def close(self) -> None:
        """Close all."""
        self._number = 0
        while self.let_go():
            pass
