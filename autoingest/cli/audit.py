"""``autoingest audit``."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import click
import orjson
from rich.table import Column

from ..app.config import Config
from ..model.text import printable
from ..operations.corrupt import corrupt_images
from ..operations.versions import other_versions
from ..queue.audit import CATEGORIES, LONGEST_WAIT, Auditor, AuditReport
from ..store.listing import open_listing
from .limits import run, timeout_option
from .output import console, echo, table
from .site import config_option, json_option, load, open_redis, progress

_MEANING = {
    "nowhere": "accepted, but in no place",
    "twice": "in more than one place",
    "elsewhere": "not where its record says",
    "unreadable": "its record is of the wrong type",
    "other-version": "the store has another version than was ingested",
    "corrupt": "the image is corrupt in the store",
}


@click.command(context_settings={"show_default": True})
@config_option
@click.option("--limit", type=click.IntRange(1), default=1000, help="Inconsistent objects to list at the most.")
@click.option("--store", is_flag=True, help="Ask the store, too, whether it has the versions that were ingested.")
@click.option("--deep", type=click.IntRange(1), metavar="N", help="Also read the beginning of N ingested images of "
              "each bucket, chosen at random, without their sidecars, to find corrupt ones.")  # fmt: skip
@json_option
@timeout_option("1h")
def audit(config_file: Path, limit: int, store: bool, deep: int | None, as_json: bool) -> None:
    """Count every accepted object, and show those that are in no place or in two.

    Each is queued, with a worker, waiting, ingested, dead, or dropped by an operator; rejected records are counted
    beside them. It may be used while everything runs: what looks wrong is looked at again before it is told.

    It also warns of what keeps objects where they are: queues that nobody takes from, files that are to wait for longer
    than the configuration tells, and keys of the wrong type.

    Exits with 0 if all is consistent and there is no warning, else with 1.

    \b
    Examples:
        autoingest audit --config summit.yaml
        autoingest audit --store --deep 1000
    """  # noqa: D301 - click's mark is a real backspace
    report = run(_audit(load(config_file), limit, store, deep, as_json))
    if as_json:
        content = {**dataclasses.asdict(report), "consistent": report.consistent}
        for finding in content["findings"]:
            finding["path"] = printable(finding["path"])
        echo(orjson.dumps(content, option=orjson.OPT_INDENT_2))
    else:
        _show(report)
    sys.exit(0 if report.consistent and not report.warnings else 1)


async def _audit(config: Config, limit: int, store: bool, deep: int | None, quiet: bool) -> AuditReport:
    settings = config.ingest
    longest = max(LONGEST_WAIT, settings.guider_recheck, settings.retry_delay * 2.0**settings.max_attempts)
    with progress(quiet) as bar:
        tasks = {name: bar.add_task(f"{name:>8}", total=None, text="") for name in ("lists", "records", "suspects")}

        def show(step: str, done: int, total: int) -> None:
            bar.update(tasks[step], completed=done, total=total or None, text=f"{done:,}")

        async with open_redis(config) as client:
            auditor = Auditor(client, show, buckets=config.buckets, longest_wait=longest)
            report = await auditor.run(limit)
            for bucket in config.buckets if store or deep else ():
                async with open_listing(bucket) as listing:
                    if store:
                        async for finding in other_versions(client, listing, auditor.folders, config.reconcile.grace):
                            report.add(finding, limit)
                    if deep:
                        requests = config.ingest.header_requests
                        async for finding in corrupt_images(client, listing, auditor.folders, deep, requests):
                            report.add(finding, limit)
            return report


def _show(report: AuditReport) -> None:
    output = console()
    objects = table(Column("bucket", overflow="fold"), title="Objects")
    for category in CATEGORIES:
        objects.add_column(category, justify="right", no_wrap=True)
    for bucket, counts in report.counts.items():
        objects.add_row(bucket, *(f"{counts[category]:,}" for category in CATEGORIES))
    output.print(objects)
    if number := report.total("given up"):
        output.print(
            f"{number:,} objects were given up by services that keep no dead letters; queue them again with: "
            "autoingest reconcile --heal",
            soft_wrap=True,
        )
    for warning in report.warnings:
        output.print(f"Warning: {warning}", soft_wrap=True)
    if report.consistent:
        output.print("Every object is in exactly one place.", style="green")
        return
    for finding in report.findings:
        path, where = printable(finding.path) or "(empty path)", ", ".join(finding.places) or "nowhere"
        if finding.problem == "corrupt":
            output.print(f"{path}: {_MEANING[finding.problem]}: {printable(where)}", soft_wrap=True)
            continue
        output.print(
            f"{path}: {_MEANING[finding.problem]}: its record says {finding.state or 'nothing'}, it is {where}",
            soft_wrap=True,
        )  # fmt: skip
    output.print(f"{report.inconsistent:,} objects are inconsistent", style="red")
    output.print("What is in no place, or in another version, is queued by: autoingest trigger --force OBS_ID")
