"""How files stand, by their paths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import orjson
import redis.asyncio

from . import keys
from .scripts import COMMON, head

CHUNK = 500
"""Paths of one request."""

# KEYS: dead letters
# ARGV: (head), JSON: list of paths
# Result: for each path its state and eTag, empty where there is none; dead letters outlive their files' records
STANDING = (
    COMMON
    + """
local result = {}
for i, path in ipairs(cjson.decode(ARGV[4])) do
  local file = redis.call('HMGET', FILE .. path, 'state', 'etag')
  local state = file[1] or (redis.call('HEXISTS', KEYS[1], path) == 1 and 'dead') or ''
  result[i] = {state, file[2] or ''}
end
return result
"""
)


@dataclass(frozen=True, slots=True)
class Standing:
    """How a file stands, as far as Redis knows."""

    state: str
    """As in `autoingest.queue.keys.file`; empty if it is unknown."""
    etag: str | None
    """Version that the state is about."""

    @property
    def on_the_way(self) -> bool:
        """Whether it is going to be ingested."""
        return self.state in ("queued", "working", "waiting")

    @property
    def given_up(self) -> bool:
        """Whether it is dead, or an operator has dropped it."""
        return self.state in ("dead", "dropped")


async def standings(client: redis.asyncio.Redis, bucket: str, paths: Sequence[str]) -> list[Standing]:
    """Look files of one bucket up, in their order."""
    script = client.register_script(STANDING)
    found: list[Standing] = []
    for first in range(0, len(paths), CHUNK):
        reply = await script([keys.dead(bucket)], [*head(), orjson.dumps(paths[first : first + CHUNK])])
        found += [Standing(state, etag or None) for state, etag in reply]
    return found
