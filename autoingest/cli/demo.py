"""``autoingest demo``."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import secrets
import shutil
import sys
from contextlib import closing
from datetime import datetime
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.status import Status
from rich.table import Table

from ..app.config import LoggingConfig
from ..app.log import configure_logging
from ..app.secrets import NOTIFICATION_SECRETS
from ..dev.demo import STEPS, Report, demonstrate
from ..dev.setup import development
from ..dev.simulator import sensors
from .output import console, echo

DATA = Path("autoingest-demo")


@click.command()
@click.option("--data", type=click.Path(file_okay=False, path_type=Path), help="Folder for servers and repository; by "
              "default a new one in ./autoingest-demo.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON, and no progress.")
def demo(data: Path | None, as_json: bool) -> None:
    """Take a simulated exposure from its notifications to the Butler.

    Starts an embedded Valkey, an S3 server and all four roles. A simulated LSSTCam writes one exposure of 205 images
    and posts notifications as Ceph does. Then the command shows the results and how long each step took. The exit code
    is 0 only if all 205 datasets, the exposure and the visit with its regions are in the Butler, and presence reports
    the 197 science and wavefront images. It never reports the 8 guider images.

    \b
    Example:
        autoingest demo
    """  # noqa: D301 - click's mark is a real backspace
    folder = data or DATA / datetime.now().strftime("%Y%m%d-%H%M%S")
    terminal = console(stderr=True)
    os.environ.setdefault(NOTIFICATION_SECRETS, secrets.token_hex())
    configure_logging(LoggingConfig(level="WARNING", format="console"))
    try:
        with (
            terminal.status("Starting Valkey, an S3 server, a Butler repository and the four roles ...") as status,
            development(folder, first_port=None, quiet=True) as config,
            closing(_Bars(terminal, status, as_json)) as bars,
        ):
            report = asyncio.run(demonstrate(config, bars.show))
    except KeyboardInterrupt:
        terminal.print("Interrupted; everything is stopped.")
        sys.exit(130)
    repo = folder.absolute() / "repo"
    if as_json:
        times = {step: report.median_and_worst(step) for step in STEPS[1:]}
        echo(json.dumps({**dataclasses.asdict(report), "seconds": times, "repository": str(repo)}))
    else:
        output = console()
        output.print(_table(report))
        if not report.trouble:
            output.print("Every image of the exposure is in the Butler, and its visit is defined.", style="green")
        output.print("Servers and roles are stopped; the repository is kept. To look into it:")
        butler = "butler" if shutil.which("butler") else Path(sys.executable).with_name("butler")
        output.print(f"  {butler} query-dimension-records {repo} visit", soft_wrap=True)
    for trouble in report.trouble:
        terminal.print(trouble, style="red")
    sys.exit(1 if report.trouble else 0)


class _Bars:
    """One bar for each step, in the place of the status line once there is progress."""

    def __init__(self, console: Console, status: Status, disable: bool) -> None:
        columns = (TextColumn("{task.description:>10}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._progress = Progress(*columns, console=console, disable=disable)
        self._status = status
        self._tasks: dict[str, TaskID] = {}

    def show(self, step: str, count: int) -> None:
        """Show how many files have taken a step."""
        if not self._tasks:
            self._status.stop()
            self._progress.start()
            guiders = sum(sensor.purpose == "GUIDER" for sensor in sensors())
            self._tasks = {
                name: self._progress.add_task(name, total=len(sensors()) - (guiders if name == "present" else 0))
                for name in STEPS
            }
        self._progress.update(self._tasks[step], completed=count)

    def close(self) -> None:
        """Leave the bars as they are."""
        self._progress.stop()


def _table(report: Report) -> Table:
    table = Table(title=f"Exposure {report.obs_id}", title_justify="left", show_header=True)
    table.add_column("files")
    table.add_column("result", justify="right")
    table.add_column("median s after PUT", justify="right")
    table.add_column("worst", justify="right")

    def row(name: str, result: object, step: str = "") -> None:
        times = report.median_and_worst(step) if step else None
        table.add_row(name, str(result), *(f"{time:.3f}" for time in times or ()))

    row("written and announced", report.sent)
    row("queued", report.queued, "queued")
    row("present, of all but the guiders", f"{report.present} of {report.expected_present}", "present")
    row("ingested: raw + guider_raw", f"{report.stored['raw']} + {report.stored['guider_raw']}", "ingested")
    table.add_section()
    row("exposure defined", report.stored["exposure"])
    row("visit defined, detector regions", f"{report.stored['visit']}, {report.stored['detector region']}")
    return table
