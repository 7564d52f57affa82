"""The sentence that says how a site is."""

from __future__ import annotations

from typing import Any

import pytest

from autoingest.operations.site_status import Lamp, SiteStatus, Summary
from autoingest.queue.heartbeats import SILENT, Heartbeat, RoleState, Trouble
from autoingest.queue.status import QueueStatus

NOW = 10_000.0


def process(
    *troubles: Trouble, age: float = 0.0, host: str = "host-1", lacks: tuple[Trouble, ...] = (), **needs: Trouble | None
) -> Heartbeat:
    roles = {"ingest": RoleState("", lacks, needs)}
    return Heartbeat("one", host, 17, "1.2.3", 1000.0, NOW, roles, troubles, age=age)


def queue(**numbers: Any) -> QueueStatus:
    empty = dict.fromkeys(("depth", "working", "workers", "waiting", "dead", "owed"), 0)
    return QueueStatus(**{**empty, "oldest": None, **numbers})


def site(*processes: Heartbeat, paused: str = "", exposure: dict[str, Any] | None = None, **numbers: Any) -> SiteStatus:
    pauses = {"b": paused} if paused else {}
    return SiteStatus(processes, {"b": queue(**numbers)}, pauses, (exposure,) if exposure else (), NOW)


def exposure(state: str = "complete", last_ingested: str | None = "2026-11-26T04:00:16+00:00") -> dict[str, Any]:
    times = {"last_put": "2026-11-26T04:00:10+00:00", "last_ingested": last_ingested}
    return {"obs_id": "MC_O_20261125_000007", "state": state, "times": times}


WELL = process(butler=None, store=None)
AWAY = process(butler=Trouble("connection refused", NOW - 130), store=None)


@pytest.mark.parametrize(
    ("status", "summary"),
    [
        (site(WELL), Summary("ok", "All images in.")),
        (site(WELL, exposure=exposure()), Summary("ok", "All images in. Last exposure complete 6 s after readout.")),
        (
            site(WELL, exposure=exposure(last_ingested=None)),
            Summary("ok", "All images in. Last exposure MC_O_20261125_000007 is complete."),
        ),
        (
            site(WELL, exposure=exposure("incomplete")),
            Summary("ok", "All images in. Last exposure MC_O_20261125_000007 is not complete."),
        ),
        (site(WELL, depth=1, working=2), Summary("ok", "3 images on the way into the Butler.")),
        (site(WELL, owed=1), Summary("warn", "1 visit not yet defined.")),
        (site(WELL, dead=1200, owed=1), Summary("warn", "1,200 images failed: see `autoingest queue dead`.")),
        (site(WELL, depth=2, oldest=600.0), Summary("warn", "2 images wait, the oldest for 10 min.")),
        (site(WELL, process(age=SILENT + 1, host="h2")), Summary("warn", "1 process silent, last on h2.")),
        (site(WELL, paused="ann: upgrade", depth=1), Summary("warn", "b is paused by ann: upgrade; 1 image waits.")),
        (site(process(reader=Trouble("refused", NOW - 5))), Summary("warn", "Reader unusable for 5 s.")),
        (site(AWAY, depth=400, working=10), Summary("error", "Butler unusable for 2 min; 410 images wait.")),
        (site(AWAY, WELL, dead=1), Summary("error", "Butler unusable for 2 min; 0 images wait.")),
        (
            site(process(Trouble("READONLY", NOW - 20), butler=None)),
            Summary("error", "Redis unusable for 20 s; 0 images wait."),
        ),
        (
            site(process(lacks=(Trouble("listener is not open", NOW - 20),))),
            Summary("error", "Not ready for 20 s: ingest: listener is not open."),
        ),
        (site(process(age=SILENT + 1), depth=7), Summary("error", "No process is alive; 7 images wait.")),
    ],
)
def test_summary(status: SiteStatus, summary: Summary) -> None:
    assert status.summary() == summary
    assert status.document()["summary"] == {"level": summary.level, "text": summary.text}


def test_lamps_say_the_first_outage() -> None:
    later = process(butler=Trouble("timed out", NOW - 10), store=None)
    silent = process(age=SILENT + 1, kafka=Trouble("refused", 1.0))
    assert site(later, AWAY, silent).lamps() == [
        Lamp("redis", is_up=True),
        Lamp("store", is_up=True),
        Lamp("butler", is_up=False, cause="connection refused", since=NOW - 130),
    ]
