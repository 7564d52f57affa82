"""``autoingest doctor``."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
import orjson
from rich.text import Text

from ..app.config import Config
from ..errors import AutoingestError
from ..model.checks import Check, fail, ok, warn
from .limits import run, timeout_option
from .output import console, echo
from .site import config_option, json_option, load

if TYPE_CHECKING:
    from ..ceph.desired import Finding

_COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}


@click.command()
@config_option
@click.option("--spec", "spec_file", type=click.Path(path_type=Path), help="Check Ceph's topics, too, as this file of "
              "`autoingest ceph` declares them.")  # fmt: skip
@json_option
@timeout_option("5m")
def doctor(config_file: Path, spec_file: Path | None, as_json: bool) -> None:
    """Check everything that the site needs, and say what to do.

    Looks at secrets, Redis, processes, store, Butler, Kafka, webhooks and clocks, from this machine and with the
    secrets in its environment. Nothing is changed. Exits with 0 if nothing fails (there may be warnings), else with 1.

    \b
    Examples:
        autoingest doctor --config summit.yaml
        autoingest doctor --spec ceph-summit.yaml
    """  # noqa: D301 - click's mark is a real backspace
    checks = run(_examine(load(config_file), spec_file))
    if as_json:
        echo(orjson.dumps([dataclasses.asdict(check) for check in checks], option=orjson.OPT_INDENT_2))
    else:
        _show(checks)
    sys.exit(1 if any(check.state == "fail" for check in checks) else 0)


async def _examine(config: Config, spec_file: Path | None) -> list[Check]:
    from ..operations.doctor import examine

    return [*await examine(config), *(await _check_ceph(spec_file) if spec_file else ())]


async def _check_ceph(spec_file: Path) -> list[Check]:
    from ..ceph.client import Gateway
    from ..ceph.desired import DesiredState
    from ..ceph.spec import Spec
    from ..ceph.verify import verify

    try:
        spec = Spec.from_file(spec_file)
        async with Gateway.open(spec) as gateway:
            findings = await verify(gateway, DesiredState(spec, spec.secrets(), {}, False))
    except AutoingestError as err:
        return [fail("Ceph", str(err), f"correct {spec_file}, or the environment that it names")]
    return [_of(finding) for finding in findings] or [ok("Ceph", f"matches {spec_file}")]


def _of(finding: Finding) -> Check:
    return (warn if finding.note else fail)(f"Ceph {finding.where}", finding.wrong, finding.remedy)


def _show(checks: list[Check]) -> None:
    output = console()
    for check in checks:
        line = Text.assemble((f"{check.state:<4}", _COLOURS[check.state]), f"  {check.name}: {check.text}")
        if check.remedy:
            line.append(f"; do: {check.remedy}")
        output.print(line, soft_wrap=True)
    failed, warned = (sum(check.state == state for check in checks) for state in ("fail", "warn"))
    output.print(f"{len(checks)} checks: {failed} failed, {warned} warnings")
