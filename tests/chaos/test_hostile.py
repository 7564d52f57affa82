"""Hostile senders, while real exposures arrive."""

from __future__ import annotations

import urllib.request

import pytest
from pydantic import SecretStr

from autoingest.app.secrets import NOTIFICATION_SECRETS
from testing.chaos import Chaos
from testing.hostile import Hostile
from testing.waiting import wait_for

ALL = "enqueue,ingest,idle"
SECRET = "right-secret"


@pytest.mark.short
def test_hostile_senders(chaos: Chaos) -> None:
    """Wrong secrets, malformed requests, slow ones, huge ones and silent connections: more than there are places.

    What is genuine is acknowledged and ingested all the same, probes are answered, and the log stays short.
    """
    chaos.site.environment = {**chaos.site.environment, NOTIFICATION_SECRETS: SECRET}
    chaos.site.limits = {"maxConnections": 40, "patience": 4}
    chaos.site.enqueue = {"hold": 1, "maxBodies": 4 * 2**20}
    chaos.camera.secret = SecretStr(SECRET)
    (member,) = chaos.start(ALL)
    hostile = Hostile(member.notify_port, each=7)
    with hostile.attacking():
        wait_for(lambda: hostile.done["wrong"] > 20 and hostile.done["huge"] > 2, "an attack under way")
        chaos.camera.start()
        chaos.camera.join()
        with urllib.request.urlopen(
            f"http://127.0.0.1:{chaos.site.admin_ports[member.index]}/livez", timeout=30
        ) as answer:
            assert answer.status == 200
        for number in range(3):
            seen = hostile.done["wrong"]
            wait_for(lambda seen=seen: hostile.done["wrong"] > seen, f"the attack goes on, {number}")  # type: ignore[misc]
    for kind in ("wrong", "malformed", "slow_head", "slow_body", "huge", "beyond", "silent"):
        chaos.fault(f"request {kind}", hostile.done[kind])
    assert {"400", "401", "413"} <= hostile.done.keys()
    assert chaos.site.metric("autoingest_unauthentic_total", member.index) > 20
    assert chaos.site.metric("autoingest_connections_closed_total", member.index) > 0
    chaos.finish()
    log = chaos.log(member)
    for line in ("records without a valid secret dropped", "malformed requests", "malformed notifications"):
        assert 1 <= log.count(line) <= 10, line
    assert SECRET not in log
