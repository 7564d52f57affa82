"""Marks the file that a Butler process works on: its owner finds the mark if the process dies of the file."""

from __future__ import annotations

import os
import sys
from mmap import mmap
from tempfile import TemporaryFile

SIZE = 4096
"""Size of the memory in bytes; a path has at most some 1,100."""

LENGTH = 2
"""Bytes of the length that precedes the path."""


class Bookmark:
    """A path in shared memory.

    Parameters
    ----------
    descriptor
        File descriptor of the memory, as the other process calls it; by default new memory.
    """

    def __init__(self, descriptor: int | None = None) -> None:
        if descriptor is None:
            descriptor = _new_memory()
        os.truncate(descriptor, SIZE)
        self.descriptor = descriptor
        self._memory = mmap(descriptor, SIZE)

    @property
    def path(self) -> str:
        """The path; empty if there is none."""
        length = int.from_bytes(self._memory[:LENGTH], "big")
        return self._memory[LENGTH : LENGTH + length].decode(errors="replace")

    @path.setter
    def path(self, value: str) -> None:
        data = value.encode(errors="replace")[: SIZE - LENGTH]
        self._memory[: LENGTH + len(data)] = len(data).to_bytes(LENGTH, "big") + data

    def close(self) -> None:
        """Give the memory back."""
        self._memory.close()
        os.close(self.descriptor)


def _new_memory() -> int:
    if sys.platform == "linux":
        return os.memfd_create("bookmark")  # needs no file system that can be written
    with TemporaryFile() as file:
        return os.dup(file.fileno())


current: Bookmark | None = None
"""That of this process, if it is a Butler process."""


def mark(path: str) -> None:
    """Say that this process now works on a single file; an empty path: on several, or none."""
    if current is not None:
        current.path = path
