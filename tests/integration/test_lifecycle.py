"""How processes start, end, and live through the absence of what they need."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import urllib.error
import urllib.request
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, closing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis
import yaml
from aiohttp import web

from autoingest.butler.create import create_repository
from autoingest.dev import embedded
from autoingest.dev.simulator import Exposure, sensors
from autoingest.queue import keys
from testing.postgres import postgres_folder
from testing.repository import contents
from testing.requirements import missing
from testing.s3server import S3Server, Stored
from testing.site import Site
from testing.threads import in_thread
from testing.waiting import wait_for

BUCKET = "rubin-summit"


@dataclass
class Store:
    """An S3 server that is slow or away on demand."""

    server: S3Server = field(default_factory=S3Server)
    port: int = field(default_factory=embedded.free_port)
    running: ExitStack = field(default_factory=ExitStack)

    def start(self) -> None:
        self.running.enter_context(in_thread(self.server.run(self.port)))

    def stop(self) -> None:
        self.running.close()

    def put(self, bucket: str, seq_num: int, number: int) -> list[str]:
        """Hold some images of an exposure with their sidecars; return the images' paths."""
        exposure = Exposure(20300101, seq_num, datetime(2030, 1, 2, 3, tzinfo=UTC))
        objects = self.server.buckets.setdefault(bucket, {})
        images = []
        for sensor in [sensor for sensor in sensors() if sensor.purpose != "GUIDER"][:number]:
            objects[exposure.sidecar_key(sensor)] = Stored(exposure.sidecar(sensor), "etag", 0.0)
            objects[exposure.key(sensor)] = Stored(exposure.image(sensor), "etag", 0.0)
            images.append(f"{bucket}/{exposure.key(sensor)}")
        return images


@pytest.fixture
def store() -> Iterator[Store]:
    store = Store()
    with store.running:
        store.start()
        yield store


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository to be copied."""
    folder = tmp_path_factory.mktemp("made") / "repo"
    create_repository(str(folder))
    return folder


@pytest.fixture
def client(valkey_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(valkey_url, decode_responses=True) as client:
        client.flushall()
        yield client


@pytest.fixture
def site(tmp_path: Path, valkey_url: str, client: redis.Redis, made: Path, store: Store) -> Iterator[Site]:
    shutil.copytree(made, tmp_path / "repo")
    environment = {
        "S3_ENDPOINT_URL": f"http://127.0.0.1:{store.port}",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
    }
    site = Site(tmp_path, valkey_url, str(tmp_path / "repo"), buckets=[BUCKET], environment=environment)
    with closing(site):
        yield site


def announce(site: Site, paths: list[str]) -> None:
    """Post one notification of all `paths`; it must be accepted."""
    records = []
    for path in paths:
        bucket, _, key = path.partition("/")
        records.append({"s3": {"bucket": {"name": bucket}, "object": {"key": key, "size": 100_000}}})
    request = urllib.request.Request(site.notify_url, json.dumps({"Records": records}).encode(), method="POST")
    with urllib.request.urlopen(request, timeout=60) as response:
        assert len(json.load(response)["queued"]) == len(paths)


def readiness(site: Site, process: int = 0) -> tuple[int, list[str]]:
    """Status and what is missing; (0, []) where nobody listens yet."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{site.admin_ports[process]}/readyz", timeout=30) as response:
            return response.status, json.load(response)["troubles"]
    except urllib.error.HTTPError as answer:
        return answer.code, json.load(answer)["troubles"]
    except OSError:
        return 0, []


def ingested(client: redis.Redis, bucket: str = BUCKET) -> int:
    return sum(map(int, client.hvals(f"INGEST:{bucket}:LSSTCam")))


def held(client: redis.Redis) -> int:
    """Files on workers' lists."""
    return sum(client.llen(key) for key in client.keys(f"WORKER:{BUCKET}:*") if client.type(key) == "list")


def events(site: Site, event: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in site.logs().splitlines() if line.startswith("{")]
    return [line for line in lines if line["event"] == event]


def test_sigterm_finishes_what_is_in_hand(site: Site, client: redis.Redis, store: Store) -> None:
    paths = store.put(BUCKET, 1, 60)
    store.server.delay = 2.0
    site.ingest = {"batchSize": 20}
    process = site.start("enqueue,ingest,idle,presence")
    announce(site, paths[:50])
    wait_for(lambda: held(client) == 40, "two batches in hand")
    process.send_signal(signal.SIGTERM)
    wait_for(lambda: events(site, "stopping"), "the signal is received")
    announce(site, paths[50:])
    assert ingested(client) == 0, "the batches are still in hand while notifications are accepted"
    assert process.wait(60) == 0, site.logs()
    assert ingested(client) == len(contents(site.repo).raws) == 40
    assert client.llen(keys.queue(BUCKET)) == 20
    assert client.keys("WORKER:*") == []


