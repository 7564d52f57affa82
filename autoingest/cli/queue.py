"""``autoingest queue``."""

from __future__ import annotations

import dataclasses
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, TypeVar

import click
import orjson
import redis.asyncio
from rich.table import Column

from ..app.config import Config
from ..model.notices import NO_BUCKET
from ..model.text import printable
from ..operations.rejected import requeue_rejected
from ..queue.dead_letters import (
    REASONS,
    DeadLetter,
    RejectedRecord,
    Selection,
    dead_letters,
    drop,
    drop_rejected,
    rejected_records,
    requeue,
)
from ..queue.places import CHUNK
from ..queue.site import owner_of, site_of, take_over
from ..queue.status import queue_status, rejected_count
from .limits import duration, run, timeout_option
from .output import console, echo, table
from .site import bucket_option, chosen, config_option, day, json_option, load, moment, open_redis

F = TypeVar("F", bound=Callable[..., Any])


def _selecting(command: F) -> F:
    """Add the options by which records are selected."""
    for option in reversed(
        [
            bucket_option,
            click.option("--day", type=day, metavar="YYYYMMDD", help="Only of this observing day."),
            click.option("--obs-id", metavar="OBS_ID", help="Only of this exposure."),
            click.option("--reason", help="Only with this reason; of rejected records, any part of it."),
            click.option(
                "--older", type=duration, metavar="TIME", help="Only if the last failure is as old as 90s, 30m, 6h, 2d."
            ),
            click.option(
                "--younger", type=duration, metavar="TIME", help="Only if the last failure is no older than that."
            ),
        ]
    ):
        command = option(command)
    return command


def _selection(selecting: dict[str, Any], paths: tuple[str, ...] = (), *, of_rejected: bool = False) -> Selection:
    reason = selecting["reason"]
    if reason and not of_rejected and reason not in REASONS:
        raise click.UsageError(f"--reason: {reason!r} is not a reason of dead letters; these are: {', '.join(REASONS)}")
    return Selection(paths=frozenset(path.removeprefix("s3://") for path in paths), **selecting)


@click.group()
def queue() -> None:
    """Inspect queues, dead letters and rejected records; requeue or drop them.

    \b
    Examples:
        autoingest queue status --config summit.yaml
        autoingest queue requeue --config summit.yaml --reason missing
    """  # noqa: D301 - click's mark is a real backspace


@queue.command()
@config_option
@bucket_option
@json_option
@timeout_option("10m")
def status(config_file: Path, bucket: str | None, as_json: bool) -> None:
    """Count what is queued, in work, waiting, dead and rejected.

    \b
    Example:
        autoingest queue status --config summit.yaml
    """  # noqa: D301 - click's mark is a real backspace
    config = load(config_file)

    async def count() -> dict[str, dict[str, Any]]:
        async with open_redis(config) as client:
            found = {
                name: {
                    **dataclasses.asdict(await queue_status(client, name)),
                    "rejected": await rejected_count(client, name),
                }
                for name in chosen(config, bucket)
            }
            if stray := await rejected_count(client, NO_BUCKET):
                found[NO_BUCKET] = {"rejected": stray}
            return found

    found = run(count())
    if as_json:
        echo(orjson.dumps(found, option=orjson.OPT_INDENT_2))
        return
    queues = table(Column("bucket", overflow="fold"))
    for title in _TITLES.values():
        queues.add_column(title, justify="right", no_wrap=True)
    for name, numbers in found.items():
        queues.add_row(name, *(_number(numbers.get(column)) for column in _TITLES))
    console().print(queues)


_TITLES = {
    "depth": "queued", "oldest": "oldest, s", "working": "working", "workers": "workers", "waiting": "waiting",
    "dead": "dead", "owed": "owed", "rejected": "rejected",
}  # fmt: skip


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"


@queue.command()
@config_option
@_selecting
@json_option
@timeout_option("10m")
def dead(config_file: Path, bucket: str | None, as_json: bool, **selecting: Any) -> None:
    """Show dead letters: files that were given up, with reason, attempts, times and worker.

    \b
    Example:
        autoingest queue dead --config summit.yaml \\
            --day 20251231 --reason metadata
    """  # noqa: D301 - click's mark is a real backspace
    config = load(config_file)
    selection = _selection(selecting)
    found: list[Any] = run(_collect(config, lambda client: dead_letters(client, chosen(config, bucket), selection)))
    _show(found, as_json, "dead letters")


