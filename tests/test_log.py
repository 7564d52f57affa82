"""What is logged, and what is not."""

from __future__ import annotations

import subprocess
import sys

CUT = """
import sys, sqlalchemy
from autoingest.config import LoggingConfig
from autoingest.log import configure_logging

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
