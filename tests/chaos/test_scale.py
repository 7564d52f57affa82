"""A queue of a million paths."""

from __future__ import annotations

import asyncio

import pytest

from autoingest.queue import keys
from testing.chaos import Chaos
from testing.shots import BUCKET

MILLION = 1_000_000
STEP = 20_000

FILL = """
for i = ARGV[1], ARGV[2] do
  local path = KEYS[1] .. '/LSSTCam/20290101/MC_O_20290101_000001/backlog-' .. i .. '.fits'
  redis.call('LPUSH', KEYS[2], path)
  redis.call('HSET', KEYS[3] .. path, 'state', 'queued', 'recv_time', '1.5')
end
"""
CLEAR = """
for _, path in ipairs(redis.call('RPOP', KEYS[1], ARGV[1])) do
  redis.call('DEL', KEYS[2] .. path)
end
"""


@pytest.mark.timeout(400)
def test_million_queued_paths(chaos: Chaos) -> None:
    """Notifications are taken behind them, Redis comes back with them, and the audit counts them."""
    chaos.start("enqueue", "idle", "idle")
    with chaos.client as client:
        fill, clear = client.register_script(FILL), client.register_script(CLEAR)
        for first in range(0, MILLION, STEP):
            fill([BUCKET, keys.queue(BUCKET), keys.file("")], [first, first + STEP - 1])
        chaos.camera.cadence = 0.5
        chaos.camera.start()
        chaos.redis.kill()
        chaos.fault("SIGKILL of Redis with a million paths")
        chaos.redis.start()
        chaos.camera.join()
        report = asyncio.run(chaos.audit())
        assert report.consistent, report.findings
        assert report.counts[BUCKET]["queued"] == MILLION + len(chaos.shots)
        for _ in range(0, MILLION, STEP):
            clear([keys.queue(BUCKET), keys.file("")], [STEP])
    chaos.start("ingest")
    chaos.finish()