@queue.command()
@config_option
@_selecting
@json_option
@timeout_option("10m")
def rejected(config_file: Path, bucket: str | None, as_json: bool, **selecting: Any) -> None:
    """Show rejected records: notifications that could not be used, why, and how often they came.

    The bucket `-` contains records that name no configured bucket.

    \b
    Example:
        autoingest queue rejected --config summit.yaml --younger 1d
    """  # noqa: D301 - click's mark is a real backspace
    config = load(config_file)
    selection = _selection(selecting, of_rejected=True)
    buckets = chosen(config, bucket, [NO_BUCKET])
    found: list[Any] = run(_collect(config, lambda client: rejected_records(client, buckets, selection)))
    _show(found, as_json, "rejected records")


@queue.command("requeue")
@config_option
@_selecting
@click.argument("paths", nargs=-1)
@click.option("--rejected", "of_rejected", is_flag=True, help="Requeue rejected records that are valid now.")
@click.option("--all", "everything", is_flag=True, help="Select everything, if there is no other selection.")
@json_option
@timeout_option("10m")
def requeue_command(
    config_file: Path,
    bucket: str | None,
    paths: tuple[str, ...],
    of_rejected: bool,
    everything: bool,
    as_json: bool,
    **selecting: Any,
) -> None:
    """Put dead letters back on the queue, with their full number of attempts.

    PATHS are written as `queue dead` shows them; '' is the empty path. Fix the cause
    first: files that fail again become dead letters again.

    \b
    Examples:
        autoingest queue requeue --config summit.yaml \\
            --reason missing --younger 1d
        autoingest queue requeue --config summit.yaml \\
            --rejected --bucket rubin-summit --all
    """  # noqa: D301 - click's mark is a real backspace
    config = load(config_file)
    selection = _careful(_selection(selecting, paths, of_rejected=of_rejected), bucket, everything)
    requeued, left = run(_requeue(config, bucket, selection, of_rejected))
    if as_json:
        echo(orjson.dumps({"requeued": requeued, "left": left}, option=orjson.OPT_INDENT_2))
    else:
        for path, why in left.items():
            echo(f"{path}: left: {why}")
        echo(f"{len(requeued)} requeued, {len(left)} left")
    sys.exit(1 if left else 0)


