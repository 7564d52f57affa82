"""A site under load whose processes and servers are killed, stopped and made to fail, and what must hold afterwards."""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil
import psycopg
from redis import Redis
from redis import asyncio as asyncio_redis

from autoingest.butler.compare import compare
from autoingest.dev import embedded
from autoingest.dev.simulator import SentFile, notification
from autoingest.queue import keys
from autoingest.queue.audit import Auditor, AuditReport
from testing.s3server import S3Server

from .repository import contents
from .shots import BUCKET, Camera, Shot, fill
from .site import Site
from .waiting import wait_for

LEASE = 5.0
"""Seconds of a worker's lease."""

INGEST = {
    "batchSize": 50, "batchTimeout": LEASE - 1, "lease": LEASE, "drain": 30, "retryDelay": 0.2, "guiderRecheck": 1,
}  # fmt: skip
UNSETTLED = """
local number = redis.call('LLEN', KEYS[1]) + redis.call('ZCARD', KEYS[2])
for _, key in ipairs(redis.call('KEYS', ARGV[1])) do
  if redis.call('TYPE', key).ok == 'list' then
    number = number + redis.call('LLEN', key)
  end
end
return number
"""
"""Counts in one step: of a file that moves, three looks may see nothing."""

SETTLED = 90.0
"""Seconds after the last notification in which all must have come to rest."""


class RedisServer:
    """A Valkey with append-only file that can be killed, stopped and started again.

    Every write is on the disk before it is answered, so that a lost one is the program's fault.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = embedded.free_port()
        self._running = ExitStack()
        self.url = f"redis://127.0.0.1:{self._port}/0"

    def start(self) -> None:
        self._running.enter_context(embedded.valkey(self._folder, port=self._port))
        with Redis.from_url(self.url) as client:
            client.config_set("appendfsync", "always")

    def close(self) -> None:
        self._running.close()

    @property
    def pid(self) -> int:
        with Redis.from_url(self.url) as client:
            return int(client.info("server")["process_id"])

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        self.close()


class PostgresServer:
    """A PostgreSQL server that can be killed and started again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running = ExitStack()
        self.url = ""

    def start(self) -> None:
        self.url = self._running.enter_context(embedded.postgres(self._folder))

    def close(self) -> None:
        self._running.close()

    def kill(self) -> None:
        """Kill all its processes at once, as when a machine goes down; only the files stay."""
        postmaster = psutil.Process(int((self._folder / "postmaster.pid").read_text().split()[0]))
        for process in [postmaster, *postmaster.children()]:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        wait_for(lambda: not postmaster.is_running() or postmaster.status() == psutil.STATUS_ZOMBIE, "it is dead")
        with suppress(Exception):
            self._running.close()
        self._running = ExitStack()

    def connect(self) -> psycopg.Connection[tuple[object, ...]]:
        return psycopg.connect(self.url.replace("postgresql+psycopg", "postgresql"), autocommit=True)


@dataclass
class Member:
    """A process of the site that is started again when it is killed."""

    roles: str
    notify_port: int
    events_port: int
    index: int

    @property
    def events_url(self) -> str:
        return f"http://127.0.0.1:{self.events_port}"


@dataclass
class Outcome:
    """What a scenario did and found, for the summary."""

    name: str
    seed: int
    faults: Counter[str] = field(default_factory=Counter)
    sent: int = 0
    lost: int = 0
    doubled: int = 0
    seconds: float = 0.0
    passed: bool = False

    def properties(self) -> dict[str, object]:
        """What a report of pytest can carry from one process to another."""
        return {**asdict(self), "faults": dict(self.faults)}


