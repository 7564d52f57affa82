"""The mark that a Butler process leaves at the file that it works on."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing

import pytest

from autoingest.butler import bookmark
from autoingest.butler.bookmark import SIZE, Bookmark


@pytest.fixture
def mark() -> Iterator[Bookmark]:
    with closing(Bookmark()) as made:
        yield made


@pytest.mark.parametrize("path", ["", "b/x.fits", "b/é\u0000☃.fits", "b/" + "x" * 1100, "x"])
def test_what_is_written_is_read(mark: Bookmark, path: str) -> None:
    mark.path = "b/something longer than the next"
    mark.path = path
    assert mark.path == path


def test_too_long_or_not_text(mark: Bookmark) -> None:
    mark.path = "x" * 2 * SIZE
    assert mark.path == "x" * (SIZE - 2)
    mark.path = "b/\udcff.fits"
    assert mark.path == "b/?.fits"


def test_owner_sees_the_mark_of_a_process_that_was_killed(mark: Bookmark) -> None:
    code = (
        "import os, sys; from autoingest.butler import bookmark;"
        " bookmark.current = bookmark.Bookmark(int(sys.argv[1])); bookmark.mark('b/x.fits'); os.kill(os.getpid(), 9)"
    )
    command = [sys.executable, "-c", code, str(mark.descriptor)]
    assert subprocess.run(command, pass_fds=[mark.descriptor], check=False).returncode == -9
    assert mark.path == "b/x.fits"


def test_nothing_is_marked_outside_a_butler_process() -> None:
    assert bookmark.current is None
    bookmark.mark("b/x.fits")
