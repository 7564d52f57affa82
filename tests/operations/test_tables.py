"""Tables on a terminal of 80 columns, and in a pipe."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios

import pytest

from testing.exposures import DAY_OBS, obs_id

from .conftest import Site

WIDTH = 80


def on_terminal(site: Site, *words: str) -> list[str]:
    """Run a command on a terminal; return the lines that it shows."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, WIDTH, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "NO_COLOR")}
    command = [sys.executable, "-m", "autoingest", *words, "--config", str(site.config)]
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=subprocess.DEVNULL, env=environment) as process:
        os.close(theirs)
        shown = b""
        while more := _read(ours):
            shown += more
        os.close(ours)
    assert process.returncode in (0, 1), shown
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode()).splitlines()


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # the other end is closed
        return b""


@pytest.fixture
def unwell(site: Site) -> Site:
    """A site with an exposure of which nine images are in the store, one of them dead, and eight missing."""
    files = site.files(1, range(9))
    site.put(files)
    site.redis.hset(f"DEAD:{site.bucket}", files[3].path, "{}")
    return site


@pytest.mark.parametrize(
    ("words", "whole"),
    [
        (("reconcile", "--day", str(DAY_OBS), "--grace", "0s"), [obs_id(1), "missing", "9/205", "8 missing, 1 dead"]),
        (("queue", "status"), ["queued", "waiting", "rejected"]),
        (("audit",), ["queued", "ingested", "given up"]),
        (("status",), ["in work", "waiting", "workers"]),
    ],
    ids=lambda words: words[0] if isinstance(words, tuple) else "",
)
def test_table_fits_a_terminal(unwell: Site, words: tuple[str, ...], whole: list[str]) -> None:
    lines = on_terminal(unwell, *words)
    assert max(map(len, lines)) <= WIDTH
    text = "\n".join(lines)
    assert [part for part in whole if part not in text] == [], text


def test_table_is_plain_in_a_pipe(unwell: Site) -> None:
    text = unwell.run("reconcile", "--day", str(DAY_OBS), "--grace", "0s", code=1)
    (line,) = [line for line in text.splitlines() if obs_id(1) in line]
    assert line.split()[:4] == [obs_id(1), "missing", "9/205", "0/205"]
    assert "not in the store: R00: SG0 SG1 SW0 SW1; " in line
    assert "more rafts" in line
    assert text.isascii()
    assert "\x1b" not in text
