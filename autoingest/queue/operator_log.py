"""What operators have done: each act is recorded in the step that does it. And the pause of a bucket."""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import Sequence
from typing import Any, cast

import redis.asyncio

from . import keys

OPERATOR = "AUTOINGEST_OPERATOR"
"""Environment variable with the operator's name, where the login name is the same for all, as in a pod."""

MOST_ENTRIES = 10_000
"""Number of acts that are kept."""

SHOWN = 10
"""Number of paths that an act names."""


def operator() -> str:
    """Return who gives this command: ``name@host``."""
    name = os.environ.get(OPERATOR)
    if not name:
        try:
            name = getpass.getuser()
        except (OSError, KeyError):  # a user without a name, as in a pod
            name = f"uid {os.getuid()}"
    return f"{name}@{socket.gethostname()}"


def note(step: Any, act: str, bucket: str, paths: Sequence[str] = (), why: str = "") -> None:
    """Add an act's entry to a pipeline that does the act in the same transaction."""
    fields = {"who": operator(), "act": act, "bucket": bucket, "number": len(paths), "why": why}
    fields["paths"] = "\n".join(paths[:SHOWN])
    step.xadd(keys.OPERATOR_LOG, fields, maxlen=MOST_ENTRIES, approximate=True)


async def record(client: redis.asyncio.Redis, act: str, bucket: str, paths: Sequence[str], why: str = "") -> None:
    """Record an act that takes more than one step, after it; nothing if it has changed nothing.

    Parameters
    ----------
    client
        Redis client that decodes responses.
    act
        What was done, such as ``triggered``.
    bucket
        Bucket with its profile, or what else it was done to.
    paths
        What it was done with; the first `SHOWN` are kept.
    why
        More about it.
    """
    if paths:
        async with client.pipeline(transaction=False) as step:
            note(step, act, bucket, paths, why)
            await step.execute()


async def pause_bucket(client: redis.asyncio.Redis, bucket: str, why: str) -> None:
    """Let workers take nothing more from a bucket's queue; they finish what they have."""
    async with client.pipeline(transaction=True) as step:
        step.set(keys.paused(bucket), f"{operator()}: {why}" if why else operator())
        note(step, "paused", bucket, why=why)
        await step.execute()


async def resume_bucket(client: redis.asyncio.Redis, bucket: str) -> bool:
    """Let workers take from a bucket's queue again; return whether it was paused."""
    async with client.pipeline(transaction=True) as step:
        step.delete(keys.paused(bucket))
        note(step, "resumed", bucket)
        deleted, _ = await step.execute()
    return bool(deleted)


async def pause_of(client: redis.asyncio.Redis, bucket: str) -> str | None:
    """Return who has paused a bucket, and why; None if it is not paused."""
    found = await client.get(keys.paused(bucket))
    return None if found is None else str(found)


async def acts(client: redis.asyncio.Redis, number: int) -> list[dict[str, Any]]:
    """Return the last acts, the oldest first, each with its ``time`` in epoch seconds."""
    found = cast(list[tuple[str, dict[str, str]]], await client.xrevrange(keys.OPERATOR_LOG, count=number))
    return [{"time": int(position.partition("-")[0]) / 1000, **fields} for position, fields in reversed(found)]
