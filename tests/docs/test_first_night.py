"""The tutorial, and the operators' commands of all pages, against the site that the tutorial starts."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from testing import documents

SITE = "autoingest-data/config.yaml"
BEGIN = ("make demo", "export PATH", "mkdir ", "autoingest run")
"""Commands of the tutorial that the fixture stands for."""

OPERATORS = ("queue", "audit", "reconcile", "trigger")


@dataclass
class Shell:
    """A terminal in the tutorial's folder."""

    folder: Path
    environment: dict[str, str]

    def run(self, command: str, *, answer: str = "") -> subprocess.CompletedProcess[str]:
        """Run a command, and keep the variables that it exports."""
        variables = self.folder / "variables"
        done = subprocess.run(
            ["bash", "-c", f"{command}\ncode=$?; env -0 > {variables}; exit $code"],
            cwd=self.folder, env=self.environment, input=answer, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        entries = [entry.partition("=") for entry in variables.read_text().split("\0") if entry]
        self.environment = {name: value for name, _, value in entries}
        return done

    def settle(self) -> None:
        """Wait until nothing is queued or in work."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            done = self.run(f"autoingest queue status --config {SITE} --json")
            assert done.returncode == 0, done.stderr
            if not any(queue["depth"] or queue["working"] for queue in json.loads(done.stdout).values()):
                return
            time.sleep(0.5)
        pytest.fail("work is left after a minute")


@pytest.fixture(scope="module")
def port() -> int:
    """The first of three free ports, below those that the kernel gives to connections."""
    while True:
        first = random.randrange(20_000, 32_000)
        with ExitStack() as stack, suppress(OSError):
            for number in range(first, first + 3):
                stack.enter_context(socket.create_server(("127.0.0.1", number)))
            return first


@pytest.fixture(scope="module")
def shell(port: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    folder = tmp_path_factory.mktemp("first-night")
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AWS_", "S3_", "AUTOINGEST_", "LSST_"))
    }
    environment |= {"PATH": f"{Path(sys.executable).parent}:{environment['PATH']}", "COLUMNS": "200"}
    with (folder / "run.log").open("w") as log:
        site = subprocess.Popen(
            ["autoingest", "run", "--port", str(port)], cwd=folder, env=environment, stdout=log, stderr=log
        )
        try:
            deadline = time.monotonic() + 60
            while "roles started" not in (folder / "run.log").read_text():
                assert site.poll() is None, (folder / "run.log").read_text()
                assert time.monotonic() < deadline, "the site does not start"
                time.sleep(0.2)
            yield Shell(folder, environment)
        finally:
            site.send_signal(signal.SIGTERM)
            assert site.wait(60) == 0


def test_tutorial(shell: Shell, port: int) -> None:
    """Each command prints what the page shows, but for times and the parts left out (...)."""
    text = (documents.ROOT / "docs/first-night.md").read_text()
    for number in range(3):
        text = text.replace(f":{8000 + number}", f":{port + number}")
    for block in re.findall(r"```console\n(.*?)```", text, re.DOTALL):
        for step in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, shown = step.partition("\n")
            if command.startswith(BEGIN):
                continue
            if "--grace" in command or "audit" in command or "queue" in command or "curl" in command:
                shell.settle()
            done = shell.run(command)
            for expected, line in zip(_lines(shown), _lines(done.stdout), strict="butler" not in command):
                assert re.fullmatch(re.escape(expected).replace(r"\.\.\.", ".*"), line), (command, done.stdout)


def test_run_prints_how_the_store_is_reached(shell: Shell) -> None:
    printed = re.search(r"^  (export S3_ENDPOINT_URL=.*)$", (shell.folder / "run.log").read_text(), re.MULTILINE)
    assert printed
    listing = shell.run(f"{printed[1]}\ncurl -sf $S3_ENDPOINT_URL/rubin-summit")
    assert "<Name>rubin-summit</Name>" in listing.stdout
    assert shell.environment["AWS_SECRET_ACCESS_KEY"] == "development"


def _lines(text: str) -> list[str]:
    return [re.sub(r"\d+\.\d+ s$", "TIME s", line.rstrip()) for line in text.rstrip("\n").splitlines()]


COMMANDS = sorted(
    {tuple(call) for call in documents.calls("autoingest") if call[0] in OPERATORS and "--notify" not in call}
)


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_operators_command(shell: Shell, arguments: tuple[str, ...]) -> None:
    """Every command that operators are shown answers, whatever it finds: exit code 0 or 1, never 2."""
    for name in ("summit.yaml", "lfa.yaml"):
        shutil.copy(shell.folder / SITE, shell.folder / name)
    config = yaml.safe_load((shell.folder / SITE).read_text())
    assert config["buckets"] == ["rubin-summit"]
    shell.run('export S3_ENDPOINT_URL="$(cat autoingest-data/s3/url)" AWS_ACCESS_KEY_ID=development')
    shell.run("export AWS_SECRET_ACCESS_KEY=development")
    words = [word.replace("/etc/autoingest/config.yaml", "summit.yaml") for word in arguments]
    done = shell.run("autoingest " + " ".join(words), answer="n\n")
    assert done.returncode in (0, 1), done.stderr
    assert "Traceback" not in done.stderr
