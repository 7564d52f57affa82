"""``autoingest pause``, ``autoingest resume`` and ``autoingest log``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import orjson

from ..app.config import Config
from ..model.text import printable
from ..queue.operator_log import acts, pause_bucket, resume_bucket
from .limits import run, timeout_option
from .output import echo
from .site import chosen, config_option, json_option, load, moment, open_redis


@click.command()
@click.argument("bucket")
@click.option("--why", default="", metavar="TEXT", help="Reason, for the other operators.")
@config_option
@json_option
@timeout_option("1m")
def pause(bucket: str, why: str, config_file: Path, as_json: bool) -> None:
    """Stop taking files from a bucket's queue, for maintenance.

    Workers finish what they have. Notifications are still accepted and queued, so nothing is lost. Workers of
    releases before this one don't know of pauses.

    \b
    Example:
        autoingest pause rubin-summit --why "database upgrade"
    """  # noqa: D301 - click's mark is a real backspace
    config = load(config_file)
    (name,) = chosen(config, bucket)

    async def work() -> None:
        async with open_redis(config) as client:
            await pause_bucket(client, name, why)

    run(work())
    _tell(config_file, name, "paused", as_json)


@click.command()
@click.argument("bucket")
@config_option
@json_option
@timeout_option("1m")
def resume(bucket: str, config_file: Path, as_json: bool) -> None:
    """Take files from a paused bucket's queue again.

    \b
    Example:
        autoingest resume rubin-summit
    """  # noqa: D301 - click's mark is a real backspace
    config = load(config_file)
    (name,) = chosen(config, bucket)

    async def work() -> bool:
        async with open_redis(config) as client:
            return await resume_bucket(client, name)

    _tell(config_file, name, "resumed" if run(work()) else "was not paused", as_json)


def _tell(config_file: Path, bucket: str, state: str, as_json: bool) -> None:
    if as_json:
        echo(orjson.dumps({"site": str(config_file), "bucket": bucket, "state": state}))
    else:
        echo(f"site {config_file}: {bucket} {state}")


@click.command("log")
@click.option("--last", "number", type=click.IntRange(1), default=50, show_default=True, help="Number of acts.")
@config_option
@json_option
@timeout_option("1m")
def log_command(number: int, config_file: Path, as_json: bool) -> None:
    """Show what operators have done: dropped, requeued, triggered, healed, paused, ...; who, and when.

    The name is AUTOINGEST_OPERATOR if it is set, else the login name.

    \b
    Example:
        autoingest log --last 20
    """  # noqa: D301 - click's mark is a real backspace
    found = run(_acts(load(config_file), number))
    if as_json:
        echo(orjson.dumps(found, option=orjson.OPT_INDENT_2))
        return
    for act in found:
        many = f" {act['number']}" if act.get("number", "0") != "0" else ""
        why = f": {act['why']}" if act.get("why") else ""
        echo(printable(f"{moment(act['time'])} {act.get('who')} {act.get('act')}{many} in {act.get('bucket')}{why}"))
        for path in filter(None, act.get("paths", "").split("\n")):
            echo(f"    {printable(path)}")


async def _acts(config: Config, number: int) -> list[dict[str, Any]]:
    async with open_redis(config) as client:
        return await acts(client, number)
