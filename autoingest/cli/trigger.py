"""``autoingest trigger``."""

from __future__ import annotations

import dataclasses
import sys
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import click
import orjson
import redis.asyncio

from ..app.config import Config
from ..app.secrets import notification_secrets
from ..butler.reader import open_reader
from ..operations.object_filter import ObjectFilter
from ..operations.remote import open_sink
from ..operations.trigger import IntakeSink, Sink, Target, Trigger, TriggerReport
from ..queue.intake import Intake
from ..queue.operator_log import record
from ..queue.site import check_site
from ..store.listing import open_listing
from .limits import run, timeout_option
from .output import echo
from .site import bucket_option, chosen, config_option, day, json_option, load, open_redis, progress


@click.command()
@click.argument("objects", nargs=-1, metavar="[OBS_ID[_RAFT_SENSOR]]...")
@config_option
@click.option("--day", "days", type=day, metavar="YYYYMMDD", multiple=True, help="All of an observing day.")
@click.option("--prefix", "prefixes", multiple=True, help="All whose keys begin so; may end within a name.")
@bucket_option
@click.option("--notify", metavar="URL", help="Post to this site's /notify instead of the queue in Redis; the secret "
              "is the first of AUTOINGEST_NOTIFICATION_SECRETS.")  # fmt: skip
@click.option("--force", is_flag=True, help="Also what the Butler has, and what is with a worker or waiting.")
@click.option("--dry-run", is_flag=True, help="Only print what would be queued.")
@json_option
@timeout_option("6h")
def trigger(
    objects: tuple[str, ...],
    config_file: Path,
    days: tuple[str, ...],
    prefixes: tuple[str, ...],
    bucket: str | None,
    notify: str | None,
    force: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Queue what is in the store and not in the Butler: exposures, single images, a day, or a prefix.

    Only objects that the enqueue filter lets through are taken. What is queued, with a worker or waiting already is
    left alone. Exits with 1 if something that was asked for does not exist in any bucket.

    \b
    Examples:
        autoingest trigger --config summit.yaml \\
            MC_O_20251231_000010 MC_O_20251231_000011_R22_S11
        autoingest trigger --config summit.yaml --day 20251231 --dry-run
        autoingest trigger --config lfa.yaml --prefix ATMCS/ \\
            --notify http://10.0.0.1:8000/notify
    """  # noqa: D301 - click's mark is a real backspace
    config = load(config_file)
    targets = [Target.of(text) for text in objects]
    targets += [Target(text, day=text) for text in days]
    targets += [Target(text, prefix=text) for text in prefixes]
    if not targets:
        raise click.UsageError("say what: OBS_ID, OBS_ID_RAFT_SENSOR, --day or --prefix")
    report = run(_trigger(config, chosen(config, bucket), targets, notify, force, dry_run, as_json))
    if as_json:
        echo(orjson.dumps(dataclasses.asdict(report), option=orjson.OPT_INDENT_2))
        sys.exit(1 if report.not_in_store else 0)
    if dry_run:
        for path in report.selected:
            echo(path)
    echo(
        f"{len(report.selected)} to be queued, " if dry_run else f"{report.queued} queued, "
        f"{report.duplicate} were on the queue, ", nl=False,
    )  # fmt: skip
    echo(
        f"{report.in_butler} in the Butler, {report.on_the_way} on the way, {report.ignored} left out by the filter, "
        f"{report.unknown} with unknown keys"
    )
    for text in report.not_in_store:
        echo(f"{text}: not in the store")
    if report.not_in_store:
        sys.exit(1)


async def _record(client: redis.asyncio.Redis, sink: IntakeSink, what: str) -> None:
    for bucket, paths in sink.queued.items():
        await record(client, "triggered", bucket, paths, what)


async def _trigger(
    config: Config,
    buckets: list[str],
    targets: list[Target],
    notify: str | None,
    force: bool,
    dry_run: bool,
    quiet: bool,
) -> TriggerReport:
    report = TriggerReport()
    async with AsyncExitStack() as stack:
        bar = stack.enter_context(progress(quiet))
        task = bar.add_task("looking", total=None, text="")

        def show(report: TriggerReport) -> None:
            seen = report.in_butler + report.on_the_way + len(report.selected)
            bar.update(task, text=f"{seen:,} images found, {report.queued:,} queued")

        # A site elsewhere has a Redis of its own, which tells by its answers what it has already.
        client = None if notify else await stack.enter_async_context(open_redis(config))
        sink: Sink | None = None
        if not dry_run:
            if client is None:
                assert notify is not None
                sink = await stack.enter_async_context(open_sink(notify, next(iter(notification_secrets()), None)))
            else:
                for bucket in buckets:
                    await check_site(client, bucket, config.ingest.repo)
                intake = Intake(client, hold=False)
                stack.push_async_callback(intake.close)
                sink = IntakeSink(intake)
                stack.push_async_callback(_record, client, sink, ", ".join(target.text for target in targets))
        reader = None if force else await stack.enter_async_context(open_reader(config.ingest, config.logging))
        worker = Trigger(partial(ObjectFilter, config.enqueue.filter), sink, reader, None if force else client, show)
        for bucket in buckets:
            bar.update(task, description=bucket)
            await worker.run(await stack.enter_async_context(open_listing(bucket)), targets, report)
    return report
