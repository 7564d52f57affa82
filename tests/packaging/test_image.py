"""The image: built for real, run as its own user with a read-only root. It takes minutes: ``make image``."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis
import yaml

from autoingest.dev.embedded import free_port
from testing.requirements import MUST_RUN, missing
from testing.waiting import wait_for

from .conftest import CHART, ROOT

BASE = "docker.io/library/python:3.12-slim"
SUITE = "bookworm"
AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"
MOST = 600e6
"""Bytes of the slim image at the most."""

ASIDE = ("doc", "locale", "man")
"""Folders of /usr/share that slim images go without."""

# A root that nobody can write to, with a /tmp as a pod has it, and no way to gain rights.
READ_ONLY = """
set -e
PATH=$PATH:/usr/sbin:/sbin
mount --bind "$1" "$1"
mount -o remount,bind,ro "$1"
mount -t tmpfs none "$1/tmp"
mount -t proc none "$1/proc"
mount --rbind /dev "$1/dev"
root=$1 user=$2
shift 2
exec setpriv --no-new-privs chroot --userspec="$user" "$root" "$@"
"""

pytestmark = [
    pytest.mark.timeout(1800),
    pytest.mark.skipif("image" not in os.environ.get(MUST_RUN, "").split(), reason="takes minutes: make image"),
]


@dataclass(frozen=True)
class Image:
    """An image that was built, mounted."""

    root: Path
    config: dict[str, Any]

    def command(self, *arguments: str, entrypoint: Sequence[str] | None = None) -> list[str]:
        """Command that runs the image's program."""
        first = self.config["Entrypoint"] if entrypoint is None else entrypoint
        directory = f"cd {shlex.quote(self.config['WorkingDir'])} && exec {shlex.join([*first, *arguments])}"
        environment = ["/usr/bin/env", "-i", *self.config["Env"], "sh", "-c", directory]
        return ["unshare", "-m", "sh", "-c", READ_ONLY, "sh", str(self.root), self.config["User"], *environment]


@dataclass(frozen=True)
class Builder:
    """Buildah with a storage of its own."""

    folder: Path

    def run(self, *arguments: str) -> str:
        command = ["buildah", "--root", self.folder / "storage", "--runroot", self.folder / "run", *arguments]
        done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, text=True, check=True)
        return done.stdout.strip()

    def build(self, extras: str) -> Image:
        volumes = [f"--volume={path}:{path}:ro" for path in _local_packages()]
        identity = self.run(
            "build", "--isolation=chroot", "--pull-never", "--quiet", f"--build-arg=EXTRAS={extras}", *volumes,
            str(ROOT),
        )  # fmt: skip
        root = Path(self.run("mount", self.run("from", "--pull-never", identity)))
        return Image(root, json.loads(self.run("inspect", "--type=image", identity))["OCIv1"]["config"])


@pytest.fixture(scope="module")
def builder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Builder]:
    """A builder that holds a Debian with Python under the name of the image's base."""
    if os.geteuid():
        missing("image", "needs root")
    for program in ("buildah", "mmdebstrap"):
        if not shutil.which(program):
            missing("image", f"{program} is not installed: apt-get install {program}")
    folder = tmp_path_factory.mktemp("image")
    builder, archive = Builder(folder), folder / "base.tar"
    options = [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ASIDE]
    packages = "--include=python3,python3-venv,ca-certificates"
    command = ["mmdebstrap", "--quiet", "--variant=minbase", packages, *options, SUITE, str(archive)]
    subprocess.run([*command, "http://deb.debian.org/debian"], check=True)
    try:
        base = builder.run("from", "scratch")
        builder.run("add", "--quiet", base, str(archive), "/")
        # What pip is told on this machine, and whom it trusts.
        settings = _pip_settings() | {"cert": AUTHORITIES}
        lines = [f"{name} = {value}\n" for name, value in settings.items()]
        (folder / "pip.conf").write_text("[global]\n" + "".join(lines))
        builder.run("add", "--quiet", base, str(folder / "pip.conf"), "/etc/pip.conf")
        if authorities := os.environ.get("SSL_CERT_FILE"):
            builder.run("add", "--quiet", base, authorities, AUTHORITIES)
        builder.run("commit", "--quiet", base, BASE)
        yield builder
    finally:
        builder.run("umount", "--all")
        builder.run("rm", "--all")


