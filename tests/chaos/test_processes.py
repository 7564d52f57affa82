"""Processes that are killed, stopped, doubled and replaced while exposures come in."""

from __future__ import annotations

import pytest

from testing.chaos import Chaos
from testing.waiting import wait_for


@pytest.mark.short
def test_kills_of_every_role_and_the_butler(chaos: Chaos) -> None:
    """SIGKILL at random moments: ingest workers, their Butler processes, enqueue, idle."""
    enqueue, *workers, idle = members = chaos.start("enqueue", "ingest", "ingest", "idle")
    chaos.camera.start()
    for number in chaos.moments(len(members) - 3 + 4 * chaos.repeat):
        if number < len(members):
            chaos.kill(members[number])
        elif number % 2 == 0:
            chaos.kill_butler(chaos.any_ready(workers))
        else:
            chaos.kill(chaos.any_ready([*workers, enqueue, idle]))
    chaos.finish()


@pytest.mark.short
def test_worker_stopped_for_longer_than_its_lease(chaos: Chaos) -> None:
    """What others have done meanwhile is not done again: late acknowledgements do no harm."""
    _, stopped = chaos.start("enqueue,ingest,idle", "ingest")
    chaos.store.delay = 0.5
    chaos.camera.cadence = 0.3
    chaos.camera.start()
    wait_for(lambda: chaos.held_by(stopped) > 0, "a batch of the worker to be stopped")
    for _ in chaos.moments(1, (0.05, 0.3)):
        with chaos.stopped(chaos.process(stopped), "SIGSTOP of ingest"):
            assert chaos.held_by(stopped) > 0
            wait_for(lambda: chaos.held_by(stopped) == 0, "its batch is another's")
            chaos.settle()
    assert chaos.site.stop(chaos.site.processes[stopped.index]) == 0, "it has ended its batch first"
    chaos.finish()


def test_two_of_every_role(chaos: Chaos) -> None:
    members = chaos.start(*["enqueue", "ingest", "idle", "presence"] * 2)
    chaos.camera.duplicates = 1
    chaos.camera.start()
    for _ in chaos.moments(4 * chaos.repeat):
        chaos.kill(chaos.any_ready(members))
    chaos.finish()


def test_rolling_restart_under_load(chaos: Chaos) -> None:
    members = chaos.start(*["enqueue", "ingest", "idle", "presence"] * 2)
    chaos.camera.cadence = 3.0
    chaos.camera.start()
    for member in members:
        chaos.replace(member)
    assert chaos.camera.is_busy or chaos.camera.sent
    chaos.finish()
