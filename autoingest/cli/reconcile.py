"""``autoingest reconcile``."""

from __future__ import annotations

import dataclasses
import sys
from collections import Counter, defaultdict
from contextlib import AsyncExitStack
from pathlib import Path

import click
import orjson
import redis.asyncio
from rich.table import Column

from ..app.config import Config
from ..errors import ConfigurationError
from ..model.rafts import by_raft
from ..operations.reconcile import last_days, open_reconciler
from ..operations.verdict import NEEDS_ATTENTION, VERDICTS, ExposureReport
from ..queue.intake import Intake
from ..queue.operator_log import record
from ..store.listing import is_lfa
from .limits import duration, run, timeout_option
from .output import console, echo, table
from .site import bucket_option, chosen, config_option, day, json_option, load, open_redis, progress

RAFTS = 4
"""Number of rafts that are named of the detectors that are not in the store."""

_NUMBERS = ("missing", "dead", "dropped", "on_the_way", "young", "healed")


@click.command()
@config_option
@click.option("--day", "days", type=day, metavar="YYYYMMDD", multiple=True, help="This observing day.")
@click.option("--last", type=duration, metavar="TIME", help="The observing days of the last 6h, 2d, ...")
@bucket_option
@click.option("--heal", is_flag=True, help="Queue what is missing, and record visits that are owed.")
@click.option("--grace", type=duration, metavar="TIME", help="Leave objects younger than this alone. Default: "
              "reconcile.grace of the configuration.")  # fmt: skip
@click.option("--all", "everything", is_flag=True, help="Also show exposures that are complete.")
@json_option
@timeout_option("6h")
def reconcile(
    config_file: Path,
    days: tuple[str, ...],
    last: float | None,
    bucket: str | None,
    heal: bool,
    grace: float | None,
    everything: bool,
    as_json: bool,
) -> None:
    """Compare store, Butler and Redis, exposure by exposure.

    Exits with 0 if every exposure is complete, arriving or healed, and with 1 if not.

    \b
    Verdicts, the worst first:
        missing       stored files are neither in the Butler nor on the way
        dead          files were given up; `autoingest queue dead` tells why
        arriving      some files are on the way, or so young that they may be
        not-in-store  the Butler holds files that the store does not list
        visit-owed    all files are in the Butler, but not the visit
        dropped       files were given up, and an operator has dropped them
        incomplete    expected images have not come to the store
        complete      everything is in the Butler

    \b
    Examples:
        autoingest reconcile --config summit.yaml --day 20251231
        autoingest reconcile --config summit.yaml --last 2d --heal
    """  # noqa: D301 - click's mark is a real backspace
    config = load(config_file)
    if not days and last is None:
        raise click.UsageError("say when: --day YYYYMMDD or --last 2d")
    buckets = [name for name in chosen(config, bucket) if not is_lfa(name)]
    if not buckets:
        raise ConfigurationError(
            "objects of the Large File Annex belong to no exposure, and can't be reconciled; "
            "autoingest trigger --day queues what was lost"
        )
    all_days = sorted({*days, *(last_days(last) if last is not None else ())})
    reports = run(_reconcile(config, buckets, all_days, heal, grace, everything, as_json))
    counts = Counter(report.verdict for report in reports.shown) + reports.hidden
    if as_json:
        content = {
            "days": all_days,
            "verdicts": {verdict: counts[verdict] for verdict in VERDICTS},
            "healed": sum(report.healed for report in reports.shown),
            "exposures": [{**dataclasses.asdict(report), "verdict": report.verdict} for report in reports.shown],
        }
        echo(orjson.dumps(content, option=orjson.OPT_INDENT_2))
    else:
        _show(reports.shown, counts)
    sys.exit(1 if any(report.verdict in NEEDS_ATTENTION and not _healed(report) for report in reports.shown) else 0)


@dataclasses.dataclass
class _Reports:
    shown: list[ExposureReport] = dataclasses.field(default_factory=list)
    hidden: Counter[str] = dataclasses.field(default_factory=Counter)


async def _reconcile(
    config: Config, buckets: list[str], days: list[str], heal: bool, grace: float | None, everything: bool, quiet: bool
) -> _Reports:
    reports = _Reports()
    async with AsyncExitStack() as stack:
        bar = stack.enter_context(progress(quiet))
        client = await stack.enter_async_context(open_redis(config))
        intake = Intake(client, hold=False)
        stack.push_async_callback(intake.close)
        stack.push_async_callback(_record, client, reports)
        reconciled = await stack.enter_async_context(
            open_reconciler(config, client, buckets, intake if heal else None, grace)
        )
        for name in days:
            task = bar.add_task(name, total=None, text="")
            number = 0
            async for report in reconciled(name):
                if everything or report.verdict != "complete":
                    reports.shown.append(report)
                else:
                    reports.hidden[report.verdict] += 1
                number += 1
                bar.update(task, text=f"{number:,} exposures, at {report.obs_id}")
            bar.update(task, total=1, completed=1, text=f"{number:,} exposures")
    return reports


async def _record(client: redis.asyncio.Redis, reports: _Reports) -> None:
    healed: defaultdict[str, list[ExposureReport]] = defaultdict(list)
    for report in reports.shown:
        if report.healed:
            healed[report.bucket].append(report)
    for bucket, exposures in healed.items():
        why = f"{sum(report.healed for report in exposures)} files and visits of these exposures"
        await record(client, "healed", bucket, [report.obs_id for report in exposures], why)


def _healed(report: ExposureReport) -> bool:
    return report.healed > 0 and not report.dead and report.healed >= report.missing


def _detail(report: ExposureReport) -> str:
    """Return what the verdict does not tell: how many files are where, and which detectors are nowhere."""
    counts = {name.replace("_", " "): getattr(report, name) for name in _NUMBERS}
    parts = [f"{number} {name}" for name, number in counts.items() if number]
    if report.visit == "owed":
        parts.append("visit owed")
    if report.absent:
        parts.append(f"not in the store: {by_raft(report.absent, RAFTS)}")
    return ", ".join(parts)


def _show(reports: list[ExposureReport], counts: Counter[str]) -> None:
    output = console()
    for bucket in dict.fromkeys(report.bucket for report in reports):
        shown = table(*(Column(name, no_wrap=True) for name in ("exposure", "verdict")), title=bucket)
        for name in ("store", "Butler"):
            shown.add_column(name, justify="right", no_wrap=True)
        shown.add_column("detail", overflow="fold")
        for report in reports:
            if report.bucket == bucket:
                expected = "?" if report.expected is None else report.expected
                numbers = (f"{number}/{expected}" for number in (report.in_store, report.in_butler))
                shown.add_row(report.obs_id, report.verdict, *numbers, _detail(report))
        output.print(shown)
    for verdict, meaning in VERDICTS.items():
        if counts[verdict]:
            output.print(f"{counts[verdict]:>6} {verdict}: {meaning}")
    if not counts:
        output.print("no exposures")
