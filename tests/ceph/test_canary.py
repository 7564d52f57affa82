from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
import redis.asyncio
from pydantic import SecretStr

from autoingest.ceph.canary import CanaryResult, send_canaries
from autoingest.ceph.client import Gateway, RefusedError
from autoingest.ceph.desired import DesiredState
from autoingest.ceph.schema import BucketSpec
from autoingest.ceph.spec import Spec
from autoingest.notify.records import RecordParser
from autoingest.queue import keys
from autoingest.queue.intake import Intake
from testing.messages import body, record

BUCKET = "embargo@rubin-summit"
SPEC = {
    "topics": [{"name": "summit", "pushEndpoint": "http://host/notify"}],
    "buckets": [
        {
            "name": "owner@rubin-summit",
            "notifications": [{"topic": "summit", "prefix": "LSSTCam/", "suffix": ".fits"}],
        }
    ],
}


class Store(Gateway):
    """A Ceph whose notifications are what `on_put` makes of a key."""

    def __init__(self, on_put: Callable[[str], Any]) -> None:
        self._on_put = on_put
        self.objects: list[str] = []

    async def topics(self) -> Any:
        return {}

    async def notifications(self, bucket: BucketSpec) -> Any:
        return []

    async def put(self, bucket: BucketSpec, key: str, body: bytes) -> None:
        await self._on_put(key)
        self.objects.append(key)

    async def delete(self, bucket: BucketSpec, prefix: str, before: datetime | None = None) -> None:
        if before is None:
            self.objects = [key for key in self.objects if not key.startswith(prefix)]


async def send(client: redis.asyncio.Redis, store: Store) -> CanaryResult:
    spec = Spec.model_validate(SPEC)
    desired = DesiredState(spec, {"summit": SecretStr("")})
    (result,) = await send_canaries(store, client, desired, [BUCKET], 0.2)
    assert store.objects == []
    assert await client.keys() == []
    return result


async def test_canary_passes_through_enqueue(redis_client: redis.asyncio.Redis) -> None:
    intake = Intake(redis_client)
    parser = RecordParser([BUCKET], r"never$", secrets=[SecretStr("word")])

    async def announce(key: str, secret: str = "word") -> None:
        assert key.startswith("LSSTCam/")
        assert key.endswith(".fits")
        item = record(key, secret=secret)
        item["s3"]["configurationId"] = "autoingest.rubin-summit.summit"
        message = await parser.parse(body(item))
        assert not message.notices
        await intake.reject(message.rejected)
        assert not await redis_client.exists(keys.rejected(BUCKET))
        if secret == "word":
            assert await redis_client.ttl(keys.canary(BUCKET)) > 0

    result = await send(redis_client, Store(announce))
    assert result.verdict == "arrived"
    (seconds,) = result.arrivals.values()
    assert seconds is not None
    assert 0 <= seconds < 0.2
    result = await send(redis_client, Store(lambda key: announce(key, "another")))
    assert result.verdict == "silent"
    await intake.close()


@pytest.mark.parametrize(("status", "words"), [(503, "queue is full"), (400, "deleted")])
async def test_refusal_gives_the_reason(redis_client: redis.asyncio.Redis, status: int, words: str) -> None:
    async def refuse(_: str) -> None:
        raise RefusedError(f"Ceph answers {status}", status)

    result = await send(redis_client, Store(refuse))
    assert result.verdict == "refused"
    assert words in result.message
