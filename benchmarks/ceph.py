"""Seconds from a PUT into a real Ceph, which posts the notifications itself, to presence and dataset."""

from __future__ import annotations

import asyncio
import os
import statistics
import time

import pytest

from testing.ceph import TICK, Ceph, run_ceph
from testing.site import Site
from testing.waiting import wait_for

from . import bench, program
from .burst import CADENCE, ROLES, Watcher
from .load import percentile
from .report import Row

BUCKET = f"ceph@{bench.BUCKET}"
EXPOSURES = 5
"""Exposures of one run, after the first of the process."""


async def measure(servers: bench.Servers) -> list[Row]:
    """Write exposures into Ceph and wait for them, all roles being in one process."""
    folder = servers.folder / "ceph"
    folder.mkdir()
    try:
        with run_ceph(folder) as ceph:
            return await _measure(servers, ceph)
    except (pytest.skip.Exception, pytest.fail.Exception) as absent:
        return [Row(f"not measured: {absent}", "", [])]


async def _measure(servers: bench.Servers, ceph: Ceph) -> list[Row]:
    secret = "d0me"
    os.environ.update(LSST_RESOURCES_S3_PROFILE_ceph=ceph.profile)
    repo = bench.repository(servers)
    writing, presence, first, last, typical, rare = [], [], [], [], [], []
    async with bench.empty_redis(servers.redis_url) as client:
        with bench.site(servers, repo, BUCKET, {"AUTOINGEST_NOTIFICATION_SECRETS": secret}) as site:
            watcher = Watcher(client, servers.postgres_url, repo)
            ceph.subscribe(bench.BUCKET, site.notify_url, secret=secret)
            program.start(site, ROLES)
            _wait_for_delivery(ceph, site)
            for number in range(1 + servers.runs * EXPOSURES):
                due = time.monotonic() + CADENCE
                ((exposure, images),) = await bench.take(1, first_seq=1 + number, bucket=BUCKET)
                put = [file.put_time for file in images]
                done = await watcher.datasets(images)
                if number:
                    each = [end - begin for begin, end in zip(put, done, strict=True)]
                    writing.append(max(put) - min(put))
                    presence.append(await watcher.presence(exposure) - max(put))
                    first.append(max(done) - min(put))
                    last.append(max(done) - max(put))
                    typical.append(statistics.median(each))
                    rare.append(percentile(each, 0.99))
                await asyncio.sleep(max(0.0, due - time.monotonic()))
    return [
        Row("ceph: 205 images and sidecars written, first PUT to last", "s", writing),
        Row("ceph: first PUT to last dataset", "s", first),
        Row("ceph: last PUT to last presence key", "s", presence),
        Row("ceph: last PUT to last dataset", "s", last),
        Row("ceph: PUT of an image to its dataset", "s", typical),
        Row("ceph: PUT of an image to its dataset, p99", "s", rare),
    ]


def _wait_for_delivery(ceph: Ceph, site: Site) -> None:
    """Wait until Ceph delivers, which a persistent topic begins at the gateway's next tick."""
    ceph.client("s3").put_object(Bucket=bench.BUCKET, Key="warm-up.txt", Body=b"")
    wait_for(lambda: site.metric("autoingest_ignored_total"), "the first notification", TICK + 30)
