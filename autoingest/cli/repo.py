"""``autoingest repo``."""

from __future__ import annotations

import dataclasses
import json
import sys
import traceback

import click
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from .limits import timeout_option
from .output import console, echo

DAY = click.IntRange(19700101, 20991231)
SHOWN = 10
"""Names of new records that are printed; the rest is only counted."""


@click.group()
def repo() -> None:
    """Create, complete and compare Butler repositories.

    \b
    Example:
        autoingest repo create ./repo
    """  # noqa: D301 - click's mark is a real backspace
    from ..app.config import LoggingConfig
    from ..app.log import configure_logging

    configure_logging(LoggingConfig(level="WARNING", format="console"))


@repo.command(context_settings={"show_default": True})
@click.argument("root")
@click.option("--registry", help="SQLAlchemy URL of a PostgreSQL database, without password; SQLite in ROOT if absent.")
@click.option("--schema", help="PostgreSQL schema that holds the registry.")
@click.option("--instrument", "names", multiple=True, help="Instrument to register, repeatable; all known if absent.")
@click.option("--describe", "files", multiple=True, help="File or folder that describes more instruments, repeatable.")
@timeout_option("10m")
def create(root: str, registry: str | None, schema: str | None, names: tuple[str, ...], files: tuple[str, ...]) -> None:
    """Create the Butler repository ROOT and register instruments.

    If ROOT already is a repository, only what is missing is added. The Butler reads PostgreSQL credentials from
    ~/.lsst/db-auth.yaml, or from the file in LSST_DB_AUTH.

    \b
    Examples:
        autoingest repo create ./repo
        autoingest repo create s3://rubin-summit-users \\
            --registry postgresql://usdf-butler:5432/lsstdb1 --schema summit
        autoingest repo create ./main --instrument AllSky \\
            --describe allsky.yaml
    """  # noqa: D301 - click's mark is a real backspace
    from ..butler.create import create_repository

    _check_instruments(names, files, "--instrument")
    report = create_repository(root, registry_url=registry, schema=schema, cameras=names or None)
    echo(report)


@repo.command("register-instrument")
@click.argument("root", metavar="REPO")
@click.argument("names", metavar="[INSTRUMENT]...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Register every instrument that is known.")
@click.option("--describe", "files", multiple=True, help="File or folder that describes more instruments, repeatable.")
@click.option("--json", "as_json", is_flag=True, help="Print what was added as JSON.")
@timeout_option("10m")
def register_instrument(
    root: str, names: tuple[str, ...], everything: bool, files: tuple[str, ...], as_json: bool
) -> None:
    """Register instruments in the Butler repository REPO, or complete them.

    Existing detectors, filters, dataset types and runs are not changed. The command can be repeated; after an update of
    this program it adds what is new.

    \b
    Examples:
        autoingest repo register-instrument ./repo LSSTCam LATISS
        autoingest repo register-instrument s3://rubin-summit-users --all
    """  # noqa: D301 - click's mark is a real backspace
    from ..butler.register import register

    known = _check_instruments(names, files, "INSTRUMENT")
    if everything == bool(names):
        raise click.UsageError("name instruments, or give --all")
    added = register(root, known if everything else names)
    if as_json:
        echo(json.dumps({"repository": root, "added": added}))
        return
    for name, records in added.items():
        echo(f"{name}: " + ("nothing was missing" if not records else "added"))
        for element, new in records.items():
            shown = ", ".join(new[:SHOWN]) + (", ..." if len(new) > SHOWN else "")
            echo(f"    {len(new)} {element}: {shown}")


