from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import sqlalchemy

import testing
from autoingest.app.config import IngestConfig, LoggingConfig
from autoingest.butler.process import ButlerEndedError, ButlerProcess
from autoingest.errors import ConfigurationError, TransientError
from testing import exposures

from .conftest import Repository
from .contents import OpenButler, outcomes, stored


@pytest.fixture
async def process(repository: Repository) -> AsyncIterator[ButlerProcess]:
    process = ButlerProcess(IngestConfig(repo=repository.root), LoggingConfig())
    await process.start()
    yield process
    await process.close()


@contextmanager
def registry_locked(repository: Repository) -> Iterator[None]:
    """Keep everybody else from writing to an SQLite repository, as another writer does."""
    holder = sqlite3.connect(Path(repository.root) / "gen3.sqlite3", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        holder.rollback()
        holder.close()


async def ended(pid: int) -> None:
    """Wait until a process that is not our child has gone."""
    async with asyncio.timeout(60):
        # It may end between any two looks at it.
        with suppress(psutil.NoSuchProcess):
            while psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                await asyncio.sleep(0.02)


async def test_launched_before_it_is_needed(repository: Repository) -> None:
    process = ButlerProcess(IngestConfig(repo=repository.root), LoggingConfig())
    await process.launch()
    pid = process.pid
    assert pid is not None
    assert process.unready_reason() == "opening the repository"
    await process.launch()
    await process.start()
    assert (process.pid, process.unready_reason()) == (pid, None)
    await process.close()
    await ended(pid)


async def test_launched_and_not_needed(tmp_path: Path) -> None:
    process = ButlerProcess(IngestConfig(repo=str(tmp_path)), LoggingConfig())
    await process.launch()
    pid = process.pid
    assert pid is not None
    await process.close()
    assert (process.pid, process.unready_reason()) == (None, "closed")
    await ended(pid)


async def test_killed_between_launch_and_start(repository: Repository) -> None:
    process = ButlerProcess(IngestConfig(repo=repository.root), LoggingConfig())
    await process.launch()
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    async with asyncio.timeout(60):
        while process.pid is not None:
            await asyncio.sleep(0.02)
    await process.start()
    assert process.unready_reason() is None
    await process.close()


async def test_serves_batches_one_at_a_time(process: ButlerProcess, open_butler: OpenButler) -> None:
    results = await asyncio.gather(
        *(process.ingest(exposures.files(1, range(n, n + 50)), 60) for n in range(0, 200, 50))
    )
    results.append(await process.ingest(exposures.files(1, range(200, 205)), 60))
    assert sum(len(item.visits) for item in results) == 1
    waiting = [result.path for item in results for result in item.files if result.outcome == "waiting"]
    again = await process.ingest([file for file in exposures.files(1) if file.path in waiting], 60)
    assert {item.outcome for item in again.files} <= {"ingested"}
    assert len(stored(open_butler(), 1)) == 205
    assert process.unready_reason() is None


async def test_what_begins_a_request_has_the_process_to_itself(process: ButlerProcess) -> None:
    """So whoever counts a trial there counts only what was in the process's hands when it ended."""
    under_way = asyncio.create_task(process.ingest(exposures.files(1), 60))
    began = []

    async def begin() -> None:
        assert under_way.done()
        began.append(process.pid)
        os.kill(began[0] or 0, signal.SIGKILL)
        async with asyncio.timeout(60):
            while process.pid is not None:
                await asyncio.sleep(0.01)

    await asyncio.sleep(0)
    assert outcomes(await process.ingest(exposures.files(2, [94]), 60, begin=begin)) == {"ingested": 1}
    assert len(began) == 1
    assert process.pid not in (None, *began), "what killed it then is not held against the file"

    async def refuse() -> None:
        raise LookupError

    with pytest.raises(LookupError):
        await process.ingest(exposures.files(2, [95]), 60, begin=refuse)
    assert outcomes(await process.ingest(exposures.files(2, [96]), 60)) == {"ingested": 1}


async def test_a_request_that_is_cancelled_leaves_no_answer_behind(process: ButlerProcess) -> None:
    for wait in (0.0, 0.001, 0.02, 0.1):
        request = asyncio.create_task(process.ingest(exposures.files(1), 60))
        waiting = asyncio.create_task(process.ingest(exposures.files(2), 60))
        await asyncio.sleep(wait)
        request.cancel()
        waiting.cancel()
        await asyncio.wait({request, waiting})
        result = await process.ingest(exposures.files(3, [94]), 60)
        assert [item.path for item in result.files] == [file.path for file in exposures.files(3, [94])]
    assert process.unready_reason() is None


@pytest.mark.parametrize("repository", ["sqlite"], indirect=True)
async def test_no_thread_for_its_log_is_an_outage(process: ButlerProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_thread(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    assert process.pid
    os.kill(process.pid, signal.SIGKILL)
    async with asyncio.timeout(60):
        while process.pid is not None:
            await asyncio.sleep(0.01)
    with monkeypatch.context() as patch:
        patch.setattr("autoingest.butler.process_log.threading.Thread.start", no_thread)
        descriptors = len(os.listdir("/proc/self/fd"))
        with pytest.raises(TransientError, match="can't start new thread"):
            await process._child.launch()
        assert len(os.listdir("/proc/self/fd")) == descriptors
    assert outcomes(await process.ingest(exposures.files(1, [94]), 60)) == {"ingested": 1}


async def test_differences_that_were_kept_are_told_once(process: ButlerProcess) -> None:
    told = []
    for detector, changes in [(94, {}), (95, {"VIGN_MIN": "FULLY"}), (96, {"VIGN_MIN": "FULLY"})]:
        told.append((await process.ingest(exposures.files(1, [detector], **changes), 60)).kept)
    assert told == [[], [("LSSTCam", "can_see_sky")], []]


async def test_two_processes_ingest_one_exposure(
    process: ButlerProcess, repository: Repository, open_butler: OpenButler
) -> None:
    other = ButlerProcess(IngestConfig(repo=repository.root), LoggingConfig())
    await other.start()
    for seq_num in range(1, 6):
        files = exposures.files(seq_num)
        science = [file for file in files if not file.is_guider]
        # Each has half of its own, and both have the middle: they insert the same records and datasets at once.
        mine, theirs = await asyncio.gather(process.ingest(science[:120], 60), other.ingest(science[80:], 60))
        assert {item.outcome for item in mine.files + theirs.files} == {"ingested"}
        assert len(stored(open_butler(), seq_num)) == 197
        duplicates = sum(item.duplicate for item in mine.files + theirs.files)
        assert duplicates == 40
    await other.close()


@pytest.mark.parametrize("repository", ["postgres"], indirect=True)
async def test_killed_in_a_batch(process: ButlerProcess, repository: Repository, open_butler: OpenButler) -> None:
    pid = process.pid
    assert pid
    assert repository.registry_url
    database = sqlalchemy.create_engine(repository.registry_url, poolclass=sqlalchemy.NullPool)
    with database.begin() as holder:
        holder.execute(sqlalchemy.text("LOCK TABLE file_datastore_records IN EXCLUSIVE MODE"))
        batch = asyncio.create_task(process.ingest(exposures.files(1), 60))
        # The batch has written its exposure, visit and datasets when it comes to the datastore's records.
        async with asyncio.timeout(60):
            while not holder.scalar(sqlalchemy.text("SELECT count(*) FROM pg_locks WHERE NOT granted")):
                await asyncio.sleep(0.01)
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(TransientError):
            await batch
    assert process.unready_reason()
    assert stored(open_butler(), 1) == {}
    result = await process.ingest(exposures.files(1), 60)
    assert (outcomes(result), len(result.visits)) == ({"ingested": 205}, 1)
    assert process.pid != pid
    assert len(stored(open_butler(), 1)) == 205


@pytest.mark.parametrize("repository", ["sqlite"], indirect=True)
async def test_taking_too_long(process: ButlerProcess, repository: Repository) -> None:
    pid = process.pid
    with registry_locked(repository), pytest.raises(TransientError):
        await process.ingest(exposures.files(1), 0.3)
    assert outcomes(await process.ingest(exposures.files(1), 60)) == {"ingested": 205}
    assert process.pid != pid


@pytest.mark.parametrize("repository", ["sqlite"], indirect=True)
async def test_dead_without_work_is_replaced(process: ButlerProcess) -> None:
    pid = process.pid
    assert pid
    os.kill(pid, signal.SIGKILL)
    async with asyncio.timeout(60):
        while process.unready_reason() is None:
            await asyncio.sleep(0.01)
    assert outcomes(await process.ingest(exposures.files(1, [94]), 60)) == {"ingested": 1}


@pytest.mark.parametrize("repository", ["sqlite"], indirect=True)
async def test_signals_are_the_owners_matter(process: ButlerProcess) -> None:
    pid = process.pid
    assert pid
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(pid, number)
        assert {item.outcome for item in (await process.ingest(exposures.files(1, [94]), 60)).files} == {"ingested"}
    assert process.pid == pid
    await process.close()
    await ended(pid)
    assert process.unready_reason() == "closed"


@pytest.mark.parametrize("repository", ["sqlite"], indirect=True)
async def test_dies_with_its_owner(repository: Repository) -> None:
    script = """
import asyncio, sys
from autoingest.butler.process import ButlerEndedError, ButlerProcess
from autoingest.app.config import IngestConfig, LoggingConfig
from autoingest.app.log import configure_logging

async def main():
    configure_logging(LoggingConfig())
    process = ButlerProcess(IngestConfig(repo=sys.argv[1]), LoggingConfig())
    await process.start()
    print(process.pid, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""
    owner = subprocess.Popen([sys.executable, "-c", script, repository.root], stdout=subprocess.PIPE)
    assert owner.stdout
    pid = int(owner.stdout.readline())
    owner.kill()
    owner.wait()
    owner.stdout.close()
    await ended(pid)


async def test_no_repository(tmp_path: Path) -> None:
    process = ButlerProcess(IngestConfig(repo=str(tmp_path / "nowhere")), LoggingConfig())
    with pytest.raises(ConfigurationError, match="nowhere"):
        await process.start()
    assert "nowhere" in (process.unready_reason() or "")


def test_owner_imports_no_butler() -> None:
    code = "import sys, autoingest.butler.process; sys.exit(any(name.startswith('lsst') for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


POISON = Path(testing.__file__).parent / "poison"


@pytest.fixture
async def poisoned(made_sqlite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ButlerProcess]:
    """A process that does to itself what the card POISON says."""
    monkeypatch.setenv("PYTHONPATH", str(POISON))
    monkeypatch.setenv("AUTOINGEST_REDIS_PASSWORD", "not for you")
    root = shutil.copytree(made_sqlite, tmp_path / "repo")
    process = ButlerProcess(IngestConfig(repo=str(root)), LoggingConfig())
    await process.start()
    yield process
    await process.close()


@pytest.mark.parametrize(
    ("harm", "message", "own_doing", "last_words"),
    [("exit", "exit code 3", True, "the library gives up"),
     ("SIGSEGV", "signal SIGSEGV", True, "in harm"),
     ("SIGABRT", "signal SIGABRT", True, "in harm"),
     ("SIGBUS", "signal SIGBUS", True, "in harm"),
     ("SIGKILL", "signal SIGKILL", False, ""),
     ("SIGUSR1", "signal SIGUSR1", False, ""),
     ("garbage", "makes no sense", True, ""),
     ("closed", "closed its answers", True, "")],
)  # fmt: skip
async def test_how_it_ended(poisoned: ButlerProcess, harm: str, message: str, own_doing: bool, last_words: str) -> None:
    good, [bad] = exposures.files(1, [94, 96]), exposures.files(1, [95], POISON=harm)
    with pytest.raises(ButlerEndedError, match=message) as caught:
        await poisoned.ingest([good[0], bad, good[1]], 60)
    assert (caught.value.own_doing, caught.value.too_long) == (own_doing, False)
    assert caught.value.path == ("" if harm == "garbage" else bad.path)
    assert last_words in caught.value.last_words
    assert outcomes(await poisoned.ingest(exposures.files(1, [94]), 60)) == {"ingested": 1}
    assert poisoned.unready_reason() is None


@pytest.mark.parametrize("harm", ["hang", "sleep"])
async def test_where_it_hung(poisoned: ButlerProcess, harm: str) -> None:
    [bad] = exposures.files(1, [94], POISON=harm)
    with pytest.raises(ButlerEndedError, match="longer than 2 s") as caught:
        await poisoned.ingest([bad], 2)
    assert (caught.value.own_doing, caught.value.too_long, caught.value.path) == (True, True, bad.path)
    assert "in harm" in caught.value.last_words.splitlines()[0]


async def test_stopped_from_outside(poisoned: ButlerProcess) -> None:
    assert poisoned.pid
    os.kill(poisoned.pid, signal.SIGSTOP)
    with pytest.raises(ButlerEndedError) as caught:
        await poisoned.ingest(exposures.files(1, [94]), 1)
    assert (caught.value.own_doing, caught.value.too_long, caught.value.path) == (False, True, "")


@pytest.mark.parametrize("repository", ["postgres"], indirect=True)
async def test_waiting_for_the_database_is_an_outage(process: ButlerProcess, repository: Repository) -> None:
    assert repository.registry_url
    database = sqlalchemy.create_engine(repository.registry_url, poolclass=sqlalchemy.NullPool)
    with database.begin() as holder:
        # Locks of this kind have no timeout of their own: the process waits until its time is over.
        holder.execute(sqlalchemy.text("LOCK TABLE exposure IN ACCESS EXCLUSIVE MODE"))
        with pytest.raises(TransientError, match="LockNotAvailable") as caught:
            await process.ingest(exposures.files(1), 60)
        assert not isinstance(caught.value, ButlerEndedError)
        assert "LockNotAvailable" in (process.unready_reason() or "")
        with pytest.raises(TransientError, match="no answer from the Butler's database") as caught:
            await process.ingest(exposures.files(1), 3)
        assert not isinstance(caught.value, ButlerEndedError)
    assert outcomes(await process.ingest(exposures.files(1, [94]), 60)) == {"ingested": 1}
    assert process.unready_reason() is None


@pytest.mark.parametrize(
    ("harm", "exception"),
    [("SystemExit", "SystemExit: 4"), ("KeyboardInterrupt", "KeyboardInterrupt"),
     ("RecursionError", "RecursionError: maximum"), ("ENAMETOOLONG", "File name too long")],
)  # fmt: skip
async def test_whatever_a_library_raises_is_one_files_failure(
    poisoned: ButlerProcess, harm: str, exception: str
) -> None:
    files = exposures.files(1, [93, 94, 95])
    files[1] = replace(files[1], header={**files[1].header, "POISON": harm})
    result = await poisoned.ingest(files, 60)
    assert [item.outcome for item in result.files] == ["ingested", "failed", "ingested"]
    assert exception in result.files[1].exception
    assert result.files[1].reason == "failed"


async def test_full_disk_is_nobodys_failure(poisoned: ButlerProcess) -> None:
    with pytest.raises(TransientError, match=r"OSError: \[Errno 28\] No space left") as caught:
        await poisoned.ingest(exposures.files(1, [94], POISON="ENOSPC"), 60)
    assert not isinstance(caught.value, ButlerEndedError)
    assert "No space left" in (poisoned.unready_reason() or "")


async def test_too_much_memory_is_one_files_failure_if_it_is_suspected(poisoned: ButlerProcess) -> None:
    files = [*exposures.files(1, [93, 95]), *exposures.files(1, [94], POISON="memory")]
    with pytest.raises(ButlerEndedError, match="SIGKILL"):
        await poisoned.ingest(files, 60)
    result = await poisoned.ingest(files, 60, cautious=True)
    assert [item.outcome for item in result.files] == ["ingested", "ingested", "failed"]
    assert "MemoryError" in result.files[2].exception
    assert outcomes(await poisoned.ingest(exposures.files(2), 60)) == {"ingested": 205}, "without a limit again"


async def test_flood_of_its_log_holds_nothing_up(poisoned: ButlerProcess) -> None:
    assert outcomes(await poisoned.ingest(exposures.files(1, [94], POISON="flood"), 60)) == {"ingested": 1}


def deep(depth: int) -> object:
    """A list within a list, and so on."""
    return [deep(depth - 1)] if depth else 0


@pytest.mark.parametrize(
    "value",
    [2**64, "\udc80", b"bytes" * 4 * 2**20, "x" * (17 * 2**20), deep(300)],
    ids=["integer", "surrogate", "bytes", "large", "nested"],
)
async def test_what_can_not_be_sent_is_one_files_failure(poisoned: ButlerProcess, value: object) -> None:
    files = exposures.files(1, [93, 94, 95])
    files[1] = replace(files[1], header={**files[1].header, "ODD": value})
    pid = poisoned.pid
    result = await poisoned.ingest(files, 60)
    assert [item.outcome for item in result.files] == ["ingested", "failed", "ingested"]
    assert result.files[1].reason == "metadata"
    assert poisoned.pid == pid


async def test_it_gets_no_secret_of_the_program(poisoned: ButlerProcess) -> None:
    names = [entry.partition(b"=")[0] for entry in Path(f"/proc/{poisoned.pid}/environ").read_bytes().split(b"\0")]
    assert b"PATH" in names
    assert not [name for name in names if name.startswith(b"AUTOINGEST_")]


@pytest.mark.parametrize("repository", ["sqlite"], indirect=True)
async def test_repository_that_goes_while_it_is_open_is_an_outage(
    process: ButlerProcess, repository: Repository, tmp_path: Path
) -> None:
    """Its folder is moved away, and the process that had it open is killed."""
    away = tmp_path / "away"
    shutil.move(repository.root, away)
    for _ in range(2):
        with pytest.raises(TransientError) as caught:
            await process.ingest(exposures.files(1, [94]), 60)
        assert not isinstance(caught.value, ButlerEndedError)
        assert process.unready_reason()
        if process.pid:
            os.kill(process.pid, signal.SIGKILL)
        async with asyncio.timeout(60):
            while process.pid:
                await asyncio.sleep(0.01)
    shutil.rmtree(repository.root, ignore_errors=True)
    shutil.move(away, repository.root)
    assert outcomes(await process.ingest(exposures.files(1, [94]), 60)) == {"ingested": 1}
    assert process.unready_reason() is None