def test_second_signal_kills_at_once(site: Site, client: redis.Redis, store: Store) -> None:
    paths = store.put(BUCKET, 1, 10)
    store.server.delay = 3.0
    process = site.start("enqueue,ingest")
    announce(site, paths)
    wait_for(lambda: held(client) == 10, "a batch in hand")
    process.send_signal(signal.SIGTERM)
    wait_for(lambda: events(site, "stopping"), "the first signal is received")
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == -signal.SIGTERM
    assert held(client) == 10, "the work is kept until the lease ends"
    (start,) = events(site, "butler process started")
    wait_for(lambda: not is_alive(start["pid"]), "the Butler process has died with it")


def is_alive(pid: int) -> bool:
    try:
        # A process whose parent has not asked yet how it ended is as good as gone.
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize("what", ["enqueue", "presence", "admin"])
def test_port_in_use(site: Site, what: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        site.settings = {what: {"listen": {"host": "127.0.0.1", "port": port}}}
        process = site.start("enqueue,presence", ready=False)
        assert process.wait(60) == 2
    assert f"autoingest: {what} can't listen on 127.0.0.1:{port}: port {port} is in use" in site.logs()
    assert f"set {what}.listen.port" in site.logs()
    assert "Traceback" not in site.logs()


def test_no_repository(site: Site) -> None:
    site.repo += "-elsewhere"
    assert site.start("ingest", ready=False).wait(60) == 2
    (line,) = [line for line in site.logs().splitlines() if line.startswith("autoingest: ")]
    assert site.repo in line
    assert "Traceback" not in site.logs()


def test_no_repository_is_nothing_to_the_others(site: Site, client: redis.Redis, store: Store) -> None:
    made = site.repo
    site.repo += "-later"
    process = site.start("enqueue,ingest,idle")
    wait_for(lambda: any(site.repo in text for text in readiness(site)[1]), "ingest says what it lacks")
    announce(site, store.put(BUCKET, 1, 3))
    shutil.copytree(made, site.repo)
    wait_for(lambda: ingested(client) == 3, "all is ingested once the repository is there")
    assert site.stop(process) == 0


def in_namespace(site: Site, roles: str) -> tuple[psutil.Process, psutil.Process]:
    """Start the program as the first process of a container; return what started it, and it."""
    if os.geteuid() or subprocess.run(["unshare", "--pid", "--fork", "true"], capture_output=True).returncode:
        missing("unshare", "a namespace of processes needs root")
    site.command = ["unshare", "--pid", "--fork", "--kill-child"]
    outer = psutil.Process(site.start(roles, ready=False).pid)
    (inner,) = wait_for(outer.children, "it is started")
    return outer, inner


def test_first_process_of_a_container_ends_while_it_starts(site: Site) -> None:
    outer, inner = in_namespace(site, "enqueue,ingest,idle,presence")
    status = Path(f"/proc/{inner.pid}/status")

    def listens_to_sigterm() -> bool:
        (caught,) = [line.split()[1] for line in status.read_text().splitlines() if line.startswith("SigCgt")]
        return bool(int(caught, 16) & 1 << signal.SIGTERM - 1)

    wait_for(listens_to_sigterm, "SIGTERM is asked for")
    inner.send_signal(signal.SIGTERM)
    assert outer.wait(60) in (0, 143)


def test_first_process_of_a_container_ends_at_a_second_signal(site: Site, client: redis.Redis, store: Store) -> None:
    paths = store.put(BUCKET, 1, 10)
    store.server.delay = 30.0
    outer, inner = in_namespace(site, "enqueue,ingest")
    site.wait_ready(0)
    announce(site, paths)
    wait_for(lambda: held(client) == 10, "a batch in hand")
    inner.send_signal(signal.SIGTERM)
    wait_for(lambda: events(site, "stopping"), "the first signal is received")
    inner.send_signal(signal.SIGTERM)
    assert outer.wait(60) == 128 + signal.SIGTERM


def test_few_file_descriptors(site: Site, client: redis.Redis) -> None:
    """Clients that take all that the listeners have leave the admin listener its own."""
    site.command = ["prlimit", "--nofile=160:160", "--"]
    process = site.start("enqueue,presence")
    with ExitStack() as crowd:
        for port in [site.notify_port, site.presence_port] * 150:
            with suppress(OSError):
                crowd.enter_context(socket.create_connection(("127.0.0.1", port), 1))
        assert readiness(site) == (200, [])
        assert site.metric("autoingest_redis_up") == 1
    assert site.stop(process) == 0
    assert len(events(site, "few file descriptors: listeners take fewer connections")) == 1
    assert len(events(site, "no file descriptor left for a connection")) <= 2


def test_bug_is_named_in_the_last_line(site: Site, client: redis.Redis) -> None:
    site.environment = {**site.environment, "PYTHONPATH": str(site.folder)}
    (site.folder / "sitecustomize.py").write_text(
        "from autoingest.roles.idle import IdleRole\n"
        "async def run(self, stop): raise LookupError('no such thing')\n"
        "IdleRole.run = run\n"
    )
    assert site.start("enqueue,idle", ready=False).wait(60) == 1
    last = json.loads(site.logs().splitlines()[-1])
    assert (last["event"], last["why"]) == ("process ends", "role idle: LookupError: no such thing")


def test_bucket_without_credentials(site: Site) -> None:
    site.buckets = ["nobody@rubin-summit"]
    assert site.start("ingest", ready=False).wait(60) == 2
    assert "set LSST_RESOURCES_S3_PROFILE_nobody=https://" in site.logs()
    assert "Traceback" not in site.logs()


def test_redis_away_at_start(site: Site, store: Store) -> None:
    port = embedded.free_port()
    site.redis_url = f"redis://127.0.0.1:{port}/0"
    paths = store.put(BUCKET, 1, 5)
    process = site.start("ingest,idle,presence", ready=False)

    def lacks_only_redis() -> bool:
        status, missing = readiness(site)
        return status == 503 and len(missing) == 1 and missing[0].startswith(f"Redis at 127.0.0.1:{port}: Error 111")

    wait_for(lacks_only_redis, "all but Redis is there")
    with embedded.valkey(site.folder / "valkey", port=port), redis.Redis.from_url(site.redis_url) as client:
        wait_for(lambda: readiness(site) == (200, []), "ready")
        site.start("enqueue")
        announce(site, paths)
        wait_for(lambda: ingested(client) == 5, f"all ingested: {site.logs()[-3000:]}")
        assert [site.stop(running) for running in (process, site.processes[1])] == [0, 0]


def test_sigterm_while_starting(site: Site) -> None:
    """A database that takes connections and never answers holds the start up, but not the end."""
    with socket.create_server(("127.0.0.1", 0)) as database:
        config = yaml.safe_load((Path(site.repo) / "butler.yaml").read_text())
        config["registry"]["db"] = f"postgresql://nobody@127.0.0.1:{database.getsockname()[1]}/nothing"
        (Path(site.repo) / "butler.yaml").write_text(yaml.safe_dump(config))
        process = site.start("ingest", ready=False)
        database.settimeout(20)
        connection, _ = database.accept()
        with connection:
            assert site.stop(process) == 0
    assert "Traceback" not in site.logs()


def test_postgres_away(site: Site, client: redis.Redis, store: Store) -> None:
    paths = store.put(BUCKET, 1, 10)
    site.repo += "-postgres"
    with postgres_folder() as folder, ExitStack() as postgres:

        def start() -> str:
            return postgres.enter_context(embedded.postgres(folder))

        def assert_held_until_it_returns(number: int) -> None:
            wait_for(lambda: held(client) == 5, "work is in hand")
            outages = site.metric("autoingest_outages_total")
            wait_for(lambda: site.metric("autoingest_outages_total") > outages, "the batch is held")
            start()
            wait_for(lambda: ingested(client) == number, f"{number} ingested: {site.logs()[-3000:]}")

        create_repository(site.repo, registry_url=start())
        postgres.close()
        process = site.start("enqueue,ingest")
        wait_for(lambda: events(site, "repository away"), "the process says that the database is away")
        announce(site, paths[:5])
        assert_held_until_it_returns(5)
        postgres.close()
        announce(site, paths[5:])
        assert_held_until_it_returns(10)
        assert len(contents(site.repo).raws) == 10
        assert site.stop(process) == 0
    assert client.keys("DEAD:*") == []
    assert {client.hget(keys.file(path), "ing_fail_count") for path in paths} <= {None, "0"}


def test_store_away(site: Site, client: redis.Redis, store: Store) -> None:
    paths = store.put(BUCKET, 1, 10)
    store.stop()
    process = site.start("enqueue,ingest")
    announce(site, paths)
    wait_for(lambda: site.metric("autoingest_outages_total"), "the batch is held")
    assert site.stop(process) == 0
    given_back = [*client.lrange(keys.queue(BUCKET), 0, -1), *client.zrange(keys.waiting(BUCKET), 0, -1)]
    assert sorted(given_back) == sorted(paths), "all is given back, or waits"
    assert {client.hget(keys.file(path), "ing_fail_count") for path in paths} <= {None, "0"}
    store.start()
    assert site.start("ingest", "--once", ready=False).wait(60) == 0
    assert ingested(client) == len(contents(site.repo).raws) == 10


@pytest.mark.parametrize("roles", ["ingest", "ingest,idle"])
def test_once_ends_when_only_guiders_wait(site: Site, client: redis.Redis, store: Store, roles: str) -> None:
    """Files that wait for another attempt are tried until they are in or dead; guiders without exposure are listed."""
    site.ingest = {"retryDelay": 1.0, "maxAttempts": 2}
    here = store.put(BUCKET, 1, 3)
    gone = [path.replace("_000001", "_000002") for path in here]
    exposure = Exposure(20300101, 3, datetime(2030, 1, 2, 3, tzinfo=UTC))
    sensor = next(sensor for sensor in sensors() if sensor.purpose == "GUIDER")
    store.server.buckets[BUCKET] |= {
        exposure.sidecar_key(sensor): Stored(exposure.sidecar(sensor), "etag", 0.0),
        exposure.key(sensor): Stored(b"", "etag", 0.0),
    }
    guider = f"{BUCKET}/{exposure.key(sensor)}"
    enqueue = site.start("enqueue")
    announce(site, [*here, *gone, guider])
    assert site.stop(enqueue) == 0
    assert site.start(roles, "--once", ready=False).wait(120) == 0, site.logs()[-3000:]
    assert ingested(client) == 3
    assert sorted(client.hkeys(keys.dead(BUCKET))) == sorted(gone)
    assert client.zrange(keys.waiting(BUCKET), 0, -1) == [guider]
    assert [(line["path"], line["obs_id"]) for line in events(site, "guider still waits for its exposure")] == [
        (guider, exposure.obs_id)
    ]


class Receiver:
    """Receives the exposure webhook, and answers as it is told."""

    def __init__(self) -> None:
        self.mood = "good"
        self.files: dict[str, set[str]] = defaultdict(set)
        self.calls = 0

    @asynccontextmanager
    async def run(self) -> AsyncIterator[str]:
        app = web.Application()
        app.router.add_post("/", self._handle)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        try:
            yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
        finally:
            await runner.cleanup()

    async def _handle(self, request: web.Request) -> web.Response:
        self.calls += 1
        match self.mood:
            case "hangs":
                await asyncio.Event().wait()
            case "fails":
                return web.Response(status=500)
        content = await request.json()
        assert set(content) == {"exp_id", "filenames"}
        self.files[content["exp_id"]] |= set(content["filenames"])
        return web.Response()


def test_exposure_webhook(site: Site, client: redis.Redis, store: Store) -> None:
    first, second = store.put(BUCKET, 1, 20), store.put(BUCKET, 2, 5)
    receiver = Receiver()
    with ExitStack() as running:
        site.ingest = {"exposureWebhook": running.enter_context(in_thread(receiver.run()))}
        process = site.start("enqueue,ingest")
        good = [*first[:5], *second]
        announce(site, good)
        expected = defaultdict(set)
        for path in good:
            *_, obs_id, filename = path.split("/")
            expected[obs_id].add(filename)
        wait_for(lambda: receiver.files == expected, "the receiver knows the files of both exposures")
        for mood, paths in (("fails", first[5:10]), ("hangs", first[10:15])):
            receiver.mood = mood
            calls = receiver.calls
            announce(site, paths)
            wait_for(lambda calls=calls: receiver.calls > calls, f"the receiver that {mood} is called")  # type: ignore[misc]
    announce(site, first[15:])
    wait_for(lambda: ingested(client) == 25, "all ingested, whatever the receiver did")
    assert site.stop(process) == 0
    assert client.keys("DEAD:*") == []
    assert len(events(site, "exposure webhook failed")) >= 3


def test_several_buckets(site: Site, client: redis.Redis, store: Store) -> None:
    site.buckets = [BUCKET, "rubin-base"]
    site.ingest = {"workers": 2}
    paths = {bucket: store.put(bucket, number, 10) for number, bucket in enumerate(site.buckets, 1)}
    process = site.start("enqueue,ingest,idle")
    announce(site, [path for pair in zip(*paths.values(), strict=True) for path in pair])
    for bucket in site.buckets:
        wait_for(lambda bucket=bucket: ingested(client, bucket) == 10, f"{bucket} ingested")  # type: ignore[misc]
    assert site.stop(process) == 0
    assert contents(site.repo).raws == {f"s3://{path}" for part in paths.values() for path in part}
