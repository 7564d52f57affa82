"""What a site does now, and the one sentence that says how it is: for the terminal and the status page."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

import redis.asyncio

from ..app.config import Config
from ..queue.heartbeats import Heartbeat, Trouble, heartbeats
from ..queue.operator_log import pause_of
from ..queue.progress import newest_exposures
from ..queue.status import QueueStatus, queue_status

Level = Literal["ok", "warn", "error"]

SLOW = 60.0
"""Seconds after which a file that waits on the queue is told of."""

DEPENDENCIES = {"redis": "Redis", "store": "Object store", "butler": "Butler", "kafka": "Kafka"}
"""The services that images need, with the names that operators know."""


@dataclasses.dataclass(frozen=True, slots=True)
class Lamp:
    """Whether a service can be used, by what living processes say of it."""

    name: str
    is_up: bool
    cause: str = ""
    """Why it can't be used."""
    since: float | None = None
    """Epoch seconds since when it can't."""


@dataclasses.dataclass(frozen=True, slots=True)
class Summary:
    """The site in one sentence."""

    level: Level
    text: str


@dataclasses.dataclass(frozen=True, slots=True)
class SiteStatus:
    """What a site does now."""

    processes: Sequence[Heartbeat]
    queues: Mapping[str, QueueStatus]
    paused: Mapping[str, str]
    """Buckets that are paused, with who has done so and why."""
    exposures: Sequence[Mapping[str, Any]] = ()
    """The newest exposures, the last one last, as `newest_exposures` returns them."""
    time: float = dataclasses.field(default_factory=time.time)
    """Epoch seconds at which it was looked at."""

    @property
    def waiting(self) -> int:
        """Number of images that are on the way."""
        return sum(queue.depth + queue.working + queue.waiting for queue in self.queues.values())

    def troubles(self) -> dict[str, tuple[float, int]]:
        """Return what living processes lack, since when (epoch seconds), and how many of them say so."""
        found: dict[str, tuple[float, int]] = {}
        for process in self.processes:
            mine = {trouble.text: trouble.since for trouble in process.troubles}
            for name, role in process.roles.items():
                mine |= {f"{name}: {trouble.text}": trouble.since for trouble in role.troubles}
            for text, since in mine.items() if process.is_alive else ():
                first, number = found.get(text, (since, 0))
                found[text] = min(first, since), number + 1
        return found

    def is_well(self) -> bool:
        """Whether processes are alive, none has vanished, and none lacks anything."""
        return bool(self.processes) and all(one.is_alive for one in self.processes) and not self.troubles()

    def lamps(self) -> list[Lamp]:
        """Return the state of each service that a living process needs; the first outage of several counts."""
        found: dict[str, Lamp] = {}
        for process in self.processes:
            states: list[tuple[str, Trouble | None]] = [("redis", trouble) for trouble in (*process.troubles, None)]
            states += [item for role in process.roles.values() for item in role.dependencies.items()]
            for name, trouble in states if process.is_alive else ():
                known = found.setdefault(name, Lamp(name, is_up=True))
                if trouble and (known.since is None or trouble.since < known.since):
                    found[name] = Lamp(name, is_up=False, cause=trouble.text, since=trouble.since)
        order = list(DEPENDENCIES)
        return sorted(found.values(), key=lambda one: (order.index(one.name) if one.name in order else 9, one.name))

    def summary(self) -> Summary:
        """Return the most serious of what there is to say."""
        return next(self._sentences())

    def _sentences(self) -> Iterator[Summary]:
        """Yield what there is to say, the most serious first; the last one is always there."""
        images = f"{_count(self.waiting, 'image')} {'waits' if self.waiting == 1 else 'wait'}"
        alive = [process for process in self.processes if process.is_alive]
        if not alive:
            yield Summary("error", f"No process is alive; {images}.")
        down = [lamp for lamp in self.lamps() if not lamp.is_up]
        for lamp in (lamp for lamp in down if lamp.name in DEPENDENCIES):
            yield Summary("error", f"{DEPENDENCIES[lamp.name]} unusable for {self._since(lamp.since)}; {images}.")
        for text, (since, _) in self.troubles().items():
            yield Summary("error", f"Not ready for {self._since(since)}: {text}.")
        for bucket, who in self.paused.items():
            yield Summary("warn", f"{bucket} is paused by {who}; {images}.")
        for lamp in down:
            yield Summary("warn", f"{lamp.name.capitalize()} unusable for {self._since(lamp.since)}.")
        if silent := [process for process in self.processes if not process.is_alive]:
            hosts = ", ".join(dict.fromkeys(process.host for process in silent))
            yield Summary("warn", f"{_count(len(silent), 'process', 'es')} silent, last on {hosts}.")
        if (oldest := max((queue.oldest or 0.0 for queue in self.queues.values()), default=0.0)) > SLOW:
            yield Summary("warn", f"{images.capitalize()}, the oldest for {span(oldest)}.")
        if dead := sum(queue.dead for queue in self.queues.values()):
            yield Summary("warn", f"{_count(dead, 'image')} failed: see `autoingest queue dead`.")
        if owed := sum(queue.owed for queue in self.queues.values()):
            yield Summary("warn", f"{_count(owed, 'visit')} not yet defined.")
        if self.waiting:
            yield Summary("ok", f"{_count(self.waiting, 'image')} on the way into the Butler.")
        yield Summary("ok", f"All images in. {self._last()}".rstrip())

    def _last(self) -> str:
        """Return how the last exposure has gone; empty if none is known."""
        if not self.exposures:
            return ""
        last = self.exposures[-1]
        if last["state"] != "complete":
            return f"Last exposure {last['obs_id']} is not complete."
        put, ingested = (last["times"][name] for name in ("last_put", "last_ingested"))
        if put is None or ingested is None:
            return f"Last exposure {last['obs_id']} is complete."
        took = (datetime.fromisoformat(ingested) - datetime.fromisoformat(put)).total_seconds()
        return f"Last exposure complete {max(took, 0.0):.0f} s after readout."

    def _since(self, moment: float | None) -> str:
        return span(max(0.0, self.time - (self.time if moment is None else moment)))

    def document(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {
            "summary": dataclasses.asdict(self.summary()),
            "dependencies": [dataclasses.asdict(lamp) for lamp in self.lamps()],
            "processes": [{**dataclasses.asdict(process), "alive": process.is_alive} for process in self.processes],
            "queues": {bucket: dataclasses.asdict(queue) for bucket, queue in self.queues.items()},
            "paused": self.paused,
            "outages": [
                {"text": text, "since": since, "processes": number}
                for text, (since, number) in self.troubles().items()
            ],
            "time": self.time,
        }  # fmt: skip


async def look(config: Config, client: redis.asyncio.Redis, exposures: int = 1) -> SiteStatus:
    """Look at a site.

    Parameters
    ----------
    config
        The whole configuration.
    client
        Redis client that decodes responses.
    exposures
        Number of the newest exposures of each camera that are wanted.
    """
    pauses = {bucket: await pause_of(client, bucket) for bucket in config.buckets}
    return SiteStatus(
        await heartbeats(client),
        {bucket: await queue_status(client, bucket) for bucket in config.buckets},
        {bucket: who for bucket, who in pauses.items() if who is not None},
        await newest_exposures(client, config.buckets, exposures),
    )


def span(seconds: float) -> str:
    """Return a length of time in its largest unit."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def _count(number: int, what: str, plural: str = "s") -> str:
    return f"{number:,} {what}{'' if number == 1 else plural}"
