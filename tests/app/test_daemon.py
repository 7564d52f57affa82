import asyncio
import gc
from collections.abc import Awaitable, Callable
from pathlib import Path

import psutil
import pytest

from autoingest.app import daemon
from autoingest.app.config import Config
from autoingest.errors import ConfigurationError

CONFIG = Config.from_dict(
    {"buckets": ["b"], "ingest": {"repo": "r", "batchTimeout": 0.1, "lease": 0.2, "drain": 0.4}}, "test"
)


class FakeRole:
    def __init__(self, name: str, work: Callable[[asyncio.Event], Awaitable[object]]) -> None:
        self.name = name
        self.events: list[str] = []
        self._work = work

    async def start(self) -> None:
        self.events.append("start")

    async def run(self, stop: asyncio.Event) -> None:
        await self._work(stop)
        self.events.append("ran")

    async def close(self) -> None:
        self.events.append("close")

    def unready_reasons(self) -> list[str]:
        return []

    async def is_drained(self) -> bool:
        return True


async def dutiful(stop: asyncio.Event) -> None:
    await stop.wait()


async def broken(stop: asyncio.Event) -> None:
    raise LookupError("no such thing")


async def quitter(stop: asyncio.Event) -> None:
    pass


async def stubborn(stop: asyncio.Event) -> None:
    await asyncio.Event().wait()


async def run(*roles: FakeRole, once: bool = False, stop_at_once: bool = False) -> int:
    stop = asyncio.Event()
    if stop_at_once:
        stop.set()
    async with asyncio.timeout(60):
        code, why = await daemon.run_roles(CONFIG, roles, stop, once=once)
    assert (code == 0) == (why == "")
    return code


async def test_stop_ends_well() -> None:
    assert await run(FakeRole("a", dutiful), FakeRole("b", dutiful), stop_at_once=True) == 0


async def test_once_ends_when_all_are_idle() -> None:
    assert await run(FakeRole("a", dutiful), once=True) == 0


@pytest.mark.parametrize("work", [broken, quitter])
async def test_role_that_ends_ends_the_process(
    work: Callable[[asyncio.Event], Awaitable[object]], caplog: pytest.LogCaptureFixture
) -> None:
    other = FakeRole("a", dutiful)
    assert await run(other, FakeRole("b", work)) == 1
    assert other.events == ["ran"], "the other role was ended in order"


async def test_reason_is_one_line() -> None:
    async def worse(stop: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(broken(stop))

    stop = asyncio.Event()
    roles = [FakeRole("a", dutiful), FakeRole("ingest", worse)]
    async with asyncio.timeout(60):
        found = await daemon.run_roles(CONFIG, roles, stop)
        assert found == (1, "role ingest: LookupError: no such thing")
        roles = [FakeRole("a", dutiful), FakeRole("idle", quitter)]
        assert await daemon.run_roles(CONFIG, roles, asyncio.Event()) == (1, "role idle ended before the stop")


async def test_drain_time_is_the_limit() -> None:
    assert await run(FakeRole("a", stubborn), stop_at_once=True) == 1


def site(valkey_url: str, **enqueue: object) -> Config:
    listen = {"host": "127.0.0.1", "port": 0}
    settings = {"redis": {"url": valkey_url}, "ingest": {"repo": "unused"}, "admin": {"listen": listen}}
    return Config.from_dict({"buckets": ["b"], **settings, "enqueue": {"listen": {**listen, **enqueue}}}, "test")


async def test_garbage_is_collected_once_all_are_started(valkey_url: str) -> None:
    seen = []
    stop = asyncio.Event()

    def ready(*_: object) -> None:
        seen.append(gc.isenabled())
        stop.set()

    async with asyncio.timeout(60):
        assert await daemon.serve(site(valkey_url), ["enqueue"], stop, ready=ready) == 0
    assert seen == [True]


async def test_start_that_fails_leaves_no_butler_process(valkey_url: str, tmp_path: Path) -> None:
    config = site(valkey_url, tls={"certFile": str(tmp_path / "none")})
    with pytest.raises(ConfigurationError, match="none can't be used"):
        await daemon.serve(config, ["enqueue", "ingest"], asyncio.Event())
    assert not any(_is_butler_process(child) for child in psutil.Process().children(recursive=True))
    assert gc.isenabled()


def _is_butler_process(process: psutil.Process) -> bool:
    try:
        return "autoingest.butler" in process.cmdline()
    except psutil.NoSuchProcess:  # it has ended, or is about to be reaped
        return False