@dataclass
class Chaos:
    """One scenario's site.

    Random moments and choices come from `chance`, whose seed is printed.
    """

    folder: Path
    made: Path
    """An empty repository to be copied."""
    shots: Sequence[Shot]
    outcome: Outcome
    redis: RedisServer
    store: S3Server
    site: Site
    repeat: int
    """How often to repeat what may be repeated."""
    members: list[Member] = field(default_factory=list)
    camera: Camera = field(init=False)
    chance: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.chance = random.Random(self.outcome.seed)
        self.camera = Camera(self.store, self.shots, [], self.outcome.seed)

    @property
    def client(self) -> Redis:
        return Redis.from_url(self.redis.url, decode_responses=True, socket_timeout=10)

    def start(self, *members: str, ready: bool = True) -> list[Member]:
        """Start processes, each with its roles, and wait until all are ready."""
        new = []
        for roles in members:
            port = embedded.free_port()
            if "enqueue" in roles:
                self.camera.urls = [*self.camera.urls, f"http://127.0.0.1:{port}/notify"]
            new.append(member := Member(roles, port, embedded.free_port(), -1))
            self.launch(member)
        self.members += new
        if ready:
            for member in new:
                self.wait_ready(member)
        return new

    def wait_ready(self, member: Member) -> None:
        self.site.wait_ready(member.index)

    def launch(self, member: Member) -> None:
        """Start a process for a member, and do not wait for it."""
        self.site.notify_port, self.site.events_port = member.notify_port, member.events_port
        self.site.presence_port = embedded.free_port()
        member.index = len(self.site.processes)
        self.site.start(member.roles, ready=False)

    def process(self, member: Member) -> psutil.Process:
        return psutil.Process(self.site.processes[member.index].pid)

    def fault(self, name: str, number: int = 1) -> None:
        """Count an injected fault."""
        self.outcome.faults[name] += number

    def moments(self, number: int, between: tuple[float, float] = (0.1, 0.8)) -> Iterator[int]:
        """Yield at random moments."""
        for count in range(number):
            self.let_pass(self.chance.uniform(*between))
            yield count

    def let_pass(self, seconds: float) -> None:
        """Do nothing for some time, which is itself what is tested; to wait for something use `wait_for`."""
        time.sleep(seconds)

    def any_ready(self, members: Sequence[Member]) -> Member:
        """Return one of the members that are ready, at random; one that has just been killed is not."""
        ready = wait_for(lambda: [item for item in members if self.site.is_ready(item.index)], "a member ready")
        return self.chance.choice(ready)

    def kill(self, member: Member) -> None:
        """Kill a process, and start it again as a supervisor does."""
        process = self.site.processes[member.index]
        process.kill()
        process.wait()
        self.fault(f"SIGKILL of {member.roles}")
        self.launch(member)

    def kill_butler(self, member: Member) -> None:
        """Kill the Butler process of a member, if it has one at this moment."""
        with suppress(psutil.NoSuchProcess):
            for child in self.process(member).children():
                if "autoingest.butler" in child.cmdline():
                    child.kill()
                    self.fault("SIGKILL of the Butler process")

    def replace(self, member: Member) -> None:
        """Start another process of the same roles, and end the old one when the new one is ready."""
        old = self.site.processes[member.index]
        if "enqueue" not in member.roles:  # one port is one process's
            self.launch(member)
            self.wait_ready(member)
            assert self.site.stop(old) == 0
        else:
            assert self.site.stop(old) == 0
            self.launch(member)
            self.wait_ready(member)
        self.fault(f"rolling restart of {member.roles}")

    @contextmanager
    def stopped(self, process: psutil.Process, name: str) -> Iterator[None]:
        """Stop a process with SIGSTOP until the context ends."""
        process.suspend()
        self.fault(name)
        try:
            yield
        finally:
            process.resume()

    def ingested(self) -> int:
        with self.client as client:
            return sum(map(int, client.hvals(f"INGEST:{BUCKET}:LSSTCam")))

    def received(self) -> int:
        with self.client as client:
            return sum(map(int, client.hvals(keys.received(BUCKET))))

    def unsettled(self) -> int:
        """Files queued, in work or waiting."""
        with self.client as client:
            return int(client.eval(UNSETTLED, 2, keys.queue(BUCKET), keys.waiting(BUCKET), keys.worker(BUCKET, "*")))

    def held_by(self, member: Member) -> int:
        """Files on the lists of a member's workers."""
        pid = self.site.processes[member.index].pid
        with self.client as client:
            return sum(client.llen(key) for key in client.keys(f"WORKER:{BUCKET}:*-{pid}-*"))

    def log(self, member: Member) -> str:
        """What a member's present process has logged."""
        return (self.folder / f"process-{member.index}.log").read_text()

    def post(self, *files: SentFile) -> None:
        """Post the notifications of files, one after the other; each must be acknowledged."""
        for file in files:
            request = urllib.request.Request(self.camera.urls[0], notification(file), method="POST")
            with urllib.request.urlopen(request, timeout=60) as response:
                assert response.status == 200

    def settle(self) -> None:
        """Wait until all notifications are acknowledged and nothing is under way."""
        self.camera.join()
        wait_for(self.is_settled, f"all at rest: {self.site.logs()[-4000:]}", SETTLED)

    def is_settled(self) -> bool:
        return not self.unsettled()

    def finish(
        self,
        *,
        dead: Mapping[str, str] | None = None,
        more: int = 0,
        others: Mapping[str, int] | None = None,
        doubled: bool = False,
    ) -> AuditReport:
        """Wait until all is at rest, and check that nothing is lost and nothing is doubled.

        Parameters
        ----------
        dead
            Paths that must be dead letters, with the reasons.
        more
            Acknowledgements beyond one a file: of versions that came after the ingest of others.
        others
            Further numbers that the audit must find.
        doubled
            Whether files may be acknowledged more than once: services that are replaced queue them again.
        """
        self.settle()
        dead = dict(dead or {})
        expected = {shot.path for shot in self.shots} - dead.keys()
        found = contents(self.site.repo)
        stored = {url.removeprefix("s3://") for url in found.raws | found.guiders}
        with self.client as client:
            letters = client.hgetall(keys.dead(BUCKET))
        report = asyncio.run(self.audit())
        self.outcome.sent = len(self.camera.sent)
        self.outcome.lost = len(expected - stored)
        self.outcome.doubled = 0 if doubled else max(0, self.ingested() - len(expected) - more)
        logs = self.site.logs()[-3000:]
        assert stored == expected, logs
        assert {path: json.loads(letter)["reason"] for path, letter in letters.items()} == dead, logs
        assert report.consistent, report.findings
        counts = {"ingested": len(expected), "dead": len(dead), **(others or {})}
        assert {name: count for name, count in report.counts[BUCKET].items() if count} == {
            name: count for name, count in counts.items() if count
        }
        acknowledged = self.ingested()
        assert acknowledged == len(expected) + more or (doubled and acknowledged > len(expected)), logs
        where = self.site.logs().find("Traceback")
        assert where < 0, self.site.logs()[max(0, where - 500) : where + 6000]
        assert_equal(self.site.repo, self.reference(sorted(expected)))
        self.outcome.passed = True
        return report

    def reference(self, expected: Sequence[str] | None = None) -> str:
        """Return a repository that was filled without faults, with all objects sent or only some."""
        repo = self.folder / "reference"
        shutil.copytree(self.made, repo)
        sizes = {file.path: file.size for file in self.camera.sent}
        wanted = set(sizes if expected is None else expected)
        fill(str(repo), [shot for shot in self.shots if shot.path in wanted], sizes)
        return str(repo)

    async def audit(self) -> AuditReport:
        async with asyncio_redis.Redis.from_url(self.redis.url, decode_responses=True) as client:
            return await Auditor(client).run()

    def autoingest(self, command: str, *options: str, codes: Sequence[int] = (0,)) -> Any:
        """Run a command of the program with ``--json`` and the site's configuration; return what it prints.

        `codes` are the exit codes that are right.
        """
        words = ["--config", str(self.folder / "process-0.yaml"), *options, "--json"]
        environment = {**os.environ, **self.site.environment}
        done = subprocess.run(
            [sys.executable, "-m", "autoingest", *command.split(), *words],
            env=environment, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert done.returncode in codes, done.stdout + done.stderr
        return json.loads(done.stdout)


def assert_equal(repo: str, reference: str) -> None:
    """Check that two repositories hold the same."""
    comparison = compare(repo, reference, instrument="LSSTCam", show=3)
    assert comparison.equal, comparison.differences
    assert any(count.equal for count in comparison.counts if count.kind == "datastore record")
