"""A real Ceph for tests: its gateway serves S3 and posts its own notifications.

One monitor, one OSD that keeps its objects in memory, and one gateway, all on the loopback interface and of one user.
Their start takes about a second, once Debian's packages are installed.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from autoingest.dev.embedded import child, free_port

from .requirements import missing

PACKAGES = ("ceph-mon", "ceph-osd", "ceph-common", "radosgw")
PROGRAMS = ("ceph", "ceph-mon", "ceph-osd", "monmaptool", "radosgw", "radosgw-admin")

TICK = 30.0
"""Seconds after which the gateway looks for new persistent topics: only then does one begin to deliver."""

LOCK = 90.0
"""Seconds after which a gateway takes over the persistent topics of one that is gone."""

# No authentication between the daemons, so that there are no keys to make and hand out; the gateway would ask for an
# encrypted connection to the monitor, which needs such keys. One OSD with one copy of everything is less than Ceph
# wants by default. The monitor would collect changes of its maps for a second, for which every step of the start waits.
CONFIGURATION = """\
[global]
fsid = {fsid}
mon host = {monitor}
public addr = 127.0.0.1
cluster addr = 127.0.0.1
auth cluster required = none
auth service required = none
auth client required = none
ms mon client mode = crc
ms client mode = crc
mon data = {folder}/mon
osd data = {folder}/osd
rgw data = {folder}/rgw
log file = {folder}/$name.log
crash dir = {folder}
admin socket =
paxos propose interval = 0.02
paxos min wait = 0.01
mon allow pool size one = true
mon max pg per osd = 1000
mon data avail crit = 1
osd pool default size = 1
osd pool default pg num = 4
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
osd crush update on start = false
osd class update on start = false
osd objectstore = memstore
memstore device bytes = 4294967296
rgw frontends = beast endpoint=127.0.0.1:{port}
rgw rados pool pg num min = 2
rgw gc max objs = 4
rgw lc max objs = 4
rgw objexp hints num shards = 4
rgw usage max shards = 4
rgw run sync thread = false
rgw dynamic resharding = false
"""


@dataclass(frozen=True)
class Ceph:
    """A running gateway and the keys of one of its users."""

    port: int
    config: Path
    restart_gateway: Callable[[], None]
    """Stop the gateway and start it again; topics deliver again when the locks of the old one are over, see `LOCK`."""
    access_key: str = "access"
    secret_key: str = "secret"

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def profile(self) -> str:
        """Value of an ``LSST_RESOURCES_S3_PROFILE_...`` variable."""
        return f"http://{self.access_key}:{self.secret_key}@127.0.0.1:{self.port}"

    def create_user(self, name: str) -> Ceph:
        """Make another user, and return the gateway with the keys of that one."""
        other = replace(self, access_key=f"{name}-access", secret_key=f"{name}-secret")
        _create_user(name, other)
        return other

    def client(self, service: str) -> Any:
        """Return a boto3 client of ``s3`` or ``sns``."""
        return boto3.client(
            service,
            endpoint_url=self.endpoint,
            region_name="default",
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            config=Config(retries={"max_attempts": 0}, s3={"addressing_style": "path"}),
        )

    def subscribe(self, bucket: str, url: str, *, secret: str) -> None:
        """Make a bucket whose new objects are announced to a URL, by a persistent topic of the bucket's name.

        Deliveries begin at the gateway's next tick, up to `TICK` seconds later.
        """
        topic = self.client("sns").create_topic(
            Name=bucket, Attributes={"push-endpoint": url, "OpaqueData": secret, "persistent": "true"}
        )
        s3 = self.client("s3")
        s3.create_bucket(Bucket=bucket)
        s3.put_bucket_notification_configuration(
            Bucket=bucket,
            NotificationConfiguration={
                "TopicConfigurations": [
                    {"Id": bucket, "TopicArn": topic["TopicArn"], "Events": ["s3:ObjectCreated:*"]},
                ]
            },
        )


@contextmanager
def run_ceph(folder: Path) -> Iterator[Ceph]:
    """Run a Ceph until the context ends; its data in `folder` are worthless afterwards."""
    install()
    config = folder / "ceph.conf"
    gateway_port, port = free_port(), free_port()
    monitor = f"[v2:127.0.0.1:{port},v1:127.0.0.1:{free_port()}]"
    fsid, osd = str(uuid.uuid4()), str(uuid.uuid4())
    config.write_text(CONFIGURATION.format(fsid=fsid, monitor=monitor, folder=folder, port=gateway_port))
    for name in ("mon", "osd", "rgw"):
        (folder / name).mkdir()

    def run(program: str, *options: str) -> None:
        _run(config, program, *options)

    with ExitStack() as stack:
        gateway = ExitStack()

        def start(program: str, *options: str, address: int | None = None, stack: ExitStack = stack) -> None:
            command = [program, "--conf", str(config), "--foreground", *options]
            ready = (lambda: _listens(address)) if address else (lambda: True)
            stack.enter_context(child(program, command, folder / f"{program}.out", ready))

        def start_gateway() -> None:
            gateway.close()
            start("radosgw", "--name", "client.rgw", address=gateway_port, stack=gateway)

        run("monmaptool", "--create", "--fsid", fsid, "--addv", "a", monitor, str(folder / "monmap"))
        run("ceph-mon", "--mkfs", "--id", "a", "--monmap", str(folder / "monmap"))
        start("ceph-mon", "--id", "a", address=port)
        run("ceph", "osd", "new", osd)
        run("ceph", "osd", "crush", "add", "0", "1.0", "root=default", "host=localhost")
        run("ceph-osd", "--mkfs", "--id", "0", "--osd-uuid", osd, "--no-mon-config")
        start("ceph-osd", "--id", "0")
        stack.enter_context(gateway)
        start_gateway()
        ceph = Ceph(gateway_port, config, start_gateway)
        _create_user("tester", ceph)
        yield ceph


def _create_user(name: str, ceph: Ceph) -> None:
    _run(
        ceph.config, "radosgw-admin", "user", "create", "--uid", name, "--display-name", name,
        "--access-key", ceph.access_key, "--secret-key", ceph.secret_key,
    )  # fmt: skip


def _run(config: Path, program: str, *options: str) -> None:
    command = [program, "--conf", str(config), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stdout[-1000:]}{done.stderr[-2000:]}"


def install() -> None:
    """Install Ceph from the distribution's packages where it isn't yet; skip the test where that can't be done."""
    if all(map(shutil.which, PROGRAMS)):
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        missing("ceph", f"not installed, and it takes root and apt-get to install {' '.join(PACKAGES)}")
    packages = ["install", "--yes", "--no-install-recommends", *PACKAGES]
    with (Path(tempfile.gettempdir()) / "autoingest-apt.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # other processes of this test run want the same packages
        if _apt_get(*packages):
            _apt_get("update")
            if error := _apt_get(*packages):
                missing("ceph", f"apt-get {' '.join(packages)}: {error}")


def _apt_get(*arguments: str) -> str:
    """Run apt-get, and return how it failed, if it did."""
    done = subprocess.run(
        ["apt-get", "-o", "DPkg::Lock::Timeout=60", *arguments],
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
        stdin=subprocess.DEVNULL, capture_output=True, text=True,
    )  # fmt: skip
    return f"exit code {done.returncode}: {done.stderr[-500:].strip()}" if done.returncode else ""


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True
