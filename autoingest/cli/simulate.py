"""``autoingest simulate``."""

from __future__ import annotations

import asyncio
import json
import os
from contextlib import AsyncExitStack
from pathlib import Path

import click
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from ..app.secrets import notification_secrets
from ..dev.environment import DEVELOPMENT_DATA, NOTIFY_URL, S3_ENVIRONMENT
from ..dev.setup import BUCKET
from ..dev.simulator import (
    IMAGE_TYPES,
    ORDERS,
    BucketSink,
    DirectorySink,
    Event,
    Notifier,
    Order,
    Result,
    Simulator,
    Sink,
    sensors,
)
from .output import console, echo


@click.command(context_settings={"show_default": True})
@click.option("--bucket", help="Write to this S3 bucket: BUCKET or PROFILE@BUCKET.")
@click.option("--directory", type=click.Path(file_okay=False, path_type=Path), help="Write to this folder instead.")
@click.option("--exposures", type=click.IntRange(1), default=1, help="Number of exposures.")
@click.option(
    "--cadence", type=click.FloatRange(0), default=0.0, help="Seconds from one exposure to the next; 0: no pause."
)
@click.option("--day-obs", type=click.IntRange(20200101, 20991231), help="Observing day YYYYMMDD; today by default.")
@click.option("--first-seq", type=click.IntRange(1, 99999), help="First sequence number; by default an unused one.")
@click.option("--order", type=click.Choice(ORDERS), default="natural", help="Order in which files are written.")
@click.option("--duplicates", type=click.FloatRange(0, 1), default=0.0, help="Fraction of notifications to repeat.")
@click.option("--no-sidecars", is_flag=True, help="Write no JSON beside the FITS files.")
@click.option("--notify", metavar="URL", help="Post notifications to this URL; by default the store sends them.")
@click.option("--image-type", type=click.Choice(IMAGE_TYPES), default="OBJECT", help="Image type of the exposures.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON, and no progress.")
def simulate(
    bucket: str | None,
    directory: Path | None,
    exposures: int,
    cadence: float,
    day_obs: int | None,
    first_seq: int | None,
    order: Order,
    duplicates: float,
    no_sidecars: bool,
    notify: str | None,
    image_type: str,
    as_json: bool,
) -> None:
    """Simulate a camera: write LSSTCam exposures and send the notifications.

    An exposure consists of 205 FITS files with small images, their sidecars and the list of sensors. The S3 server is
    taken from the variables that the Science Pipelines use: S3_ENDPOINT_URL, LSST_RESOURCES_S3_PROFILE_<profile> and
    the AWS variables. Notifications carry the first secret in AUTOINGEST_NOTIFICATION_SECRETS. Without --bucket and
    --directory, the exposures go to the development set-up that `autoingest run` has started in this folder.

    \b
    Examples:
        autoingest simulate
        autoingest simulate --bucket embargo@rubin-summit \\
            --exposures 10 --cadence 40
        autoingest simulate --bucket rubin-summit --order guiders-first \\
            --notify http://127.0.0.1:8000/notify
    """  # noqa: D301 - click's mark is a real backspace
    if bucket and directory:
        raise click.UsageError("give either --bucket or --directory, not both")
    if directory and notify:
        raise click.UsageError("--notify needs --bucket instead of --directory: notifications name a bucket")
    if duplicates and not notify and (bucket or directory):
        raise click.UsageError("--duplicates needs --notify")
    if directory:
        sink: Sink = DirectorySink(directory)
    else:
        if not bucket:
            receiver = _development()
            bucket, notify = BUCKET, notify or receiver
        sink = BucketSink(bucket)

    async def take() -> Result:
        async with AsyncExitStack() as stack:
            notifier = None
            if notify:
                secret = next(iter(notification_secrets()), None)
                notifier = await stack.enter_async_context(Notifier.open(notify, secret))
            progress = stack.enter_context(
                Progress(
                    TextColumn("{task.description}"),
                    BarColumn(),
                    MofNCompleteColumn(),
                    TimeElapsedColumn(),
                    console=console(stderr=True),
                    disable=as_json,
                )
            )
            total = exposures * len(sensors())
            bars = {"written": progress.add_task("images written", total=total)}
            if notifier:
                bars["notified"] = progress.add_task("images notified", total=total)

            def on_event(event: Event) -> None:
                progress.advance(bars[event.kind])

            simulator = Simulator(
                sink,
                notifier,
                order=order,
                duplicates=duplicates,
                sidecars=not no_sidecars,
                image_type=image_type,
                on_event=on_event,
            )
            return await simulator.run(exposures, cadence=cadence, day_obs=day_obs, first_seq=first_seq)

    result = asyncio.run(take())
    summary = {
        "exposures": len(result.exposures),
        "obs_ids": [exposure.obs_id for exposure in result.exposures],
        "images": len(result.images),
        "bytes": sum(file.size for file in result.images),
        "notified": sum(file.notified_time is not None for file in result.images),
        "duplicates": result.duplicates,
        "seconds": round(result.seconds, 3),
    }
    if as_json:
        echo(json.dumps(summary))
    else:
        echo(
            f"{', '.join(exposure.obs_id for exposure in result.exposures)}: {summary['images']} images written, "
            f"{summary['notified']} notified, {summary['duplicates']} of them twice, in {summary['seconds']} s"
        )


def _development() -> str:
    """Set the environment for the store of the development set-up; return the URL for its notifications."""
    try:
        endpoint = (DEVELOPMENT_DATA / "s3" / "url").read_text()
        notify = (DEVELOPMENT_DATA / NOTIFY_URL).read_text()
    except FileNotFoundError:
        raise click.UsageError("give --bucket or --directory, or start `autoingest run` in this folder first") from None
    os.environ.update(S3_ENVIRONMENT, S3_ENDPOINT_URL=endpoint)
    return notify
