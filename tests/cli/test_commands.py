"""Every command where a server is away, full, silent or refuses; whatever it prints, and to whom."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml

from autoingest.butler.create import create_repository
from autoingest.dev import embedded

NOBODY = "127.0.0.1:9"
DAY = ("--day", "20251231")

WITH_REDIS = [
    ("queue", "status"),
    ("queue", "dead"),
    ("queue", "rejected"),
    ("queue", "requeue", "--all"),
    ("queue", "requeue", "--rejected", "--all"),
    ("queue", "drop", "--all", "--yes"),
    ("trigger", *DAY),
    ("reconcile", *DAY),
    ("audit",),
]
WITH_STORE = [("trigger", *DAY), ("trigger", *DAY, "--force"), ("reconcile", *DAY)]
WITH_BUTLER = [("trigger", *DAY), ("reconcile", *DAY)]
WITH_CEPH = [(name,) for name in ("plan", "diff", "apply", "verify", "canary")]


@dataclass
class Place:
    """A folder with a site's files, and the environment of its commands."""

    folder: Path
    site: dict[str, Any]
    environment: dict[str, str]

    @property
    def redis(self) -> redis.Redis:
        return redis.Redis.from_url(self.site["redis"]["url"], decode_responses=True)

    def write(self) -> None:
        (self.folder / "site.yaml").write_text(yaml.safe_dump(self.site))
        topic = {"name": "t", "pushEndpoint": f"http://{NOBODY}/notify"}
        bucket = {"name": self.site["buckets"][0], "notifications": [{"topic": "t"}], "policy": []}
        (self.folder / "ceph.yaml").write_text(yaml.safe_dump({"topics": [topic], "buckets": [bucket]}))

    def start(self, *words: str, **options: Any) -> subprocess.Popen[bytes]:
        if words[0] in ("queue", "trigger", "reconcile", "audit"):
            words = (*words, "--config", "site.yaml")
        if words[0] == "ceph":
            words = (*words, "--spec", "ceph.yaml", *(("--config", "site.yaml") if words[1] == "canary" else ()))
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL} | options
        environment = options.pop("env", {})
        process: subprocess.Popen[bytes] = subprocess.Popen(  # type: ignore[assignment]
            [sys.executable, "-m", "autoingest", *words],
            cwd=self.folder, env={**os.environ, **self.environment, **environment}, **options,
        )  # fmt: skip
        return process

    def run(self, *words: str, **options: Any) -> tuple[int, str, str]:
        with self.start(*words, **options) as process:
            out, err = process.communicate(timeout=120)
        return process.returncode, (out or b"").decode(errors="replace"), (err or b"").decode(errors="replace")

    def fails(self, *words: str, **options: Any) -> str:
        """Run a command that can't do its work; return the one line that tells why."""
        code, out, err = self.run(*words, **options)
        assert code == 2, (code, out, err)
        assert "Traceback" not in err
        lines = [line for line in err.splitlines() if line.strip()]
        assert len(lines) == 1, err
        assert lines[0].startswith("autoingest: ")
        return lines[0]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("commands") / "repo"
    create_repository(folder, cameras=["LSSTCam"])
    return str(folder)


@pytest.fixture
def place(tmp_path: Path, valkey_url: str, s3_environment: str, s3_bucket: str, repository: str) -> Place:
    site = {"buckets": [s3_bucket], "redis": {"url": valkey_url}, "ingest": {"repo": repository}}
    place = Place(tmp_path, site, {})
    place.write()
    with place.redis as client:
        client.flushall()
    return place


