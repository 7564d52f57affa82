"""Commands of the command line, run within the test's process."""

from __future__ import annotations

import logging

import structlog
from click.testing import CliRunner, Result

from autoingest.cli import cli


def run(*arguments: str) -> Result:
    """Run a command, and leave logging as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        return CliRunner().invoke(cli, arguments)
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        logging.captureWarnings(False)
        structlog.reset_defaults()
