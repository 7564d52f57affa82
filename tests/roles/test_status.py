"""The status page: its JSON, who may see it, and what a real browser shows of a night with troubles."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from redis.asyncio import Redis

from autoingest.app.config import Config
from autoingest.app.secrets import READ_TOKEN
from autoingest.model.exposures import ExposureSummary, Span
from autoingest.model.objects import observing_day
from autoingest.operations.expected import all_detectors
from autoingest.queue import keys
from autoingest.queue.heartbeats import Heartbeat, RoleState, Trouble, beat
from autoingest.queue.progress import EventSettings, ExposureFolder, Progress
from autoingest.queue.work import Done, WorkQueue
from autoingest.roles import status
from autoingest.roles.status import StatusRole
from testing.chromium import browser
from testing.redis import BUCKET, put

SETTINGS = EventSettings(BUCKET, 1000, 1000)
HOSTILE = "<img src=x onerror=\"document.title='owned'\">"
DAY = observing_day(datetime.now(UTC))
PUT = time.time() - 60


def basic(password: str) -> str:
    return f"Basic {base64.b64encode(f'me:{password}'.encode()).decode()}"


def obs_id(seq: int) -> str:
    return f"MC_O_{DAY}_{seq:06d}"


def path(seq: int, detector: str) -> str:
    name = f"{obs_id(seq)}_{detector}{'_guider' if '_SG' in detector else ''}.fits"
    return f"{BUCKET}/LSSTCam/{DAY}/{obs_id(seq)}/{name}"


def summary(seq: int) -> ExposureSummary:
    return ExposureSummary(
        "LSSTCam", obs_id(seq), DAY * 100_000 + seq, DAY, seq, "g1", 0, "science", None, None, HOSTILE, "i_39", True,
        Span("2025-04-15T01:00:00.000", "2025-04-15T01:00:30.000"), (DAY * 100_000 + seq,), "embargo",
        ("LSSTCam/raw/all",), "defined",
    )  # fmt: skip


async def ingest(client: Redis, seq: int, *detectors: str) -> None:
    """Take detectors of an exposure into the Butler, all of the camera by default."""
    detectors = detectors or tuple(all_detectors("LSSTCam"))
    await put(client, *(path(seq, name) for name in detectors), created=PUT + seq, recv_time=PUT + seq)
    queue = WorkQueue(client, BUCKET, "a", 60, events=SETTINGS)
    done = []
    for claim in await queue.claim(1000):
        name = claim.path.partition(f"{obs_id(seq)}_")[2].removesuffix(".fits").removesuffix("_guider")
        done.append(Done(claim, "e1", 17, "LSSTCam", str(DAY), None if "_SG" in name else obs_id(seq), "LSSTCam", name))
    await queue.ingested(done, {}, {obs_id(seq): summary(seq)})
    folder = ExposureFolder.of(path(seq, "").rpartition("/")[0] + "/")
    assert folder is not None
    await Progress(client, SETTINGS, 1.0, 60.0).expect(folder, "camera", all_detectors("LSSTCam"))


async def fail(client: Redis, seq: int, detector: str) -> None:
    await put(client, path(seq, detector))
    queue = WorkQueue(client, BUCKET, "a", 60, events=SETTINGS)
    (claim,) = await queue.claim(1)
    await queue.failed(claim, "metadata", f"MetadataError: {HOSTILE}", max_attempts=1, delay=1, detector=detector)


async def alive(client: Redis, butler: Trouble | None = None) -> None:
    roles = {"ingest": RoleState(f"writes {HOSTILE}", (), {"butler": butler, "store": None})}
    await beat(client, Heartbeat("one", "host-1", 17, "1.2.3", time.time() - 600, time.time(), roles))


@asynccontextmanager
async def serving(client: Redis, **status: object) -> AsyncIterator[str]:
    listen = {"listen": {"host": "127.0.0.1", "port": 0}, "unauthenticated": True}
    document = {"buckets": [BUCKET], "ingest": {"repo": "/nowhere"}, "status": listen | status}
    role, stop = StatusRole(Config.from_dict(document, "x"), client), asyncio.Event()
    await role.start()
    running = asyncio.create_task(role.run(stop))
    try:
        yield f"http://127.0.0.1:{role.port}"
    finally:
        stop.set()
        await role.close()
        await running


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({}, 401),
        ({"Authorization": "Bearer wrong"}, 401),
        ({"Authorization": "Basic %%%"}, 401),
        ({"Authorization": basic("wrong")}, 401),
        ({"Authorization": "Bearer swordfish"}, 200),
        ({"Authorization": basic("swordfish")}, 200),
    ],
)
@pytest.mark.parametrize("where", ["/", "/assets/app.js", "/api/status", "/api/cameras/LATISS"])
async def test_a_token_is_demanded(
    redis_client: Redis, monkeypatch: pytest.MonkeyPatch, given: dict[str, str], code: int, where: str
) -> None:
    monkeypatch.setenv(READ_TOKEN, "swordfish")
    async with (
        serving(redis_client, unauthenticated=False) as url,
        aiohttp.ClientSession() as session,
        session.get(url + where, headers=given) as response,
    ):
        assert response.status == code
        assert "default-src 'none'" in response.headers["Content-Security-Policy"]
        assert "unsafe" not in response.headers["Content-Security-Policy"]


async def test_without_a_token_nobody_is_admitted(redis_client: Redis) -> None:
    async with serving(redis_client, unauthenticated=False) as url, aiohttp.ClientSession() as session:
        for given in ("Bearer ", basic("")):
            async with session.get(f"{url}/api/status", headers={"Authorization": given}) as response:
                assert response.status == 401


async def test_states_of_detectors(redis_client: Redis) -> None:
    await ingest(redis_client, 1, "R22_S11", "R22_S12")
    await fail(redis_client, 1, "R22_S10")
    await put(redis_client, path(1, "R22_S00"), created=time.time() + 3600)
    await put(redis_client, path(1, "R22_S01"), created=PUT)
    await put(redis_client, path(1, "R22_S02"), created=PUT)
    await redis_client.hset(keys.arrivals("LSSTCam", "g1"), f"0:R22_S02:{obs_id(1)}", "x")
    await redis_client.hset(keys.file(path(1, "R00_SG0")), "state", "waiting")
    async with serving(redis_client) as url, aiohttp.ClientSession() as session:
        async with session.get(f"{url}/api/exposures/{obs_id(1)}") as response:
            found = {one["detector"]: one for one in (await response.json())["detectors"]}
        assert len(found) == 205
        assert {name: (found[name]["state"], found[name]["late"]) for name in (
            "R22_S11", "R22_S10", "R22_S00", "R22_S01", "R22_S02", "R00_SG0", "R22_S20",
        )} == {
            "R22_S11": ("ingested", False), "R22_S10": ("failed", False), "R22_S00": ("queued", False),
            "R22_S01": ("queued", True), "R22_S02": ("present", True), "R00_SG0": ("waiting", False),
            "R22_S20": ("expected", False),
        }  # fmt: skip
        assert found["R22_S10"]["reason"] == "metadata"
        codes = {"exposures/MC_O_20200101_000001": 404, "exposures/x": 400, "cameras/Nikon": 404, "cameras/LATISS": 200}
        for where, code in codes.items():
            async with session.get(f"{url}/api/{where}") as response:
                assert response.status == code, where


async def test_viewers_share_one_look(redis_client: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    async def first(session: aiohttp.ClientSession, url: str) -> dict[str, Any]:
        async with session.get(f"{url}/api/feed") as response:
            assert await response.content.readline() == b"event: status\n"
            found: dict[str, Any] = orjson.loads((await response.content.readline()).removeprefix(b"data: "))
            return found

    looks = 0
    content = StatusRole._content

    async def counted(self: StatusRole) -> dict[str, Any]:
        nonlocal looks
        looks += 1
        return await content(self)

    monkeypatch.setattr(StatusRole, "_content", counted)
    await alive(redis_client)
    async with serving(redis_client) as url, aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        found = await asyncio.gather(*(first(session, url) for _ in range(30)))
    assert {one["summary"]["text"] for one in found} == {"All images in."}
    assert looks < 30


async def test_viewers_of_an_exposure_share_one_look(redis_client: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = 0

    async def read(client: Redis, bucket: str, obs_id: str) -> dict[str, Any]:
        nonlocal looks
        looks += 1
        return {"instrument": "LSSTCam", "obs_id": obs_id, "number": looks}

    async def states(*_: object) -> list[object]:
        return []

    monkeypatch.setattr(status, "read_exposure", read)
    monkeypatch.setattr(status, "detector_states", states)
    monkeypatch.setattr(status, "INTERVAL", 3600.0)

    async def get(session: aiohttp.ClientSession, url: str, obs_id: str) -> int:
        async with session.get(f"{url}/api/exposures/{obs_id}") as response:
            return int((await response.json())["number"])

    one, other = "MC_O_20251231_000010", "MC_O_20251231_000011"
    async with serving(redis_client) as url, aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        assert set(await asyncio.gather(*(get(session, url, one) for _ in range(30)))) == {1}
        assert await get(session, url, other) == 2
        monkeypatch.setattr(status, "INTERVAL", 0.0)
        assert await get(session, url, one) == 3


@pytest.fixture
async def night(redis_client: Redis) -> None:
    """Exposures of which the last lacks images, a dead letter, a late detector, and a Butler that is away."""
    for seq in range(1, 5):
        await ingest(redis_client, seq)
    names = list(all_detectors("LSSTCam"))
    await ingest(redis_client, 5, *(name for name in names if not name.startswith(("R22", "R33"))))
    await fail(redis_client, 5, "R22_S10")
    await put(redis_client, *(path(5, name) for name in names if name.startswith("R33")), created=PUT, recv_time=PUT)
    await alive(redis_client, Trouble(f"refused {HOSTILE}", time.time() - 130))


@pytest.mark.usefixtures("night")
@pytest.mark.parametrize(("width", "height"), [(375, 812), (1280, 900), (3840, 2160)])
async def test_a_browser_shows_the_night(redis_client: Redis, tmp_path: Path, width: int, height: int) -> None:
    async with serving(redis_client, pathPrefix="/site") as url, browser(tmp_path / "profile") as page:
        await page.open(f"{url}/site", width, height)
        await page.shows("document.querySelectorAll('#plane .d.s-ingested').length == 187")
        assert await page.value("document.querySelectorAll('#plane .d').length") == 205
        assert "Butler unusable for 2 min; 9 images wait." in await page.value("document.body.innerText")
        assert await page.value("document.querySelector('#verdict').dataset.level") == "error"
        assert await page.value("document.querySelectorAll('#plane .d.s-queued.late').length") == 9
        assert await page.value("document.querySelectorAll('#strip button').length") == 5
        assert await page.value("document.documentElement.scrollWidth <= innerWidth"), "nothing is cut off"
        await page.shot(tmp_path / f"status-{width}.png")
        # What others have written is text: it makes no element, and no script runs.
        assert await page.value("document.querySelectorAll('img').length") == 0
        assert await page.value("document.title") == "autoingest"
        assert HOSTILE in await page.value("document.body.innerText")
        # By keyboard: a detector beside the first, and its life.
        await page.value("document.querySelector('#plane .d[data-name=R22_S10]').focus()")
        await page.press("Enter")
        await page.shows("document.querySelector('#detector').innerText.includes('metadata')")
        assert await page.value("decodeURIComponent(location.hash)") == f"#{obs_id(5)}/R22_S10"
        await page.press("ArrowRight")
        assert await page.value("document.activeElement.dataset.name") == "R22_S11"
        await page.value("document.querySelector('#follow').click()")
        await alive(redis_client)
        await page.shows("document.querySelector('#sentence').innerText.includes('9 images wait, the oldest')")
        assert page.complaints == []
    assert (tmp_path / f"status-{width}.png").stat().st_size > 10_000


async def test_a_lost_connection_is_said(redis_client: Redis, tmp_path: Path) -> None:
    await alive(redis_client)
    async with browser(tmp_path / "profile") as page:
        async with serving(redis_client) as url:
            await page.open(f"{url}/", 1280, 900)
            await page.shows("document.querySelector('#sentence')?.innerText == 'All images in.'")
        await page.shows("document.querySelector('#age').innerText.includes('No connection')")
        assert await page.value("document.querySelector('#verdict').dataset.level") == "none"
