"""``autoingest doctor``."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import click
import orjson

from ..app.config import Config
from ..operations.doctor import Finding, examine
from ..queue.connection import connect
from .limits import run, timeout_option
from .output import echo
from .site import config_option, json_option, load

_MARKS = {"ok": "ok     ", "warning": "WARNING", "failed": "FAILED "}


@click.command()
@config_option
@json_option
@timeout_option("5m")
def doctor(config_file: Path, as_json: bool) -> None:
    """Examine Redis, processes, buckets, the Butler, receivers, Kafka and secrets.

    Prints a line for each, and what to do about it. Nothing is changed. What the site's processes see may differ from
    what this machine sees: run it where they run. Exits with 1 if anything failed, else with 0. Topics of a Ceph are
    examined by `autoingest ceph verify`.

    \b
    Examples:
        autoingest doctor --config summit.yaml
        autoingest doctor --json
    """  # noqa: D301 - click's mark is a real backspace
    config = load(config_file)
    found = run(_examine(config, quiet=as_json))
    if as_json:
        echo(orjson.dumps([dataclasses.asdict(finding) for finding in found], option=orjson.OPT_INDENT_2))
    sys.exit(1 if any(finding.verdict == "failed" for finding in found) else 0)


async def _examine(config: Config, *, quiet: bool) -> list[Finding]:
    found = []
    async with connect(config.redis) as client:
        async for finding in examine(config, client):
            found.append(finding)
            if not quiet:
                echo(f"{_MARKS[finding.verdict]} {finding.subject}: {finding.text}")
                if finding.remedy:
                    echo(f"        -> {finding.remedy}")
    return found
