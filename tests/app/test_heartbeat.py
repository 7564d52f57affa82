"""What a process tells of itself."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis

from autoingest.app.config import RedisConfig
from autoingest.app.heartbeat import HeartbeatKeeper
from autoingest.queue.connection import connect
from autoingest.queue.heartbeats import beat, heartbeats


class NeedsButler:
    """A role whose dependencies the test sets."""

    name = "ingest"

    def __init__(self) -> None:
        self.needs: dict[str, str] = {}

    def dependencies(self) -> dict[str, str]:
        return self.needs

    def unready_reasons(self) -> list[str]:
        return []


async def test_an_outage_lasts_while_its_cause_changes(
    valkey_url: str, redis_client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with connect(RedisConfig(url=valkey_url)) as client:
        role = NeedsButler()
        keeper = HeartbeatKeeper(client, [role])  # type: ignore[list-item]

        async def told(now: float, **needs: str) -> dict[str, tuple[str, float] | None]:
            monkeypatch.setattr("time.time", lambda: now)
            role.needs = needs
            await beat(client, keeper.now())
            states = (await heartbeats(redis_client))[0].roles["ingest"].dependencies
            return {name: (one.text, one.since) if one else None for name, one in states.items()}

        assert await told(1.0, butler="", store="") == {"butler": None, "store": None}
        assert await told(2.0, butler="refused", store="") == {"butler": ("refused", 2.0), "store": None}
        assert await told(3.0, butler="timed out", store="") == {"butler": ("timed out", 2.0), "store": None}
        assert await told(4.0, butler="", store="") == {"butler": None, "store": None}
        assert await told(5.0, butler="refused", store="") == {"butler": ("refused", 5.0), "store": None}
