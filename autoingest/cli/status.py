"""``autoingest status``."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from typing import Any

import click
import orjson
from rich.console import Group
from rich.live import Live
from rich.table import Column, Table
from rich.text import Text

from ..app.config import Config
from ..errors import TransientError
from ..operations.site_status import SiteStatus, look, span
from .limits import run, timeout_option
from .output import console, echo
from .site import config_option, json_option, load, moment, open_redis

REFRESH = 1.0
"""Seconds between two looks of --watch."""

_STYLES = {"ok": "green", "warn": "yellow", "error": "red"}

_QUEUES = {"queued": "depth", "in work": "working", "waiting": "waiting", "dead": "dead", "owed": "owed",
           "workers": "workers"}  # fmt: skip


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
        echo(orjson.dumps(found.document(), option=orjson.OPT_INDENT_2))
    else:
        console().print(_screen(found))
    sys.exit(0 if found.is_well() else 1)


async def _look(config: Config) -> SiteStatus:
    async with open_redis(config) as client:
        return await look(config, client)


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
        heard = f"{process.age:.0f} s ago" if process.is_alive else f"SILENT {span(process.age)}"
        first = (process.host, str(process.pid), process.version, span(time.time() - process.since), heard)
        for name, role in process.roles.items():
            processes.add_row(*first, name, role.doing or "waits for work")
            first = ("", "", "", "", "")
    queues = Table(Column("bucket", overflow="fold"), title="Queues", title_justify="left", box=None)
    for name in _QUEUES:
        queues.add_column(name, justify="right")
    for bucket, queue in found.queues.items():
        queues.add_row(bucket, *(f"{getattr(queue, field):,}" for field in _QUEUES.values()))
    summary = found.summary()
    parts: list[Any] = [Text(summary.text, style=_STYLES[summary.level], overflow="fold")]
    parts += [processes if found.processes else Text("No process is alive.", style="red"), queues]
    parts += [
        Text(f"PAUSED {bucket}, by {who}; autoingest resume {bucket}", style="yellow", overflow="fold")
        for bucket, who in found.paused.items()
    ]
    for text, (since, number) in found.troubles().items():
        told = f"OUTAGE since {moment(since)} UTC, told by {number} process(es): {text}"
        parts.append(Text(told, style="red", overflow="fold"))
    return Group(*parts)
