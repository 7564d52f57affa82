"""``autoingest audit``."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import click
import orjson
from rich.table import Column, Table

from ..config import Config
from ..queue.audit import CATEGORIES, Auditor, AuditReport
from .site import config_option, console, json_option, load, open_redis, progress, run

_MEANING = {
    "nowhere": "accepted, but in no place",
    "twice": "in more than one place",
    "elsewhere": "not where its record says",
}


@click.command(context_settings={"show_default": True})
@config_option
@click.option("--limit", type=click.IntRange(1), default=1000, help="Inconsistent objects to list at the most.")
@json_option
def audit(config_file: Path, limit: int, as_json: bool) -> None:
    """Count every accepted object, and show those that are in no place or in two.

    Each is queued, with a worker, waiting, ingested, dead, or dropped by an operator; rejected records are counted
    beside them. It may be used while everything runs: what looks wrong is looked at again before it is told.
    Exits with 0 if all is consistent, with 1 if not.

    \b
    Example:
        autoingest audit --config config/summit.yaml
    """  # noqa: D301 - click's mark is a real backspace
    report = run(_audit(load(config_file), limit, as_json))
    if as_json:
        content = {**dataclasses.asdict(report), "consistent": report.consistent}
        click.echo(orjson.dumps(content, option=orjson.OPT_INDENT_2))
    else:
        _show(report)
    sys.exit(0 if report.consistent else 1)


async def _audit(config: Config, limit: int, quiet: bool) -> AuditReport:
    with progress(quiet) as bar:
        tasks = {name: bar.add_task(f"{name:>8}", total=None, text="") for name in ("lists", "records", "suspects")}

        def show(step: str, done: int, total: int) -> None:
            bar.update(tasks[step], completed=done, total=total or None, text=f"{done:,}")

        async with open_redis(config) as client:
            return await Auditor(client, show).run(limit)


def _show(report: AuditReport) -> None:
    output = console()
    table = Table(Column("bucket", no_wrap=True), title="Objects", title_justify="left")
    for category in CATEGORIES:
        table.add_column(category, justify="right")
    for bucket, counts in report.counts.items():
        table.add_row(bucket, *(f"{counts[category]:,}" for category in CATEGORIES))
    output.print(table)
    if number := report.total("given up"):
        output.print(
            f"{number:,} objects were given up by services that keep no dead letters; queue them again with: "
            "autoingest reconcile --heal",
            soft_wrap=True,
        )
    if report.consistent:
        output.print("[green]Every object is in exactly one place.[/green]")
        return
    for finding in report.findings:
        where = ", ".join(finding.places) or "nowhere"
        output.print(
            f"{finding.path}: {_MEANING[finding.problem]}: its record says {finding.state or 'nothing'}, it is {where}",
            soft_wrap=True, highlight=False, markup=False,
        )  # fmt: skip
    output.print(f"[red]{report.inconsistent:,} objects are inconsistent[/red]")
    output.print("What is in no place goes back to the queue with: autoingest trigger --force OBS_ID")
