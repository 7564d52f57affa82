"""Seconds and memory from the start of a process until it is ready."""

from __future__ import annotations

import subprocess
import sys
import time

from . import bench, program
from .report import Row

ROLES: dict[str, tuple[float | None, float | None]] = {
    "enqueue": (1.1, 39.0),
    "ingest": (1.1, 206.0),
    "idle": (1.1, 39.0),
    "presence": (1.1, 39.0),
    "reconcile": (None, None),
    "enqueue,ingest,idle,presence": (None, None),
}
"""Roles of one process -> seconds and MiB of the replaced implementation: the lower ends of its ranges."""

HELP = [sys.executable, "-m", "autoingest", "--help"]

IMPORTS = [sys.executable, "-c", "import os, lsst.daf.butler; os._exit(0)"]
"""What every ingest worker starts with at the least."""

IMPORTS_BASELINE = 0.65
"""Seconds of it where the replaced implementation was measured: tells how fast this machine is beside that one."""


async def measure(servers: bench.Servers) -> list[Row]:
    """Start every role alone and all of one pod together; ingest has a repository on PostgreSQL."""
    rows = []
    repo = bench.repository(servers)
    with bench.s3(servers.folder):
        for roles, (before_s, before_mib) in ROLES.items():
            taken, held = [], []
            for _ in range(servers.runs):
                async with bench.empty_redis(servers.redis_url):
                    with bench.site(servers, repo) as site:
                        seconds, memory = program.start(site, roles)
                taken.append(seconds)
                held.append(memory)
            rows.append(Row(f"start: {roles}, exec to ready", "s", taken, before_s))
            rows += memory_rows(f"start: {roles}, when ready", held, before_mib, butlers="ingest" in roles)
    return [
        *rows,
        Row("start: autoingest --help", "s", [_taken(HELP) for _ in range(servers.runs)]),
        Row("start: import of the Butler alone", "s", [_taken(IMPORTS) for _ in range(servers.runs)], IMPORTS_BASELINE),
    ]


def memory_rows(
    name: str, held: list[program.Memory], before: float | None = None, *, butlers: bool = True
) -> list[Row]:
    """Return rows of a program's memory, and of its Butler process if it keeps one."""
    own = [each.own for each in held]
    if not butlers:
        return [Row(f"{name}: memory", "MiB", own, before)]
    return [
        Row(f"{name}: memory", "MiB", own),
        Row(f"{name}: memory of a Butler process", "MiB", [max(each.butlers) for each in held]),
        Row(f"{name}: memory of all, shared pages once", "MiB", [each.together for each in held], before),
    ]


def _taken(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began
