"""The demo: one simulated exposure, from its notifications to the Butler, verified and timed."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import aiohttp
import redis.asyncio

from ..app.config import DEFAULT_ROLES, Config
from ..app.daemon import serve
from ..app.metrics import REGISTRY
from ..app.secrets import notification_secrets
from ..queue import keys
from ..queue.connection import connect
from ..roles import Role
from .simulator import BucketSink, Event, Exposure, Notifier, SentFile, Simulator, sensors

TIMEOUT = 120.0
"""Seconds after the last notification until the demo gives up."""

POLL = 0.05
"""Seconds between two checks of the progress."""

STEPS = ("sent", "queued", "present", "ingested")
"""What happens to each file, in order."""


EXPECTED = {"raw": 197, "guider_raw": 8, "exposure": 1, "visit": 1, "detector region": 205}
"""What the repository must contain of an LSSTCam exposure, including regions."""


@dataclass
class Report:
    """The result of a demo."""

    obs_id: str
    sent: int
    """Files written and announced."""
    queued: int
    expected_present: int
    """Files that presence should report: all but the guiders, which are not part of a group."""
    present: int
    """Detectors that presence reported as arrived."""
    stored: dict[str, int]
    """What the repository contains, by the names of `EXPECTED`."""
    seconds: dict[str, list[float]]
    """For each step, the seconds since the PUT of each file."""
    trouble: list[str]
    """What went wrong, in words."""

    def median_and_worst(self, step: str) -> tuple[float, float] | None:
        """Median and maximum seconds from PUT to a step; None if no file got there."""
        times = self.seconds[step]
        return (statistics.median(times), max(times)) if times else None


async def demonstrate(config: Config, progress: Callable[[str, int], None]) -> Report:
    """Run all roles, let the camera take an exposure, and check the result.

    Parameters
    ----------
    config
        A site with empty queues.
    progress
        Called with a step of `STEPS` and the number of files that have taken it.
    """
    stop = asyncio.Event()
    started: asyncio.Future[dict[str, int]] = asyncio.get_running_loop().create_future()

    def ready(roles: Sequence[Role], _: object) -> None:
        if not started.done():  # unless it was interrupted
            started.set_result({role.name: role.port for role in roles if hasattr(role, "port")})

    site = asyncio.create_task(serve(config, DEFAULT_ROLES, stop, ready=ready))
    site.add_done_callback(lambda _: started.done() or started.cancel())
    try:
        return await _expose(config, await started, progress)
    finally:
        stop.set()
        await site


async def _expose(config: Config, ports: dict[str, int], progress: Callable[[str, int], None]) -> Report:
    (bucket,) = config.buckets
    sent = 0

    def on_event(event: Event) -> None:
        nonlocal sent
        sent += event.kind == "written"
        progress("sent", sent)

    url = f"http://127.0.0.1:{ports['enqueue']}/notify"
    async with Notifier.open(url, next(iter(notification_secrets()), None)) as notifier:
        camera = asyncio.create_task(Simulator(BucketSink(bucket), notifier, on_event=on_event).run())
        try:
            while (await asyncio.wait([camera], timeout=POLL))[1]:
                _show(progress)
        finally:
            camera.cancel()
            await asyncio.wait([camera])
        result = camera.result()
        for _ in range(round(TIMEOUT / POLL)):
            if _show(progress) == len(result.images):
                break
            await asyncio.sleep(POLL)
    client = connect(config.redis)
    try:
        return await _inspect(config, client, ports["presence"], result.exposures[0], result.images)
    finally:
        await client.aclose()


def _show(progress: Callable[[str, int], None]) -> int:
    """Report the progress; return how many files are ingested."""
    names = ("autoingest_queued_total", "autoingest_creation_to_presence_seconds_count", "autoingest_ingested_total")
    counts = dict.fromkeys(names, 0.0)
    for family in REGISTRY.collect():
        for sample in family.samples:
            if sample.name in counts:
                counts[sample.name] += sample.value
    for step, count in zip(STEPS[1:], counts.values(), strict=True):
        progress(step, int(count))
    return int(counts[names[-1]])


async def _inspect(
    config: Config, client: redis.asyncio.Redis, presence_port: int, exposure: Exposure, images: list[SentFile]
) -> Report:
    (bucket,) = config.buckets
    group = str(exposure.header(sensors()[0])["GROUPID"])
    names = {file.path: file.path.rsplit("/", 1)[1].split(".")[0].removesuffix("_guider")[-7:] for file in images}
    async with client.pipeline(transaction=False) as pipe:
        for file in images:
            pipe.hmget(keys.file(file.path), "recv_time", "ingest_time")
            pipe.pttl(keys.group("LSSTCam", group, 0, names[file.path]))
        asked = time.time()
        answers = await pipe.execute()
    seconds: dict[str, list[float]] = {step: [] for step in STEPS[1:]}
    for file, (received, ingested), left in zip(images, answers[::2], answers[1::2], strict=True):
        if received:
            seconds["queued"].append(float(received) - file.put_time)
        if left > 0:  # computed from the remaining time to live of the key
            seconds["present"].append(asked - config.presence.expiry + left / 1000 - file.put_time)
        if ingested:
            seconds["ingested"].append(float(ingested) - file.put_time)
    grouped = [names[file.path] for file in images if not file.path.endswith("_guider.fits")]
    present = await _ask_presence(presence_port, group, grouped)
    stored = await asyncio.to_thread(_stored, config.ingest.repo, exposure)
    trouble = [
        f"{stored[what]} of {expected} {what}" for what, expected in EXPECTED.items() if stored[what] != expected
    ]
    if present != len(grouped):
        trouble.append(f"{present} of {len(grouped)} present")
    trouble += [
        f"dead letter: {letter}" for letter in cast(dict[str, str], await client.hgetall(keys.dead(bucket))).values()
    ]
    queued = len(seconds["queued"])
    return Report(exposure.obs_id, len(images), queued, len(grouped), present, stored, seconds, trouble)


async def _ask_presence(port: int, group: str, detectors: list[str]) -> int:
    """Ask for all detectors at once, as Prompt Processing does; count those that have arrived."""
    base = f"http://127.0.0.1:{port}/presence/LSSTCam/{group}/0/"
    connector = aiohttp.TCPConnector(force_close=True, limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def ask(detector: str) -> bool:
            async with session.get(base + detector) as response:
                return bool((await response.json())["present"])

        return sum(await asyncio.gather(*(ask(detector) for detector in detectors)))


def _stored(repo: str, exposure: Exposure) -> dict[str, int]:
    """Count what the repository contains of an exposure, by the names of `EXPECTED`."""
    from lsst.daf.butler import Butler

    where = {"instrument": "LSSTCam", "exposure": exposure.exposure_id}
    visit = {"instrument": "LSSTCam", "visit": exposure.exposure_id}
    with Butler.from_config(repo) as butler:
        visits = butler.query_dimension_records("visit", data_id=visit, explain=False)
        regions = butler.query_dimension_records("visit_detector_region", data_id=visit, explain=False)
        return {
            "raw": len(butler.query_datasets("raw", "LSSTCam/raw/all", data_id=where, explain=False)),
            "guider_raw": len(butler.query_datasets("guider_raw", "LSSTCam/raw/guider", data_id=where, explain=False)),
            "exposure": len(butler.query_dimension_records("exposure", data_id=where, explain=False)),
            "visit": sum(record.region is not None for record in visits),
            "detector region": sum(record.region is not None for record in regions),
        }