@pytest.fixture
def silent() -> Iterator[str]:
    """Address of a server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def title(words: tuple[str, ...]) -> str:
    return " ".join(words)


@pytest.mark.parametrize("words", WITH_REDIS, ids=title)
def test_redis_is_dead(place: Place, words: tuple[str, ...]) -> None:
    place.site["redis"] = {"url": f"redis://{NOBODY}/0"}
    place.write()
    told = place.fails(*words)
    assert NOBODY in told
    assert "redis.url" in told


@pytest.mark.parametrize("words", [WITH_REDIS[0], ("trigger", *DAY), ("audit",)], ids=title)
def test_redis_refuses_the_password(place: Place, words: tuple[str, ...], tmp_path: Path) -> None:
    with embedded.valkey(tmp_path / "valkey") as url:
        with redis.Redis.from_url(url) as client:
            client.config_set("requirepass", "correct-horse")
        place.site["redis"] = {"url": url}
        place.write()
        assert "AUTOINGEST_REDIS_PASSWORD" in place.fails(*words)
        told = place.fails(*words, env={"AUTOINGEST_REDIS_PASSWORD": "battery-staple"})
        assert "WRONGPASS" in told
        assert "battery" not in told


@pytest.mark.parametrize("words", [WITH_REDIS[0], ("trigger", *DAY), ("audit",)], ids=title)
def test_redis_says_nothing(place: Place, words: tuple[str, ...], silent: str) -> None:
    place.site["redis"] = {"url": f"redis://{silent}/0"}
    place.write()
    assert silent in place.fails(*words)
    assert "Use --timeout to allow more time" in place.fails(*words, "--timeout", "1s")


@pytest.mark.parametrize(
    "words", [("trigger", *DAY, "--force"), ("reconcile", *DAY, "--heal", "--grace", "0s")], ids=title
)
def test_redis_is_full(place: Place, words: tuple[str, ...], tmp_path: Path, s3_client: Any) -> None:
    key = "LSSTCam/20251231/MC_O_20251231_000001/MC_O_20251231_000001_R22_S11.fits"
    s3_client.put_object(Bucket=place.site["buckets"][0], Key=key, Body=b"x")
    with embedded.valkey(tmp_path / "valkey") as url:
        with redis.Redis.from_url(url) as client:
            client.config_set("maxmemory", 1)
        place.site["redis"] = {"url": url}
        place.write()
        assert "maxmemory" in place.fails(*words)


@pytest.mark.parametrize("words", WITH_STORE, ids=title)
def test_the_store_is_dead(place: Place, words: tuple[str, ...]) -> None:
    told = place.fails(*words, env={"S3_ENDPOINT_URL": f"http://{NOBODY}"})
    assert place.site["buckets"][0] in told
    assert NOBODY in told


def test_the_bucket_is_unknown(place: Place) -> None:
    place.site["buckets"] = ["no-such-bucket"]
    place.write()
    assert "the store has no bucket 'no-such-bucket'" in place.fails("trigger", *DAY)


@pytest.mark.parametrize("words", WITH_BUTLER, ids=title)
def test_there_is_no_repository(place: Place, words: tuple[str, ...]) -> None:
    place.site["ingest"] = {"repo": str(place.folder / "nowhere")}
    place.write()
    assert "nowhere" in place.fails(*words)


@pytest.mark.parametrize("words", WITH_BUTLER, ids=title)
def test_the_database_is_dead(place: Place, words: tuple[str, ...]) -> None:
    folder = place.folder / "other"
    folder.mkdir()
    text = Path(place.site["ingest"]["repo"], "butler.yaml").read_text()
    content = yaml.safe_load(text)
    content["registry"]["db"] = f"postgresql+psycopg://user:battery@{NOBODY}/db"
    (folder / "butler.yaml").write_text(yaml.safe_dump(content))
    place.site["ingest"] = {"repo": str(folder)}
    place.write()
    told = place.fails(*words)
    assert "other" in told
    assert "battery" not in told


@pytest.mark.parametrize(
    "words",
    [("repo", "register-instrument", "nowhere", "LSSTCam"), ("repo", "compare", "nowhere", "nowhere")],
    ids=title,
)
def test_repositories_that_are_none(place: Place, words: tuple[str, ...]) -> None:
    assert "nowhere" in place.fails(*words)


@pytest.mark.parametrize("words", WITH_CEPH, ids=title)
def test_ceph_is_dead(place: Place, words: tuple[str, ...]) -> None:
    assert NOBODY in place.fails("ceph", *words, env={"S3_ENDPOINT_URL": f"http://{NOBODY}"})


def test_ceph_says_nothing(place: Place, silent: str) -> None:
    told = place.fails("ceph", "verify", "--timeout", "2s", env={"S3_ENDPOINT_URL": f"http://{silent}"})
    assert "Use --timeout to allow more time" in told


@pytest.mark.parametrize("name", ["site.yaml", "ceph.yaml"])
@pytest.mark.parametrize(
    "content",
    [None, b"", b"\x00", b"\xff\xfe", b"a: [", b"- a", b"a: &a [*a]", b"buckets: 7", b"a: !!python/object:x.y {}"],
)
def test_a_bad_file(place: Place, name: str, content: bytes | None) -> None:
    file = place.folder / name
    file.unlink()
    if content is not None:
        file.write_bytes(content)
    code, out, err = place.run("queue", "status") if name == "site.yaml" else place.run("ceph", "plan")
    assert code == 2, (out, err)
    assert "Traceback" not in err
    assert f"autoingest: {name}" in err


def test_the_store_refuses_simulated_files(place: Place) -> None:
    code, _, err = place.run("simulate", "--bucket", "b", "--json", env={"S3_ENDPOINT_URL": f"http://{NOBODY}"})
    assert code == 2
    assert "Traceback" not in err
    code, _, err = place.run("simulate", "--directory", "/proc/none", "--json")
    assert code == 2
    assert "Traceback" not in err


def dead_letter(place: Place, path: str, text: str) -> None:
    bucket = place.site["buckets"][0]
    content = {"exception": text, "reason": "metadata", "attempts": 1, "first_time": 1.0, "last_time": 2.0}
    with place.redis as client:
        client.hset(f"DEAD:{bucket}", f"{bucket}/{path}", json.dumps(content))


ODD = "María \x1b]0;owned\x07 \x9b31m \r ° \u202e \udcff"
"""What a sender or a header may hold: letters, a terminal's title, colours, a carriage return, reversed writing."""


