"""``autoingest status``."""

from __future__ import annotations

import asyncio
import dataclasses
import sys
import time
from pathlib import Path
from typing import Any

import click
import orjson
import redis.asyncio
from rich.console import Group
from rich.live import Live
from rich.table import Column, Table
from rich.text import Text

from ..app.config import Config
from ..errors import TransientError
from ..queue.heartbeats import Heartbeat, heartbeats
from ..queue.operator_log import pause_of
from ..queue.status import QueueStatus, queue_status
from .limits import run, timeout_option
from .output import console, echo
from .site import config_option, json_option, load, moment, open_redis

REFRESH = 1.0
"""Seconds between two looks of --watch."""

_QUEUES = {"queued": "depth", "in work": "working", "waiting": "waiting", "dead": "dead", "owed": "owed",
           "workers": "workers"}  # fmt: skip


@dataclasses.dataclass(frozen=True, slots=True)
class SiteStatus:
    """What a site does now."""

    processes: list[Heartbeat]
    queues: dict[str, QueueStatus]
    paused: dict[str, str]
    """Buckets that are paused, with who has done so and why."""

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


@click.command()
@config_option
@click.option("--watch", is_flag=True, help="Keep showing it until Ctrl-C.")
@json_option
@timeout_option("30s")
def status(config_file: Path, watch: bool, as_json: bool) -> None:
    """Show the site's processes and what they do, its queues, and outages.

    A process that has not been heard of for 15 s is silent: it was killed, or can't reach Redis. It is shown for
    an hour. Exits with 0 if all is well, and with 1 if no process is alive, one is silent, or one lacks something.

    \b
    Examples:
        autoingest status --config summit.yaml
        autoingest status --watch
    """  # noqa: D301 - click's mark is a real backspace
    config = load(config_file)
    if watch and as_json:
        raise click.UsageError("--watch shows a screen; leave --json out")
    if watch:
        asyncio.run(_watch(config))
        return
    found = run(_look(config))
    if as_json:
        content = {
            "processes": [
                {**dataclasses.asdict(process), "alive": process.is_alive} for process in found.processes
            ],
            "queues": {bucket: dataclasses.asdict(queue) for bucket, queue in found.queues.items()},
            "paused": found.paused,
            "outages": [
                {"text": text, "since": since, "processes": number}
                for text, (since, number) in found.troubles().items()
            ],
        }  # fmt: skip
        echo(orjson.dumps(content, option=orjson.OPT_INDENT_2))
    else:
        console().print(_screen(found))
    sys.exit(0 if found.is_well() else 1)


async def _look(config: Config) -> SiteStatus:
    async with open_redis(config) as client:
        return await _read(config, client)


async def _read(config: Config, client: redis.asyncio.Redis) -> SiteStatus:
    pauses = {bucket: await pause_of(client, bucket) for bucket in config.buckets}
    return SiteStatus(
        await heartbeats(client),
        {bucket: await queue_status(client, bucket) for bucket in config.buckets},
        {bucket: who for bucket, who in pauses.items() if who is not None},
    )


async def _watch(config: Config) -> None:
    with Live(console=console(), auto_refresh=False, screen=sys.stdout.isatty()) as live:
        while True:
            try:
                shown: Any = _screen(await _look(config))
            except TransientError as err:
                shown = Text(str(err), style="red")
            live.update(Group(Text(f"{moment(time.time())} UTC"), shown), refresh=True)
            await asyncio.sleep(REFRESH)


def _screen(found: SiteStatus) -> Group:
    processes = Table(title="Processes", title_justify="left", box=None)
    for name in ("host", "pid", "version", "up", "heard", "role", "doing"):
        processes.add_column(name, overflow="fold")
    for process in found.processes:
        heard = f"{process.age:.0f} s ago" if process.is_alive else f"SILENT {_span(process.age)}"
        first = (process.host, str(process.pid), process.version, _span(time.time() - process.since), heard)
        for name, role in process.roles.items():
            processes.add_row(*first, name, role.doing or "waits for work")
            first = ("", "", "", "", "")
    queues = Table(Column("bucket", overflow="fold"), title="Queues", title_justify="left", box=None)
    for name in _QUEUES:
        queues.add_column(name, justify="right")
    for bucket, queue in found.queues.items():
        queues.add_row(bucket, *(f"{getattr(queue, field):,}" for field in _QUEUES.values()))
    parts: list[Any] = [processes if found.processes else Text("No process is alive.", style="red"), queues]
    parts += [
        Text(f"PAUSED {bucket}, by {who}; autoingest resume {bucket}", style="yellow", overflow="fold")
        for bucket, who in found.paused.items()
    ]
    for text, (since, number) in found.troubles().items():
        told = f"OUTAGE since {moment(since)} UTC, told by {number} process(es): {text}"
        parts.append(Text(told, style="red", overflow="fold"))
    return Group(*parts)


def _span(seconds: float) -> str:
    """Return a length of time in its largest unit."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
