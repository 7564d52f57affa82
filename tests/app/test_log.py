"""What is logged, and what is not."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

CUT = """
import sys, sqlalchemy
from autoingest.app.config import LoggingConfig
from autoingest.app.log import configure_logging

if sys.argv[2] == "ours":
    configure_logging(LoggingConfig())
engine = sqlalchemy.create_engine(sys.argv[1])
with engine.connect() as connection, engine.connect() as other:
    pid = connection.execute(sqlalchemy.text("SELECT pg_backend_pid()")).scalar_one()
    rows = connection.execution_options(stream_results=True).execute(sqlalchemy.text("SELECT generate_series(1, 9999)"))
    rows.fetchone()
    other.execute(sqlalchemy.text(f"SELECT pg_terminate_backend({pid}, 60000)"))
    rows.close()
    connection.invalidate()
"""


def _told(postgres_url: str, logging: str) -> str:
    command = [sys.executable, "-c", CUT, postgres_url, logging]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stderr


def test_pool_adds_no_traceback_to_the_error_of_a_cut_connection(postgres_url: str) -> None:
    assert "Error closing cursor" in _told(postgres_url, "theirs")
    assert _told(postgres_url, "ours") == ""


ODD = r"""
import logging, structlog
from autoingest.app.config import LoggingConfig
from autoingest.app.log import configure_logging

configure_logging(LoggingConfig(format=FORMAT))
odd = "María \x1b]0;owned\x07 \x9b31m \r\n2026-11-26 forged \u202e \udcff"
log = structlog.get_logger("ours")
log.warning(odd, key=odd, keys=[odd], error=ValueError(odd), raw=odd.encode(errors="surrogateescape"))
logging.getLogger("theirs").error("said %s", odd)
try:
    raise ValueError(odd)
except ValueError:
    log.exception("failed", key=odd)
    logging.getLogger("theirs").exception("failed %s", odd)
"""


@pytest.mark.parametrize("form", ["console", "json"])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_nothing_that_is_logged_commands_a_terminal(form: str, encoding: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"FORMAT = {form!r}" + ODD],
        check=True, capture_output=True, timeout=120, env={**os.environ, "PYTHONIOENCODING": encoding},
    )  # fmt: skip
    told = done.stderr.decode()
    assert "owned" in told
    assert not {letter for letter in told if (letter != "\n" and ord(letter) < 32) or 127 <= ord(letter) < 160}
    assert "\u202e" not in told
    forged = [line for line in told.splitlines() if line.startswith("2026-11-26 forged")]
    # A traceback has the lines of its exception's text.
    assert len(forged) == (2 if form == "console" else 0)
