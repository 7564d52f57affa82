"""Looks at Redis, and at the processes that it has heard of."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from ...app.config import Config
from ...model.checks import Check, clock, fail, ok, warn
from ...queue.connection import REDIS_AWAY, cause, connect
from ...queue.health import code
from ...queue.heartbeats import Heartbeat, heartbeats

MOST_MEMORY = 0.8
"""Fraction of the memory above which to warn."""

FULL = 0.95
"""Fraction of the memory above which writes will soon be refused."""

_REMEDIES = {
    "WRONGPASS": "set AUTOINGEST_REDIS_PASSWORD to the server's password",
    "NOAUTH": "set AUTOINGEST_REDIS_PASSWORD to the server's password",
    "NOPERM": "allow this user all commands: ACL SETUSER",
    "READONLY": "let redis.url name the primary, or configure redis.sentinel",
    "LOADING": "wait until the server has read its data",
    "network": "check that the server runs, redis.url and the network",
}


async def check_redis(config: Config) -> list[Check]:
    """Look at the server, what it keeps and how, its clock, and the processes of the site."""
    client = connect(config.redis)
    where = config.redis.url.rpartition("@")[2]
    try:
        await client.ping()
        before = time.time()
        seconds, micros = await client.time()
        after = time.time()
        info: dict[str, Any] = await client.info()
        found = [
            ok("Redis", f"version {info['redis_version']} at {where}"),
            _policy(info),
            _persistence(info),
            _memory(info),
            clock("clock of Redis", seconds + micros / 1e6 - (before + after) / 2, after - before),
        ]
        if config.redis.replicas:
            found.append(_replicas(info, config.redis.replicas))
        return found + _processes(config, await heartbeats(client))
    except REDIS_AWAY as err:
        remedy = _REMEDIES.get(code(err), "look into the server's log")
        return [fail("Redis", f"{cause(err)} ({where})", remedy)]
    finally:
        await client.aclose()


def _policy(info: Mapping[str, Any]) -> Check:
    policy = info.get("maxmemory_policy")
    if policy == "noeviction":
        return ok("Redis policy", "noeviction")
    return fail(
        "Redis policy",
        f"maxmemory-policy is {policy}: queued files may vanish",
        "redis-cli CONFIG SET maxmemory-policy noeviction, and the same in the server's configuration file",
    )


def _persistence(info: Mapping[str, Any]) -> Check:
    name = "Redis persistence"
    broken = [
        what
        for key, what in (("aof_last_write_status", "append-only file"), ("rdb_last_bgsave_status", "snapshot"))
        if info.get(key, "ok") != "ok"
    ]
    if broken:
        return fail(name, f"the last write of the {broken[0]} has failed", "look at the server's disk and log")
    if info.get("aof_enabled"):
        return ok(name, "append-only file")
    return warn(
        name,
        "no append-only file: a restart of Redis loses the last files of the queue",
        "redis-cli CONFIG SET appendonly yes, and the same in the server's configuration file",
    )


def _memory(info: Mapping[str, Any]) -> Check:
    name = "Redis memory"
    used, limit = int(info["used_memory"]), int(info.get("maxmemory", 0))
    of = limit or int(info.get("total_system_memory", 0))
    text = f"{used / 2**20:,.0f} MiB used of {of / 2**20:,.0f} MiB" + ("" if limit else " of the machine, no limit")
    if not of or used <= MOST_MEMORY * of:
        return ok(name, text)
    remedy = "raise maxmemory; autoingest queue status and autoingest queue dead show what fills it"
    return (fail if used > FULL * of else warn)(name, text, remedy)


def _replicas(info: Mapping[str, Any], needed: int) -> Check:
    there = int(info.get("connected_slaves", 0))
    text = f"{there} of {needed} that must confirm (redis.replicas)"
    if there >= needed:
        return ok("Redis replicas", text)
    return fail("Redis replicas", text, "start the replicas; until then notifications are answered 503")


def _processes(config: Config, beats: list[Heartbeat]) -> list[Check]:
    alive = [beat for beat in beats if beat.is_alive]
    found = []
    for role in config.roles:
        number = sum(role in beat.roles for beat in alive)
        if number:
            found.append(ok(f"role {role}", f"{number} running"))
        else:
            remedy = f"autoingest run --roles {role}, or scale up its deployment"
            found.append(fail(f"role {role}", "no process is alive", remedy))
    for beat in alive:
        found += [
            fail(f"process {beat.host} {beat.pid}", trouble.text, "autoingest status shows since when")
            for trouble in (*beat.troubles, *(one for role in beat.roles.values() for one in role.troubles))
        ]
        skew = clock(f"clock of {beat.host}", beat.clock_offset)
        if skew.state != "ok":
            found.append(skew)
    return found
