"""``autoingest events``: exposures as their events tell them, and events that a webhook has refused."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import orjson

from ..app.config import Config
from ..app.secrets import WEBHOOK_SECRETS, tokens
from ..errors import TransientError
from ..model.events import Event
from ..model.objects import observing_day
from ..model.rafts import by_raft
from ..queue.delivery import Undelivered, forget, undelivered
from ..queue.progress import obs_ids_of_day, read_exposure
from .limits import run, timeout_option
from .output import console, echo, table
from .site import bucket_option, chosen, config_option, day, json_option, load, open_redis

RAFTS = 4
"""Number of rafts that the table names of an exposure's missing detectors."""


@click.group()
def events() -> None:
    """Show which exposures are complete, and handle events that a webhook has refused.

    \b
    Example:
        autoingest events exposures --config summit.yaml --day 20251231
    """  # noqa: D301 - click's mark is a real backspace


@events.command("exposures")
@config_option
@bucket_option
@click.option("--day", "day_obs", default=lambda: str(observing_day(datetime.now(UTC))), show_default="the current one",
              callback=lambda _, __, text: day(text), help="Observing day, 20251231 or 2025-12-31.")  # fmt: skip
@json_option
@timeout_option("1m")
def exposures_command(config_file: Path, bucket: str | None, day_obs: str, as_json: bool) -> None:
    """List the exposures of an observing day, and what those that are incomplete lack.

    Exits with 1 if any is incomplete. Redis knows exposures for a week after their last change.

    \b
    Examples:
        autoingest events exposures --config summit.yaml
        autoingest events exposures --day 2025-12-31 --json
    """  # noqa: D301 - click's mark is a real backspace
    config = load(config_file)
    found = run(_exposures(config, chosen(config, bucket), day_obs))
    if as_json:
        echo(orjson.dumps(found, option=orjson.OPT_INDENT_2))
    else:
        _show(found, day_obs)
    sys.exit(1 if any(item["state"] != "complete" for item in found) else 0)


async def _exposures(config: Config, buckets: Sequence[str], day_obs: str) -> list[dict[str, Any]]:
    async with open_redis(config) as client:
        names = [(bucket, obs_id) for bucket in buckets for obs_id in await obs_ids_of_day(client, bucket, day_obs)]
        found = [await read_exposure(client, *name) for name in names]
    return [item for item in found if item is not None]


def _show(found: Sequence[dict[str, Any]], day_obs: str) -> None:
    if not found:
        echo(f"nothing is known of exposures of {day_obs}")
        return
    exposures = table("exposure", "state", "ingested", "expected", "visit", "missing")
    for item in found:
        exposures.add_row(
            item["obs_id"], item["state"], str(sum(item["ingested"].values())),
            str(sum(item["expected"].values())) if item["expected"] else "?", item["visit"] or "?",
            by_raft(item["missing"] or (), RAFTS),
        )  # fmt: skip
    console().print(exposures)
    complete = sum(item["state"] == "complete" for item in found)
    echo(f"{complete} of {len(found)} exposures are complete")


@events.command("undelivered")
@config_option
@json_option
@timeout_option("1m")
def undelivered_command(config_file: Path, as_json: bool) -> None:
    """List the events that webhooks have refused.

    \b
    Example:
        autoingest events undelivered --config summit.yaml
    """  # noqa: D301 - click's mark is a real backspace
    config = load(config_file)
    found = run(_undelivered(config, None))
    if as_json:
        shown = [{"reader": item.reader, "id": item.id, "error": item.error, "event": item.event} for item in found]
        echo(orjson.dumps(shown, option=orjson.OPT_INDENT_2))
        return
    for item in found:
        echo(f"{item.reader}: {item.id}: {item.error}")
    echo(f"{len(found)} events were refused")


@events.command("redeliver")
@config_option
@click.argument("reader")
@json_option
@timeout_option("10m")
def redeliver_command(config_file: Path, reader: str, as_json: bool) -> None:
    """Post the events that the webhook READER has refused once more.

    What it takes is no longer kept. Exits with 1 if it refuses any again, or does not answer.

    \b
    Example:
        autoingest events redeliver rapid-analysis --config summit.yaml
    """  # noqa: D301 - click's mark is a real backspace
    config = load(config_file)
    taken, left = run(_redeliver(config, reader))
    echo(orjson.dumps({"taken": taken, "left": left}) if as_json else f"{len(taken)} taken, {len(left)} left")
    sys.exit(1 if left else 0)


@events.command("drop")
@config_option
@click.argument("reader")
@click.argument("ids", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Drop all that READER has refused.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@timeout_option("10m")
def drop_command(
    config_file: Path, reader: str, ids: tuple[str, ...], everything: bool, yes: bool, as_json: bool
) -> None:
    """Forget events that the webhook READER has refused, after asking.

    \b
    Example:
        autoingest events drop rapid-analysis --all --config summit.yaml
    """  # noqa: D301 - click's mark is a real backspace
    if bool(ids) == everything:
        raise click.UsageError("name the events, or give --all")
    config = load(config_file)
    kept = [item.id for item in run(_undelivered(config, reader))]
    chosen_ids = [name for name in kept if everything or name in ids]
    if chosen_ids and not yes:
        click.confirm(f"Drop {len(chosen_ids)} events that {reader} has refused?", abort=True, err=True)
    run(_forget(config, reader, chosen_ids, "dropped refused events"))
    echo(orjson.dumps({"dropped": chosen_ids}) if as_json else f"{len(chosen_ids)} dropped")


async def _undelivered(config: Config, reader: str | None) -> list[Undelivered]:
    names = [webhook.name for webhook in config.events.webhooks]
    if reader is not None and reader not in names:
        raise click.UsageError(f"{reader!r} is not a webhook of events; there are: {', '.join(names) or 'none'}")
    async with open_redis(config) as client:
        return [item for name in names if reader in (None, name) for item in await undelivered(client, name)]


async def _forget(config: Config, reader: str, ids: Sequence[str], act: str) -> None:
    async with open_redis(config) as client:
        await forget(client, reader, ids, act)


async def _redeliver(config: Config, reader: str) -> tuple[list[str], dict[str, str]]:
    """Post what a webhook has refused; return the ids of what it takes, and why it does not take the others."""
    from ..roles.event_targets import RefusedEventError, WebhookTarget

    kept = await _undelivered(config, reader)
    [webhook] = [each for each in config.events.webhooks if each.name == reader]
    target = WebhookTarget(webhook.model_copy(update={"attempts": 1}), config.events.source, tokens(WEBHOOK_SECRETS))
    taken: list[str] = []
    left: dict[str, str] = {}
    try:
        for item in kept:
            try:
                await target.deliver([Event.of_cloud_event(item.event)])
            except (RefusedEventError, TransientError) as err:
                left[item.id] = str(err)
            else:
                await _forget(config, reader, [item.id], "redelivered")
                taken.append(item.id)
    finally:
        await target.close()
    return taken, left
