"""Files that end the Butler process, or all of the program, while exposures come in."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

import testing
from autoingest.queue import keys
from testing.chaos import INGEST, Chaos
from testing.shots import BUCKET
from testing.waiting import wait_for

ALL = "enqueue,ingest,idle"
POISON = Path(testing.__file__).parent / "poison"


def poison(chaos: Chaos, *harms: str) -> list[str]:
    """Have images of different exposures do harm, the first exposure's two first; return their paths."""
    chaos.site.environment = {**chaos.site.environment, "PYTHONPATH": str(POISON)}
    first = chaos.shots[0].exposure
    of_first = [shot.path for shot in chaos.shots if shot.exposure == first]
    others = [shot.path for shot in chaos.shots if shot.exposure != first]
    paths = [*chaos.chance.sample(of_first, 2), *chaos.chance.sample(others, len(harms))][: len(harms)]
    chaos.camera.cards = {path: {"POISON": harm} for path, harm in zip(paths, harms, strict=True)}
    chaos.fault("poisoned file", len(harms))
    return paths


def mates_are_in(chaos: Chaos, culprits: Sequence[str]) -> None:
    """Wait until all but the culprits are ingested; on a busy machine a new process alone may take 10 s."""
    begin = time.monotonic()
    wait_for(lambda: chaos.ingested() == len(chaos.shots) - len(culprits), "the others are in", 300)
    print(f"the others are in after {time.monotonic() - begin:.1f} s")


def letters(chaos: Chaos) -> dict[str, str]:
    """What each dead letter says of its file."""
    with chaos.client as client:
        return {path: json.loads(letter)["exception"] for path, letter in client.hgetall(keys.dead(BUCKET)).items()}


@pytest.mark.short
def test_files_that_end_the_butler_process(chaos: Chaos) -> None:
    """Of several kinds, with both workers: each alone becomes a dead letter that says how the process ended."""
    culprits = poison(chaos, "exit", "SIGSEGV", "SIGABRT", "garbage", "memory", "SystemExit")
    crashed, by_signal, *_, memory, left = culprits
    chaos.start(ALL)
    chaos.camera.start()
    chaos.camera.join()
    mates_are_in(chaos, culprits)
    reasons = dict.fromkeys(culprits, "crash") | {memory: "failed", left: "failed"}
    wait_for(lambda: len(letters(chaos)) == len(culprits), "letters of all culprits", 200)
    told = letters(chaos)
    assert "exit code 3" in told[crashed]
    assert "the library gives up" in told[crashed]
    assert "SIGSEGV" in told[by_signal]
    assert "in harm" in told[by_signal]
    assert "MemoryError" in told[memory]
    assert told[left] == "SystemExit: 4"
    chaos.finish(dead=reasons)


def test_a_file_that_hangs(chaos: Chaos) -> None:
    """The other files of its exposure are in once the process has been replaced."""
    [culprit] = poison(chaos, "hang")
    chaos.start(ALL)
    chaos.camera.start()
    wait_for(lambda: "no answer within" in chaos.site.logs(), "the hang")
    begin = time.monotonic()
    with chaos.client as client:
        mates = {shot.path for shot in chaos.shots if shot.exposure == chaos.shots[0].exposure} - {culprit}
        wait_for(lambda: all(client.hget(keys.file(path), "state") == "ingested" for path in mates), "they are in")
    print(f"the rest of the exposure is in {time.monotonic() - begin:.1f} s after the hang was noticed")
    wait_for(lambda: len(letters(chaos)) == 1, "its letter", 200)
    chaos.finish(dead={culprit: "crash"})


def test_files_that_hang(chaos: Chaos) -> None:
    culprits = poison(chaos, "hang", "sleep", "exit")
    chaos.start(ALL)
    chaos.camera.start()
    wait_for(lambda: "no answer within" in chaos.site.logs(), "a hang")
    chaos.camera.join()
    mates_are_in(chaos, culprits)
    wait_for(lambda: len(letters(chaos)) == len(culprits), "letters of all culprits", 200)
    assert all("in harm" in text for path, text in letters(chaos).items() if path in culprits[:2])
    chaos.finish(dead=dict.fromkeys(culprits, "crash"))


def test_files_that_crash_only_together(chaos: Chaos) -> None:
    """Alone each goes in, so none is given up."""
    poison(chaos, "pair", "pair")
    chaos.start(ALL)
    chaos.camera.start()
    chaos.finish()


def test_kills_from_outside_beside_a_suspect(chaos: Chaos) -> None:
    """Whatever is killed from outside, and however often, only the file that ends processes by itself is given up."""
    [culprit] = poison(chaos, "exit")
    _, *workers = chaos.start("enqueue,idle", "ingest", "ingest")
    chaos.camera.start()
    for number in chaos.moments(12 * chaos.repeat, (0.05, 1.5)):
        if number % 3:
            chaos.kill_butler(chaos.any_ready(workers))
        else:
            chaos.kill(chaos.any_ready(workers))
    chaos.finish(dead={culprit: "crash"})


def test_kills_from_outside_as_soon_as_a_process_is_ready(chaos: Chaos) -> None:
    """No good file is given up, though the processes are killed at the worst moment again and again."""
    poison(chaos)
    _, worker = chaos.start("enqueue,idle", "ingest")
    chaos.camera.start()
    for _ in range(8 * chaos.repeat):
        wait_for(lambda: chaos.site.is_ready(worker.index), "it is ready")
        chaos.kill_butler(worker)
        wait_for(lambda: not chaos.site.is_ready(worker.index) or not chaos.unsettled(), "it is noticed")
    chaos.finish()


@pytest.mark.parametrize("harm", ["pod", "pod always"])
def test_file_that_ends_the_whole_program(chaos: Chaos, harm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the dead program has counted is in Redis."""
    [culprit] = poison(chaos, harm)
    chaos.start("enqueue,idle")
    [worker] = chaos.start("ingest")
    chaos.camera.start()

    def restarted() -> bool:
        """Start the worker again when it has died, as a supervisor does."""
        process = chaos.site.processes[worker.index]
        if process.poll() is not None:
            chaos.fault("end of the program")
            chaos.launch(worker)
        return chaos.ingested() == len(chaos.shots) - 1

    wait_for(restarted, "the others are in", 180)
    if harm == "pod":
        wait_for(lambda: restarted() and bool(letters(chaos)), "its letter", 120)
        assert "MemoryError" in letters(chaos)[culprit]
        chaos.finish(dead={culprit: "failed"})
    else:
        # The letter comes after ten trials, minutes later; until then it is a single file that keeps coming back.
        with chaos.client as client:
            trials = int(client.hget(keys.file(culprit), "trials") or 0)
            others = [shot.path for shot in chaos.shots if client.hexists(keys.file(shot.path), "tries")]
        assert trials >= 1
        assert others == [culprit]


assert INGEST["batchTimeout"] < 5, "hangs are short here"
