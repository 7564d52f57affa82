"""The program as the operating system sees it."""

from __future__ import annotations

import http.client
import json
import time
from dataclasses import dataclass
from typing import Any

import psutil

from testing.site import Site

MIB = 2**20
PATIENCE = 120.0
"""Seconds within which a program must be ready."""


@dataclass(frozen=True)
class Memory:
    """Memory of a program and of the Butler processes that it runs, MiB."""

    own: float
    """Resident, the program itself."""
    butlers: list[float]
    """Resident, each Butler process."""
    together: float
    """Proportional: what is shared between them counts once."""


def cpu(pid: int) -> float:
    """Return the processor time that a program and its children have taken, seconds."""
    used = 0.0
    for process in _family(pid):
        times = process.cpu_times()
        used += times.user + times.system
    return used


def memory(pid: int) -> Memory:
    """Return the memory that a program and its children hold now."""
    resident, proportional = [], 0.0
    for process in _family(pid):
        info: Any = process.memory_full_info()
        resident.append(info.rss / MIB)
        proportional += info.pss / MIB
    return Memory(resident[0], resident[1:], proportional)


def _family(pid: int) -> list[psutil.Process]:
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def start(site: Site, roles: str) -> tuple[float, Memory]:
    """Start a program with some roles; return the seconds until it missed nothing any more, and its memory then."""
    began = time.perf_counter()
    process = site.start(roles, ready=False)
    while (taken := time.perf_counter() - began) < PATIENCE and process.poll() is None:
        if _missing(site.admin_ports[-1]) == []:
            return taken, memory(process.pid)
        time.sleep(0.005)
    raise RuntimeError(f"{roles} not ready after {taken:.0f} s:\n{site.logs()}")


def _missing(port: int) -> object:
    """Return what ``/readyz`` misses, None if nobody answers. Its status tells nothing of ingest where enqueue runs."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/readyz")
        return json.load(connection.getresponse())["troubles"]
    except OSError:
        return None
    finally:
        connection.close()