@repo.command(context_settings={"show_default": True})
@click.argument("a")
@click.argument("b")
@click.option("--instrument", help="Compare only this one.")
@click.option("--day-obs", type=DAY, help="Compare only this observing day, YYYYMMDD.")
@click.option("--tolerance", type=click.FloatRange(0), default=1e-9, help="Relative tolerance of numbers.")
@click.option("--region-tolerance", type=click.FloatRange(0), default=1e-6, help="Tolerance of corners, arcseconds.")
@click.option(
    "--timespan-tolerance", type=click.FloatRange(0), default=0.0, help="Tolerance of begin and end, seconds."
)
@click.option("--show", type=click.IntRange(0), default=20, help="Number of differences of each kind to print in full.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON, and no progress.")
@timeout_option("6h")
def compare(
    a: str,
    b: str,
    instrument: str | None,
    day_obs: int | None,
    tolerance: float,
    region_tolerance: float,
    timespan_tolerance: float,
    show: int,
    as_json: bool,
) -> None:
    """Compare what ingest has written to the Butler repositories A and B.

    Compares dimension records, and the datasets of all runs */raw/* with their datastore records. Sky angles are
    compared modulo 360 degrees. The exit code is 0 if all is equal, 1 if something differs, and 2 after an
    error.

    \b
    Examples:
        autoingest repo compare ./old ./new
        autoingest repo compare embargo s3://test/repo \\
            --instrument LSSTCam --day-obs 20250415
    """  # noqa: D301 - click's mark is a real backspace
    from ..butler import compare as comparing
    from ..errors import AutoingestError

    columns = (TextColumn("{task.description:>24}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console(stderr=True), disable=as_json, transient=True) as bar:
        task = bar.add_task(comparing.KINDS[0], total=len(comparing.KINDS))

        def progress(kind: str) -> None:
            following = comparing.KINDS[comparing.KINDS.index(kind) + 1 :]
            bar.update(task, advance=1, description=following[0] if following else "done")

        try:
            result = comparing.compare(
                a, b, instrument=instrument, day_obs=day_obs, show=show, progress=progress,
                tolerance=comparing.Tolerance(tolerance, region_tolerance, timespan_tolerance),
            )  # fmt: skip
        except AutoingestError:
            raise
        except Exception:
            # Python's own exit code is 1, which means here that something differs.
            traceback.print_exc()
            sys.exit(2)
    if as_json:
        echo(json.dumps({"equal": result.equal, **dataclasses.asdict(result)}))
    else:
        table = Table(*("", "equal", "differing", "only in A", "only in B"))
        for count in result.counts:
            table.add_row(*map(str, dataclasses.astuple(count)))
        console().print(table)
        for item in result.differences:
            if item.field is None:
                echo(f"{item.kind} {item.key}: only in {'B' if item.a is None else 'A'}")
            else:
                echo(f"{item.kind} {item.key}: {item.field} is {item.a} in A, {item.b} in B")
        echo("equal" if result.equal else "different")
    sys.exit(0 if result.equal else 1)


@repo.command("repair-regions")
@click.argument("root", metavar="REPO")
@click.option("--instrument", "names", multiple=True, help="Camera, repeatable; those ever computed wrongly if absent.")
@click.option("--since", type=DAY, metavar="YYYYMMDD", help="First observing day.")
@click.option("--until", type=DAY, metavar="YYYYMMDD", help="Last observing day.")
@click.option(
    "--write/--dry-run", default=False, help="Write the corrected regions, or only report them (the default)."
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON, and no progress.")
@timeout_option("6h")
def repair_regions(
    root: str, names: tuple[str, ...], since: int | None, until: int | None, write: bool, as_json: bool
) -> None:
    """Find visits in REPO whose regions were computed wrongly, and correct them.

    Regions of LATISS visits were 10 arcseconds off until the camera's geometry was corrected. Only regions that match
    the wrong geometry exactly are corrected. Others, which somebody may have refined, are reported and not changed. The
    command can be stopped at any time and repeated. The exit code is 0 if no wrong region is left, 1 if some are, and 2
    after an error.

    \b
    Examples:
        autoingest repo repair-regions ./repo
        autoingest repo repair-regions s3://rubin-summit-users \\
            --since 20250101 --until 20250630 --write
    """  # noqa: D301 - click's mark is a real backspace
    from ..butler import regions

    _check_instruments(names, (), "--instrument")
    if since and until and since > until:
        raise click.BadParameter(f"{since} is after --until {until}", param_hint="--since")
    columns = (TextColumn("{task.description:>24}"), BarColumn(), TextColumn("{task.completed}/{task.total} days"),
               TimeElapsedColumn())  # fmt: skip
    with Progress(*columns, console=console(stderr=True), disable=as_json, transient=True) as bar:
        task = bar.add_task("")
        report = regions.repair_regions(
            root, names or regions.mirrored(), since=since, until=until, write=write,
            progress=lambda done, total, what: bar.update(task, completed=done, total=total, description=what),
        )  # fmt: skip
    left = 0 if write else sum(found.mistaken for found in report.instruments.values())
    if as_json:
        echo(json.dumps({"repository": root, **dataclasses.asdict(report)}))
    else:
        table = Table("camera", "right", "repaired" if write else "mistaken", "by arcsec", "otherwise off", "by arcsec")
        for name, found in report.instruments.items():
            table.add_row(name, *(f"{value:.3f}" if isinstance(value, float) else str(value)
                                  for value in dataclasses.astuple(found)))  # fmt: skip
        console().print(table)
        if not report.instruments:
            echo("none of these cameras is registered in the repository")
        elif left:
            echo(f"{left} visits have wrong regions: run this again with --write to correct them")
    sys.exit(1 if left else 0)


def _check_instruments(names: tuple[str, ...], files: tuple[str, ...], hint: str) -> tuple[str, ...]:
    """Read descriptions, make sure that all names are known, and return what is known."""
    from .. import instruments
    from ..errors import MetadataError

    instruments.describe(files)
    known = (*instruments.names(), *instruments.generators())
    for name in names:
        try:
            instruments.get(name)
        except MetadataError:
            raise click.BadParameter(
                f"{name!r} is not a known instrument; the known ones are {', '.join(known)}", param_hint=hint
            ) from None
    return known