@pytest.mark.parametrize("environment", [
    {"LANG": "C", "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
    {"PYTHONIOENCODING": "ascii"},
    {"PYTHONIOENCODING": "ascii:strict"},
    {"PYTHONIOENCODING": "latin-1"},
    {"PYTHONIOENCODING": "utf-16"},
    {},
], ids=str)  # fmt: skip
@pytest.mark.parametrize("options", [(), ("--json",)], ids=["text", "json"])
def test_any_text_on_any_terminal(place: Place, environment: dict[str, str], options: tuple[str, ...]) -> None:
    dead_letter(place, "LSSTCam/[red]a[/blue].fits", ODD)
    with place.start("queue", "dead", *options, env=environment) as process:
        out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert b"Traceback" not in err
    encoding = environment.get("PYTHONIOENCODING", "utf-8").partition(":")[0]
    shown = out.decode(encoding)
    assert "[red]a[/blue].fits" in shown
    assert not {"\x1b", "\x07", "\x9b", "\r", "\u202e"} & set(shown)
    assert "\\u001b]0;owned" in shown
    if options:
        assert json.loads(shown)[0]["exception"]


@pytest.mark.parametrize("stream", ["stdout", "both"])
def test_a_reader_that_leaves(place: Place, stream: str) -> None:
    for number in range(3000):
        dead_letter(place, f"LSSTCam/{number}.fits", "x" * 200)
    with place.start("queue", "dead", stderr=subprocess.STDOUT if stream == "both" else subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        process.stdout.close()
        told = process.stderr.read() if process.stderr else b""
        process.wait(60)
    assert process.returncode == -signal.SIGPIPE
    assert told == b""


def test_output_that_is_full_or_closed(place: Place) -> None:
    with open("/dev/full", "wb") as full:
        code, _, err = place.run("queue", "status", stdout=full)
    assert (code, "No space left" in err, "Traceback" in err) == (2, True, False)
    command = f"exec {sys.executable} -m autoingest queue status --config site.yaml >&- 2>&-"
    done = subprocess.run(["bash", "-c", command], cwd=place.folder, timeout=60, check=False)
    assert done.returncode == 0


@pytest.mark.parametrize(
    "words", [("queue", "status"), ("trigger", *DAY), ("audit",), ("ceph", "verify"), ("ceph", "canary")], ids=title
)
def test_ctrl_c(place: Place, words: tuple[str, ...], silent: str) -> None:
    place.site["redis"] = {"url": f"redis://{silent}/0", "socketTimeout": 100}
    place.write()
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        place.site["redis"]["url"] = f"redis://{address}/0"
        place.write()
        with place.start(*words, env={"S3_ENDPOINT_URL": f"http://{address}"}) as process:
            server.settimeout(60)
            connection, _ = server.accept()
            time.sleep(0.1)
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=60)
            connection.close()
    assert process.returncode == 130, err
    assert err.decode().split() == ["autoingest:", "interrupted;", "changes", "made", "so", "far", "are", "kept"]


def test_ctrl_c_at_a_question(place: Place) -> None:
    dead_letter(place, "LSSTCam/a.fits", "x")
    with place.start("queue", "drop", "--all", stdin=subprocess.PIPE) as process:
        assert process.stderr
        seen = b""
        while b"[y/N]" not in seen:
            more = os.read(process.stderr.fileno(), 1000)
            assert more, seen
            seen += more
        # Python may begin to read just after it has looked for signals: whoever presses Ctrl-C does so again.
        deadline = time.monotonic() + 60
        while process.poll() is None:
            assert time.monotonic() < deadline
            process.send_signal(signal.SIGINT)
            time.sleep(0.5)
    assert process.returncode == 130
    code, _, err = place.run("queue", "drop", "--all")
    assert code == 1
    assert "not confirmed; nothing was changed" in err
