"""The program's entry."""

from __future__ import annotations

import subprocess
import sys


def test_sigterm_is_heard_before_anything_is_imported() -> None:
    code = """
import os, signal, sys, types
import autoingest.__main__
assert "click" not in sys.modules
stub = types.ModuleType("autoingest.cli")
stub.main = lambda: os.kill(os.getpid(), signal.SIGTERM)
sys.modules["autoingest.cli"] = stub
autoingest.__main__.main()
"""
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 143
