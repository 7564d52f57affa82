"""Redis fails over to a replica, or begins to drop keys, while exposures come in."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis

from testing.chaos import Chaos, Member, RedisServer
from testing.redis import Service, sentinel
from testing.threads import in_thread
from testing.waiting import wait_for

ALL = "enqueue,ingest,idle,presence"


def port(server: RedisServer) -> int:
    return urlsplit(server.url).port or 0


def follow(server: RedisServer, primary: RedisServer) -> None:
    """Make a server a replica, and wait until it is in step."""
    with redis.Redis.from_url(server.url, decode_responses=True) as client:
        client.replicaof("127.0.0.1", port(primary))
        wait_for(lambda: client.info("replication").get("master_link_status") == "up", "the replica is in step")


@pytest.fixture
def replica(chaos: Chaos, tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path / "replica")
    server.start()
    follow(server, chaos.redis)
    yield server
    server.close()


@pytest.mark.short
def test_failover_behind_a_name(chaos: Chaos, replica: RedisServer) -> None:
    """The name leads to another server, the connections stay with the one that is a replica now."""
    service = Service(port(chaos.redis))
    with in_thread(service.run()) as url:
        chaos.site.settings = {"redis": {"url": url, "socketTimeout": 5, "replicas": 1, "replicaTimeout": 1}}
        chaos.start(ALL, "ingest,presence")
        chaos.camera.start()
        for _ in chaos.moments(2 * chaos.repeat):
            with redis.Redis.from_url(replica.url) as client:
                client.execute_command("REPLICAOF", "NO", "ONE")
            follow(chaos.redis, replica)
            service.target = port(replica)
            chaos.redis, replica = replica, chaos.redis
            chaos.fault("failover")
        for member in chaos.members:
            chaos.wait_ready(member)
        chaos.finish()
        chaos.site.close()


def test_failover_by_sentinel(chaos: Chaos, replica: RedisServer, tmp_path: Path) -> None:
    with sentinel(tmp_path / "sentinel", port(chaos.redis)) as where:
        host, _, sentinel_port = where.rpartition(":")
        asked = redis.Redis(host, int(sentinel_port), decode_responses=True)

        def primary() -> int:
            address: Any = asked.sentinel_get_master_addr_by_name("images")
            return int(address[1])

        def replicas() -> int:
            return sum(not item["is_disconnected"] for item in asked.sentinel_slaves("images"))

        wait_for(replicas, "the Sentinel knows the replica")
        found = {"sentinel": {"hosts": [where], "service": "images"}, "replicas": 1, "replicaTimeout": 1}
        chaos.site.settings = {"redis": {"url": "redis://anything/0", "socketTimeout": 2, **found}}
        chaos.start(ALL)
        chaos.camera.start()
        for _ in chaos.moments(chaos.repeat):
            chaos.redis.kill()
            chaos.fault("SIGKILL of the primary")
            promoted = port(replica)
            wait_for(lambda promoted=promoted: primary() == promoted, "the replica is the primary")  # type: ignore[misc]
            chaos.redis.start()
            with redis.Redis.from_url(chaos.redis.url, decode_responses=True) as old:
                wait_for(
                    lambda old=old: old.info("replication").get("master_link_status") == "up",  # type: ignore[misc]
                    "the old primary is a replica",
                )
            chaos.redis, replica = replica, chaos.redis
        chaos.finish()
        chaos.site.close()
        asked.close()


def lacks(chaos: Chaos, member: Member) -> str:
    """What a member says that it lacks."""
    url = f"http://127.0.0.1:{chaos.site.admin_ports[member.index]}/readyz"
    try:
        with urllib.request.urlopen(url, timeout=30) as response:
            return " ".join(json.load(response)["troubles"])
    except urllib.error.HTTPError as answer:
        with answer:
            return " ".join(json.load(answer)["troubles"])


@pytest.mark.short
def test_eviction(chaos: Chaos) -> None:
    """Nothing more is taken once it is known that Redis may drop keys; all goes on when it may not any more."""
    members = chaos.start("enqueue", "ingest,idle")

    def all_say(told: Callable[[str], bool]) -> bool:
        return all(told(lacks(chaos, member)) for member in members)

    chaos.camera.start()
    for _ in chaos.moments(chaos.repeat):
        with chaos.client as client:
            client.config_set("maxmemory-policy", "allkeys-lru")
            chaos.fault("maxmemory-policy allkeys-lru")
            wait_for(lambda: all_say(lambda text: "maxmemory-policy is allkeys-lru" in text), "both say why")
            assert not chaos.site.is_ready(members[1].index)
            received = chaos.received()
            queued = client.lrange("QUEUE:rubin-summit", 0, -1)
            chaos.let_pass(2)
            assert chaos.received() == received, "nothing is acknowledged"
            still = set(client.lrange("QUEUE:rubin-summit", 0, -1))
            assert still.issuperset(queued), "nothing is claimed"
            client.config_set("maxmemory-policy", "noeviction")
        wait_for(lambda: all_say(lambda text: not text), "all is well again")
    chaos.finish()
