"""Calls of Helm that pages show."""

import re
import subprocess
from pathlib import Path

from testing import documents


def test_helm(helm: Path) -> None:
    calls = list(documents.calls("helm"))
    assert calls
    for call in calls:
        words = [word for word in call if not word.startswith("-")]
        verb = next(word for word in words if word in ("install", "upgrade", "test", "template", "uninstall"))
        shown = subprocess.run([helm, verb, "--help"], capture_output=True, text=True, check=True).stdout
        known = set(re.findall(r"(?<![\w-])(--?[a-z][a-z-]*)", shown))
        assert {word.partition("=")[0] for word in call if word.startswith("-")} <= known, call
        for path in (word for word in words if word.startswith("helm/")):
            assert (documents.ROOT / path / "Chart.yaml").is_file(), call
