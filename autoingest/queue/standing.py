"""How files stand, by their paths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import redis.asyncio

from . import keys
from .scripts import COMMON, head

CHUNK = 500
"""Paths of one request."""

# KEYS: dead letters
# ARGV: (head), paths
# Result: for each path its state, eTag and butler_etag, empty where there is none; dead letters outlive their files'
#   records
STANDING = (
    COMMON
    + """
local result = {}
for i = 4, #ARGV do
  local path = ARGV[i]
  local file = redis.pcall('HMGET', FILE .. path, 'state', 'etag', 'butler_etag')
  local state = file[1] or (redis.call('HEXISTS', KEYS[1], path) == 1 and 'dead') or ''
  result[i - 3] = {state, file[2] or '', file[3] or ''}
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
    butler_etag: str | None
    """Version in the Butler, as far as Redis knows."""

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
        reply = await script([keys.dead(bucket)], [*head(), *paths[first : first + CHUNK]])
        for state, etag, before in reply:
            found.append(Standing(state, etag or None, (etag if state == "ingested" else before) or None))
    return found
