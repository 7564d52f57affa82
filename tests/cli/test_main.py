"""The program's entry."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


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


def test_shells_complete_commands_and_options() -> None:
    program = str(Path(sys.executable).with_name("autoingest"))

    def complete(words: str) -> list[str]:
        environment = {
            "_AUTOINGEST_COMPLETE": "bash_complete",
            "COMP_WORDS": words,
            "COMP_CWORD": str(words.count(" ")),
        }
        done = subprocess.run(
            [program], env={**os.environ, **environment}, capture_output=True, text=True, timeout=60, check=True
        )
        return done.stdout.split()

    environment = {**os.environ, "_AUTOINGEST_COMPLETE": "bash_source"}
    script = subprocess.run([program], env=environment, capture_output=True, text=True, timeout=60, check=True).stdout
    assert "complete -o nosort -F" in script
    assert complete("autoingest rec") == ["plain,reconcile"]
    assert "plain,--heal" in complete("autoingest reconcile --he")