@queue.command("drop")
@config_option
@_selecting
@click.argument("paths", nargs=-1)
@click.option("--rejected", "of_rejected", is_flag=True, help="Rejected records instead of dead letters.")
@click.option("--all", "everything", is_flag=True, help="Select everything, if there is no other selection.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@timeout_option("10m")
def drop_command(
    config_file: Path,
    bucket: str | None,
    paths: tuple[str, ...],
    of_rejected: bool,
    everything: bool,
    yes: bool,
    as_json: bool,
    **selecting: Any,
) -> None:
    """Remove dead letters for good, after asking.

    For a week, neither ingest nor reconcile tries the files again, unless new notifications of them arrive.

    \b
    Example:
        autoingest queue drop --config summit.yaml \\
            --obs-id MC_O_20251231_000010
    """  # noqa: D301 - click's mark is a real backspace
    config = load(config_file)
    selection = _careful(_selection(selecting, paths, of_rejected=of_rejected), bucket, everything)
    if of_rejected:
        buckets = chosen(config, bucket, [NO_BUCKET])
        records: list[RejectedRecord] = run(
            _collect(config, lambda client: rejected_records(client, buckets, selection))
        )
        found = [(record.bucket, record.key) for record in records]
    else:
        letters: list[DeadLetter] = run(
            _collect(config, lambda client: dead_letters(client, chosen(config, bucket), selection))
        )
        found = [(letter.bucket, letter.path) for letter in letters]
    if found and not yes:
        for name, text in found[:10]:
            echo(f"{name}: {printable(text) or '(empty path)'}", err=True)
        click.confirm(f"Drop these {len(found)} for good?", abort=True, err=True)
    dropped = run(_drop(config, found, of_rejected))
    echo(orjson.dumps({"dropped": dropped}) if as_json else f"{dropped} dropped")


@queue.command("site")
@config_option
@bucket_option
@click.option("--take", is_flag=True, help="Assign the queues to this configuration's repository, after confirmation.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@timeout_option("10m")
def site_command(config_file: Path, bucket: str | None, take: bool, yes: bool, as_json: bool) -> None:
    """Show to which Butler repository the queue of each bucket belongs, or take it over.

    Only workers of that repository take from the queue: two sites that use one Redis database by mistake can't take
    each other's images. Take it over when the repository has moved. Exits with 1 if a queue belongs to another one.

    \b
    Examples:
        autoingest queue site --config summit.yaml
        autoingest queue site --config summit.yaml --take
    """  # noqa: D301 - click's mark is a real backspace
    config = load(config_file)
    mine = site_of(config.ingest.repo)
    found = run(_sites(config, bucket, []))
    foreign = [name for name, owner in found.items() if owner not in (None, mine)]
    if take:
        for name in foreign:
            echo(f"{name}: belongs to {found[name]}", err=True)
        if foreign and not yes:
            click.confirm(
                f"Assign these queues to {mine}, so that only its workers take from them?", abort=True, err=True
            )
        found, foreign = run(_sites(config, bucket, list(found))), []
    if as_json:
        echo(orjson.dumps(found, option=orjson.OPT_INDENT_2))
    else:
        for name, owner in found.items():
            echo(f"{name}: {owner or 'nobody has taken from it yet'}")
    sys.exit(1 if foreign else 0)


async def _sites(config: Config, bucket: str | None, take: list[str]) -> dict[str, str | None]:
    """Return the repositories to which the queues belong, after taking some over."""
    async with open_redis(config) as client:
        for name in take:
            await take_over(client, name, config.ingest.repo)
        return {name: await owner_of(client, name) for name in chosen(config, bucket)}


def _careful(selection: Selection, bucket: str | None, everything: bool) -> Selection:
    if selection.is_everything and bucket is None and not everything:
        raise click.UsageError(
            "select records with paths, --bucket, --day, --obs-id, --reason, --older, --younger, or --all"
        )
    return selection


async def _collect(config: Config, select: Callable[[redis.asyncio.Redis], AsyncIterator[Any]]) -> list[Any]:
    """Return records in order of their last failure; a record that comes twice is taken once."""
    async with open_redis(config) as client:
        found = {(item.bucket, item.path): item async for item in select(client)}
    return sorted(found.values(), key=lambda item: (item.last_time, item.path))


async def _requeue(
    config: Config, bucket: str | None, selection: Selection, of_rejected: bool
) -> tuple[list[str], dict[str, str]]:
    requeued: list[str] = []
    async with open_redis(config) as client:
        if of_rejected:
            records = [
                record async for record in rejected_records(client, chosen(config, bucket, [NO_BUCKET]), selection)
            ]
            return await requeue_rejected(client, config, records)
        for name in chosen(config, bucket):
            paths: list[str] = []
            async for letter in dead_letters(client, [name], selection):
                paths.append(letter.path)
                if len(paths) == CHUNK:
                    requeued += await requeue(client, name, paths)
                    paths.clear()
            requeued += await requeue(client, name, paths)
    requeued = [printable(path) for path in requeued]
    missing = {printable(path) for path in selection.paths} - set(requeued)
    return requeued, dict.fromkeys(sorted(missing), "not dead, or not selected")


async def _drop(config: Config, found: list[tuple[str, str]], of_rejected: bool) -> int:
    by_bucket: defaultdict[str, list[str]] = defaultdict(list)
    for bucket, text in found:
        by_bucket[bucket].append(text)
    dropped = 0
    async with open_redis(config) as client:
        for bucket, texts in by_bucket.items():
            if of_rejected:
                dropped += await drop_rejected(client, bucket, texts)
            else:
                dropped += len(await drop(client, bucket, texts))
    return dropped


def _readable(item: DeadLetter | RejectedRecord) -> dict[str, Any]:
    """Return a record's fields, with every text such that JSON can hold it."""
    fields = dataclasses.asdict(item)
    return {name: printable(value) if name in ("path", "key") else value for name, value in fields.items()}


def _lines(text: str) -> str:
    """Return a text of several lines, each printable."""
    return "\n  ".join(map(printable, text.splitlines()))


def _show(found: list[Any], as_json: bool, what: str) -> None:
    if as_json:
        echo(orjson.dumps([_readable(item) for item in found], option=orjson.OPT_INDENT_2))
        return
    for item in found:
        path = printable(item.path) or "(empty path)"
        if isinstance(item, DeadLetter):
            echo(f"{path}\n  {_lines(f'{item.reason}: {item.exception}')}")
            echo(
                f"  {item.attempts} attempts, {moment(item.first_time)} to {moment(item.last_time)} UTC, "
                + printable(f"last by {item.worker}, etag {item.etag or 'unknown'}")
            )
        else:
            echo(f"{path}\n  {_lines(item.reason)}")
            echo(f"  {item.count} times, {moment(item.first_time)} to {moment(item.last_time)} UTC")
    echo(f"{len(found)} {what}")
