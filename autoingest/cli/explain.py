"""``autoingest explain``."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from textwrap import fill

import click
import orjson

from ..app.config import Config
from ..butler.reader import open_reader
from ..model.objects import ExposureObject, parse
from ..model.rafts import by_raft
from ..operations.explain import Explainer, ExposureLife, FileLife, Step
from ..operations.trigger import Target
from ..store.listing import open_listing
from .limits import run, timeout_option
from .output import echo
from .site import bucket_option, chosen, config_option, json_option, load, moment, open_redis

FEW = 3
"""Files up to which the life of each is shown, and not only its state."""


@click.command()
@click.argument("what", metavar="OBS_ID|OBS_ID_RAFT_SENSOR|PATH")
@config_option
@bucket_option
@json_option
@timeout_option("5m")
def explain(what: str, config_file: Path, bucket: str | None, as_json: bool) -> None:
    """Tell what happened to an exposure or an image, in order, where it is now, and what to type next.

    The store knows when it was written; Redis, for a week, what happened on the way; the Butler whether it is in. Exits
    with 1 if anything is not in the Butler, or nothing is known.

    \b
    Examples:
        autoingest explain MC_O_20251231_000010 --config summit.yaml
        autoingest explain MC_O_20251231_000010_R22_S11
        autoingest explain s3://rubin-summit/LSSTCam/.../NAME.fits
    """  # noqa: D301 - click's mark is a real backspace
    config = load(config_file)
    if "/" in what:
        obj = parse(what.removeprefix("s3://"))
        if not isinstance(obj, ExposureObject):
            raise click.UsageError(f"{what!r} belongs to no exposure")
        bucket = bucket or obj.bucket
        what = f"{obj.obs_id}_{obj.raft_sensor}" if obj.raft_sensor else obj.obs_id
    lives = run(_explain(config, chosen(config, bucket), Target.of(what)))
    if as_json:
        echo(orjson.dumps([dataclasses.asdict(life) for life in lives], option=orjson.OPT_INDENT_2, default=str))
    elif not lives:
        echo(f"nothing is known of {what}: it is neither in the store nor in Redis or the Butler")
    else:
        for life in lives:
            _show(life)
    sys.exit(0 if lives and all(set(life.detectors()) == {"ingested"} for life in lives) else 1)


async def _explain(config: Config, buckets: Sequence[str], target: Target) -> list[ExposureLife]:
    lives = []
    async with open_redis(config) as client, open_reader(config.ingest, config.logging) as reader:
        for bucket in buckets:
            async with open_listing(bucket) as listing:
                explainer = Explainer(client, listing, reader)
                found = await explainer.explain(target)
                for file in (file for life in found for file in life.files[:FEW] if len(life.files) <= FEW):
                    await explainer.read_header(file)
                lives += found
    return lives


def _show(life: ExposureLife) -> None:
    echo(f"{life.obs_id} in {life.bucket}, visit {life.visit}")
    _show_steps(life.steps)
    for state, names in life.detectors().items():
        echo(fill(f"{len(names):3} {state}: {by_raft(names)}", 79, initial_indent="  ", subsequent_indent=" " * 6))
    few = len(life.files) <= FEW
    for file in life.files if few else ():
        _show_file(file)
    commands = list(dict.fromkeys(file.command for file in life.files if file.command))
    for command in commands[:FEW]:
        echo(f"  next: {command}")
    if len(commands) > FEW:
        echo(f"  and {len(commands) - FEW} more; for the whole exposure: autoingest trigger {life.obs_id}")


def _show_steps(steps: Iterable[Step]) -> None:
    for step in steps:
        echo(f"  {moment(step.time) or '-':19}  {step.text}")


def _show_file(file: FileLife) -> None:
    echo(f"\n{file.path}: {file.state}")
    _show_steps(file.steps)
    if file.exception:
        echo(f"  last error: {file.exception}")
    for card, value in file.header.items():
        echo(f"  {card:9} {value}")
