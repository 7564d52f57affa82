"""Canaries leave nothing behind in a real Ceph, whatever happens."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio
import yaml
from pydantic import SecretStr

from autoingest.ceph.canary import CanaryResult, send_canaries
from autoingest.ceph.client import Gateway
from autoingest.ceph.desired import DesiredState
from autoingest.ceph.spec import Spec
from autoingest.errors import ConfigurationError
from autoingest.model.notices import CANARY_FOLDER
from autoingest.queue import keys
from testing.ceph import Ceph

BUCKETS = ["canary-versioned", "canary-plain", "canary-suspended", "canary-refused"]
REFUSED = BUCKETS[-1]


@pytest.fixture(scope="module")
def owner(ceph: Ceph) -> Iterator[Any]:
    """Client of the owner of buckets of each kind, one of which nobody may write to."""
    client = ceph.client("s3")
    for bucket in BUCKETS:
        client.create_bucket(Bucket=bucket)
    for bucket, states in ((BUCKETS[0], ["Enabled"]), (BUCKETS[2], ["Enabled", "Suspended"])):
        for state in states:
            client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": state})
    denial = {"Effect": "Deny", "Principal": "*", "Action": "s3:PutObject", "Resource": f"arn:aws:s3:::{REFUSED}/*"}
    client.put_bucket_policy(Bucket=REFUSED, Policy=json.dumps({"Version": "2012-10-17", "Statement": [denial]}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LSST_RESOURCES_S3_PROFILE_owner", ceph.profile)
        yield client


def spec(buckets: list[str]) -> dict[str, Any]:
    notifications = [{"topic": name, "prefix": "LSSTCam/"} for name in ("one", "two")]
    return {
        "profile": "owner",
        "topics": [{"name": name, "pushEndpoint": "http://127.0.0.1:9/notify"} for name in ("one", "two")],
        "buckets": [{"name": f"owner@{bucket}", "notifications": notifications} for bucket in buckets],
    }


async def results(client: redis.asyncio.Redis, buckets: list[str], timeout: float = 0.1) -> list[CanaryResult]:
    declared = Spec.model_validate(spec(buckets))
    async with Gateway.open(declared) as gateway:
        desired = DesiredState(declared, {"one": SecretStr(""), "two": SecretStr("")})
        return await send_canaries(gateway, client, desired, buckets, timeout)


def left(owner: Any) -> list[str]:
    found = []
    for bucket in BUCKETS:
        page = owner.list_object_versions(Bucket=bucket)
        found += [f"{bucket}/{item['Key']}" for item in (*page.get("Versions", ()), *page.get("DeleteMarkers", ()))]
    return found


async def test_nothing_is_left_in_buckets_of_any_kind(owner: Any, redis_client: redis.asyncio.Redis) -> None:
    for result in await results(redis_client, BUCKETS[:-1]):
        assert result.verdict == "silent"
    assert left(owner) == []


async def test_nothing_is_left_where_another_bucket_refuses(owner: Any, redis_client: redis.asyncio.Redis) -> None:
    with pytest.raises(ConfigurationError, match=REFUSED):
        await results(redis_client, BUCKETS, 1.0)
    assert left(owner) == []
    assert await redis_client.keys() == []


async def test_two_at_once_leave_each_other_alone(owner: Any, redis_client: redis.asyncio.Redis) -> None:
    async def arrive() -> None:
        """Note the arrival of each canary, as enqueue does."""
        while True:
            for bucket in BUCKETS[:2]:
                for item in owner.list_objects_v2(Bucket=bucket).get("Contents", ()):
                    for topic in ("one", "two"):
                        field = f"{item['Key']}/autoingest.{bucket}.{topic}"
                        note = json.dumps({"first_time": time.time()})
                        await redis_client.hset(keys.canary(bucket), field, note)
            await asyncio.sleep(0.05)

    notes = asyncio.create_task(arrive())
    pairs = await asyncio.gather(*(results(redis_client, BUCKETS[:2], 60.0) for _ in range(2)))
    notes.cancel()
    assert {result.verdict for pair in pairs for result in pair} == {"arrived"}
    assert left(owner) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["interrupt", "kill"])
async def test_what_an_ended_one_left_is_removed(
    owner: Any, redis_client: redis.asyncio.Redis, valkey_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    number: int,
) -> None:  # fmt: skip
    files = {"ceph.yaml": spec(BUCKETS[:1])}
    files["site.yaml"] = {"buckets": BUCKETS[:1], "redis": {"url": valkey_url}, "ingest": {"repo": "r"}}
    for name, content in files.items():
        (tmp_path / name).write_text(yaml.safe_dump(content))
    command = ["ceph", "canary", "--spec", "ceph.yaml", "--config", "site.yaml", "--timeout", "600"]
    with subprocess.Popen(
        [sys.executable, "-m", "autoingest", *command], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    ) as process:
        deadline = time.monotonic() + 60
        while len(left(owner)) < 2:
            assert time.monotonic() < deadline
            assert process.poll() is None
            await asyncio.sleep(0.05)
        process.send_signal(number)
        _, told = process.communicate(timeout=60)
    if number == signal.SIGINT:
        assert process.returncode == 130
        assert told.strip() == "autoingest: interrupted; changes made so far are kept"
    else:
        assert all(CANARY_FOLDER in key for key in left(owner))
        await results(redis_client, BUCKETS[:1])
        assert len(left(owner)) == 2, "young ones may be another's, who still waits"
        monkeypatch.setattr(keys, "CANARY_EXPIRY", -60)
        await results(redis_client, BUCKETS[:1])
    assert left(owner) == []