def _pip_settings() -> dict[str, str]:
    """What pip's files on this machine say for all commands."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    pairs = (line.partition("=") for line in done.stdout.splitlines())
    settings = {name: value.strip("'") for name, _, value in pairs}
    return {name.removeprefix("global."): value for name, value in settings.items() if name.startswith("global.")}


def _local_packages() -> list[Path]:
    """Folders of packages, and files of constraints, on this machine that pip's settings name."""
    settings = _pip_settings()
    settings.pop("cert", None)  # the image has its own
    words = " ".join(settings.values()).split()
    paths = [Path(urlsplit(word).path) for word in words if word.startswith(("file://", "/"))]
    # The files of an index lie beside its folder.
    return [path.parent if path.name == "simple" else path for path in paths if path.exists()]


@pytest.fixture(scope="module")
def slim(builder: Builder) -> Image:
    return builder.build("")


def test_slim_image(slim: Image) -> None:
    size = int(subprocess.check_output(["du", "--summarize", "--bytes", "-x", slim.root], text=True).split()[0])
    print(f"the slim image has {size / 1e6:.0f} MB")
    assert size < MOST
    assert int(slim.config["User"].split(":")[0]) > 0
    version = subprocess.run(slim.command("--version"), capture_output=True, text=True, check=True)
    assert "autoingest, version" in version.stdout
    written = subprocess.run(slim.command("/x", entrypoint=["touch"]), capture_output=True, text=True)
    assert written.returncode != 0
    assert "Read-only file system" in written.stderr


def test_roles_run_in_the_slim_image(slim: Image, valkey_url: str, s3_environment: str, tmp_path: Path) -> None:
    notify, presence, admin = free_port(), free_port(), free_port()
    with redis.Redis.from_url(valkey_url) as client:
        client.flushall()  # the queue may belong to the repository of another test
    config = yaml.safe_dump(
        {
            "buckets": ["rubin-summit"],
            "redis": {"url": valkey_url},
            "enqueue": {"listen": {"host": "127.0.0.1", "port": notify}},
            "presence": {"listen": {"host": "127.0.0.1", "port": presence}},
            "admin": {"listen": {"host": "127.0.0.1", "port": admin}},
            "ingest": {"repo": "/tmp/repo"},
        }
    )
    file = tmp_path / "config.yaml"
    file.write_text(config)
    store = " ".join(f"{name}={os.environ[name]}" for name in ("S3_ENDPOINT_URL", "AWS_ACCESS_KEY_ID"))
    script = (
        "cat > /tmp/config.yaml && autoingest repo create /tmp/repo --instrument LSSTCam && "
        f"exec env {store} AWS_SECRET_ACCESS_KEY=test autoingest run --config /tmp/config.yaml"
    )
    with _running(slim.command("-c", script, entrypoint=["sh"]), config, tmp_path / "log") as process:
        wait_for(lambda: process.poll() is not None or _is_ready(admin), "the roles are ready", 120)
        canary = [sys.executable, str(CHART / "files" / "canary.py"), f"http://127.0.0.1:{notify}/notify", str(file)]
        subprocess.run(canary, check=True)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0, (tmp_path / "log").read_text()


@contextmanager
def _running(command: list[str], stdin: str, log: Path) -> Iterator[subprocess.Popen[str]]:
    with log.open("w") as output:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=output, stderr=output, text=True)
    try:
        assert process.stdin
        process.stdin.write(stdin)
        process.stdin.close()
        yield process
    finally:
        process.kill()
        process.wait()


def _is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def test_demo_runs_in_an_image_with_its_extra(builder: Builder) -> None:
    image = builder.build("[demo]")
    done = subprocess.run(image.command("demo"), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout
    assert "its visit is defined" in done.stdout
