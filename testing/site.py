"""A whole site for a test: the program's processes around given servers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from prometheus_client.parser import text_string_to_metric_families

from autoingest.dev.embedded import free_port

from .waiting import wait_for


@dataclass
class Site:
    """Processes of one site, their configuration and their logs."""

    folder: Path
    redis_url: str
    repo: str
    buckets: Sequence[str] = ("rubin-summit",)
    environment: Mapping[str, str] = field(default_factory=dict)
    ingest: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    enqueue: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the block ``enqueue`` beside ``listen``."""
    limits: Mapping[str, Any] = field(default_factory=dict)
    """Settings of its ``listen`` beside address and port."""
    notify_port: int = field(default_factory=free_port)
    presence_port: int = field(default_factory=free_port)
    events_port: int = field(default_factory=free_port)
    events: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the block ``events`` beside ``listen``."""
    command: Sequence[str] = ()
    """What the program is started by, if not by this process itself."""
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    admin_ports: list[int] = field(default_factory=list)

    @property
    def notify_url(self) -> str:
        return f"http://127.0.0.1:{self.notify_port}/notify"

    @property
    def events_url(self) -> str:
        return f"http://127.0.0.1:{self.events_port}"

    def start(self, roles: str, *options: str, ready: bool = True) -> subprocess.Popen[bytes]:
        """Start ``autoingest run`` with `roles`, and wait until it says that it is ready."""
        number = len(self.processes)
        admin = free_port()
        config = {
            "buckets": list(self.buckets),
            "redis": {"url": self.redis_url},
            "enqueue": {
                "listen": {"host": "127.0.0.1", "port": self.notify_port, **self.limits},
                **self.enqueue,
            },
            "presence": {"listen": {"host": "127.0.0.1", "port": self.presence_port}},
            "events": {
                "listen": {"host": "127.0.0.1", "port": self.events_port},
                "unauthenticated": True,
                **self.events,
            },
            "admin": {"listen": {"host": "127.0.0.1", "port": admin}},
            "ingest": {"repo": self.repo, **self.ingest},
            "idle": {"interval": 0.5},
            **self.settings,
        }
        file = self.folder / f"process-{number}.yaml"
        file.write_text(yaml.safe_dump(config))
        log = self.folder / f"process-{number}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [
                    *self.command,
                    sys.executable,
                    "-m",
                    "autoingest",
                    "run",
                    "--config",
                    str(file),
                    "--roles",
                    roles,
                    *options,
                ],
                env={**os.environ, **self.environment},
                stdout=output,
                stderr=output,
            )
        self.processes.append(process)
        self.admin_ports.append(admin)
        if ready:
            self.wait_ready(number)
        return process

    def is_ready(self, number: int) -> bool:
        """Whether a process, by its number in `processes`, says that it is ready."""
        return _ready(self.admin_ports[number])

    def wait_ready(self, number: int) -> None:
        """Wait until a process says that it is ready."""
        process, log = self.processes[number], self.folder / f"process-{number}.log"
        wait_for(lambda: self.is_ready(number) or process.poll() is not None, f"process {number} ready, see {log}")
        assert process.poll() is None, log.read_text()[-2000:]

    def stop(self, process: subprocess.Popen[bytes], timeout: float = 60) -> int:
        """Ask a process to end, and return its exit code."""
        process.send_signal(signal.SIGTERM)
        return process.wait(timeout)

    def close(self) -> None:
        """Kill what still runs."""
        for process in self.processes:
            if process.poll() is None:
                process.kill()
                process.wait()

    def metric(self, name: str, process: int = 0) -> float:
        """Sum of a metric of one process over its labels; 0 where it does not exist yet."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin_ports[process]}/metrics", timeout=30) as response:
            families = text_string_to_metric_families(response.read().decode())
        return sum(sample.value for family in families for sample in family.samples if sample.name == name)

    def logs(self) -> str:
        """Everything that the processes have logged."""
        return "\n".join(file.read_text() for file in sorted(self.folder.glob("process-*.log")))


def _ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False
