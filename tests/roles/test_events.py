"""The role events: streams, positions, gaps, and the state of exposures."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any, cast

import aiohttp
import pytest
from redis.asyncio import Redis

from autoingest.app import metrics
from autoingest.app.config import Config
from autoingest.app.secrets import READ_TOKEN
from autoingest.client import AsyncEventsClient, EventsClient, EventsError, ReceivedEvent
from autoingest.http import sse
from autoingest.queue import event_stream, keys
from autoingest.roles import events as module
from autoingest.roles.events import EventsRole
from testing.waiting import until

BUCKET = "embargo@rubin-summit"
OBS_ID = "MC_O_20250415_000001"


def config(**events: object) -> Config:
    listen = {"listen": {"host": "127.0.0.1", "port": 0}, "unauthenticated": True, "source": "/autoingest/test"}
    return Config.from_dict(
        {"buckets": ["lfa", BUCKET], "ingest": {"repo": "/nowhere"}, "events": listen | events}, "x"
    )


@asynccontextmanager
async def serving(client: Redis, **events: object) -> AsyncIterator[EventsRole]:
    role, stop = EventsRole(config(**events), client), asyncio.Event()
    role._watch.run = _nothing  # type: ignore[method-assign]
    await role.start()
    running = asyncio.create_task(role.run(stop))
    try:
        yield role
    finally:
        stop.set()
        await role.close()
        await running


async def _nothing(stop: asyncio.Event) -> None:
    await stop.wait()


def url(role: EventsRole) -> str:
    return f"http://127.0.0.1:{role.port}"


async def tell(
    client: Redis, number: int, kind: str = "exposure.complete", stream: str = keys.EVENTS, camera: str = "LSSTCam"
) -> str:
    fields: dict[Any, Any] = {
        "id": f"{camera}:{number}:{kind}", "type": kind, "subject": f"{camera}/{OBS_ID}", "time": "1000.5",
        "data": json.dumps({"number": number, "times": {"first_put": 0.5, "last_put": None}}),
    }  # fmt: skip
    return cast(str, await client.xadd(stream, fields))


async def first(events: AsyncIterator[ReceivedEvent], number: int) -> list[ReceivedEvent]:
    async with asyncio.timeout(60):
        return [await anext(events) for _ in range(number)]


async def test_a_client_follows_resumes_and_chooses(redis_client: Redis) -> None:
    await tell(redis_client, 0)
    async with serving(redis_client) as role, AsyncEventsClient(url(role)) as client:
        async with aclosing(client.events(after="0")) as everything:
            [zero] = await first(everything, 1)
            assert zero.id == "LSSTCam:0:exposure.complete"
            assert (zero.type, zero.subject, zero.time) == (
                "exposure.complete", f"LSSTCam/{OBS_ID}", "1970-01-01T00:16:40.500Z",
            )  # fmt: skip
            assert zero.data == {"number": 0, "times": {"first_put": "1970-01-01T00:00:00.500Z", "last_put": None}}
            for number, kind in enumerate(["exposure.known", "visit.defined", "exposure.complete"], 1):
                await tell(redis_client, number, kind)
            assert [event.data["number"] for event in await first(everything, 3)] == [1, 2, 3]
        await tell(redis_client, 4, camera="LATISS")
        async with aclosing(client.events(["exposure.complete"], after=zero.position)) as some:
            assert [event.data["number"] for event in await first(some, 2)] == [3, 4]
        async with aclosing(client.events(instruments=["LATISS"], after=zero.position)) as some:
            assert [event.data["number"] for event in await first(some, 1)] == [4]


async def test_cloud_events_are_sent(redis_client: Redis) -> None:
    await tell(redis_client, 0)
    async with (
        serving(redis_client) as role,
        aiohttp.ClientSession() as session,
        session.get(f"{url(role)}/events?after=0") as response,
    ):
        assert response.headers["Content-Type"] == "text/event-stream"
        lines = [(await response.content.readline()).decode() for _ in range(5)]
    assert lines[:2] == [":\n", "\n"]
    assert lines[3] == "event: exposure.complete\n"
    content = json.loads(lines[4].removeprefix("data: "))
    assert {name: content[name] for name in ("specversion", "source", "type", "datacontenttype")} == {
        "specversion": "1.0", "source": "/autoingest/test", "type": "org.rubinobs.autoingest.exposure.complete",
        "datacontenttype": "application/json",
    }  # fmt: skip


async def test_events_of_files_are_sent_to_those_who_ask_for_them(redis_client: Redis) -> None:
    await tell(redis_client, 1, "file.ingested", keys.FILE_EVENTS)
    await tell(redis_client, 2)
    async with serving(redis_client) as role, AsyncEventsClient(url(role)) as client:
        types = ["file.ingested", "org.rubinobs.autoingest.exposure.complete"]
        async with aclosing(client.events(types, after="0/0")) as both:
            found = await first(both, 2)
            assert {event.type for event in found} == {"file.ingested", "exposure.complete"}
        await tell(redis_client, 3, "file.failed", keys.FILE_EVENTS)
        await tell(redis_client, 4, "file.ingested", keys.FILE_EVENTS)
        async with aclosing(client.events(types, after=found[-1].position)) as both:
            assert [event.data["number"] for event in await first(both, 1)] == [4]


async def test_many_events_reach_a_late_client_in_order(redis_client: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_stream, "AT_ONCE", 7)
    monkeypatch.setattr(event_stream, "REMEMBERED", 10)
    for number in range(50):
        await tell(redis_client, number)
    async with (
        serving(redis_client) as role,
        AsyncEventsClient(url(role)) as client,
        aclosing(client.events(after="0")) as events,
        aclosing(client.events(after="0")) as others,
    ):
        assert [event.data["number"] for event in await first(events, 50)] == list(range(50))
        for number in range(50, 80):
            await tell(redis_client, number)
        assert [event.data["number"] for event in await first(events, 30)] == list(range(50, 80))
        assert [event.data["number"] for event in await first(others, 80)] == list(range(80))


async def test_a_gap_is_told(redis_client: Redis) -> None:
    positions = [await tell(redis_client, number) for number in range(5)]
    await redis_client.xtrim(keys.EVENTS, maxlen=2, approximate=False)
    async with serving(redis_client) as role, AsyncEventsClient(url(role)) as client:
        async with aclosing(client.events(after=positions[0])) as late:
            gap, *rest = await first(late, 3)
            assert (gap.type, gap.data["after"]) == ("gap", positions[0])
            assert [event.data["number"] for event in rest] == [3, 4]
        async with aclosing(client.events(after=positions[3])) as in_time:
            assert [event.type for event in await first(in_time, 1)] == ["exposure.complete"]


async def test_a_stream_that_was_lost_is_told(redis_client: Redis) -> None:
    await tell(redis_client, 0)
    async with serving(redis_client) as role, AsyncEventsClient(url(role)) as client:
        async with aclosing(client.events(after="9999999999999-0")) as ahead:
            assert [event.type for event in await first(ahead, 2)] == ["gap", "exposure.complete"]
        await redis_client.delete(keys.EVENTS)
        async with aclosing(client.events(after="1-0")) as ahead:
            assert [event.type for event in await first(ahead, 1)] == ["gap"]


async def test_silence_is_told_from_death(redis_client: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HEARTBEAT", 0.2)
    monkeypatch.setattr(module, "COMMENT_INTERVAL", 0.1)
    async with (
        serving(redis_client) as role,
        aiohttp.ClientSession() as session,
        session.get(f"{url(role)}/events?type=file.failed&type=exposure.known") as response,
        asyncio.timeout(60),
    ):
        text = ""
        while "heartbeat" not in text or text.count("\n:\n") < 2:
            text += (await response.content.readline()).decode()


async def test_a_client_without_an_event_loop(redis_client: Redis) -> None:
    await tell(redis_client, 1)
    async with serving(redis_client) as role:
        client = EventsClient(url(role))

        def look() -> ReceivedEvent:
            return next(client.events(after="0"))

        assert (await asyncio.to_thread(look)).data["number"] == 1
        assert await asyncio.to_thread(client.exposure, OBS_ID) is None
        assert await asyncio.to_thread(client.exposures, "20250415") == []
        with pytest.raises(EventsError, match="400: 'x' is not an obs_id"):
            await asyncio.to_thread(client.exposure, "x")
    with pytest.raises(EventsError, match="refused"):
        await asyncio.to_thread(client.exposure, OBS_ID)


async def test_a_broken_stream_is_resumed(redis_client: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(redis_client) as role:
        port = role.port
        async with AsyncEventsClient(url(role)) as client, aclosing(client.events(after="0")) as events:
            await tell(redis_client, 1)
            await first(events, 1)
            await role.close()
            await tell(redis_client, 2)
            listen = {"listen": {"host": "127.0.0.1", "port": port}}
            async with serving(redis_client, **listen):
                assert [event.data["number"] for event in await first(events, 1)] == [2]


async def test_exposures_by_name_and_day(redis_client: Redis) -> None:
    names = [OBS_ID, "MC_O_20250415_000002", "AT_O_20250415_000001"]
    for name in names:
        camera = "LATISS" if name.startswith("AT") else "LSSTCam"
        record: dict[Any, Any] = {"since": "1", "instrument": camera, "day_obs": "20250415", "folder": f"b/{name}/"}
        await redis_client.hset(keys.progress(BUCKET, name), mapping=record)
        await redis_client.sadd(keys.progress_of_day(BUCKET, "20250415"), name)
    await redis_client.sadd(keys.progress_of_day(BUCKET, "20250415"), "MC_O_20250415_000003")  # has expired
    position = await tell(redis_client, 1)
    async with serving(redis_client) as role, AsyncEventsClient(url(role)) as client:
        found = await client.exposure(OBS_ID)
        assert found is not None
        assert (found["obs_id"], found["state"], found["expected"]) == (OBS_ID, "incomplete", None)
        assert sorted(item["obs_id"] for item in await client.exposures("2025-04-15")) == sorted(names)
        assert [item["obs_id"] for item in await client.exposures(20250415, ["LATISS"])] == names[2:]
        async with aiohttp.ClientSession() as session, session.get(f"{url(role)}/exposures?day_obs=20250416") as answer:
            assert await answer.json() == {"exposures": [], "position": position}


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/events?type=exposure", "type 'exposure' is none of exposure.known"),
        ("/events?instrument=X", "instrument 'X' is none of"),
        ("/events?kind=x", "'kind' is not a parameter; there are after, instrument, type"),
        ("/events?after=x", "Last-Event-ID (or after) is not the id"),
        ("/events?after=1-0/2-0/3-0", "Last-Event-ID (or after) is not the id"),
        ("/exposures", "day_obs must be an observing day such as 20251231"),
        ("/exposures?day_obs=yesterday", "day_obs must be an observing day such as 20251231"),
        ("/exposures/MC_O_2025_1", "'MC_O_2025_1' is not an obs_id such as"),
    ],
)
async def test_bad_requests_are_told_what_is_wrong(redis_client: Redis, path: str, says: str) -> None:
    async with (
        serving(redis_client) as role,
        aiohttp.ClientSession() as session,
        session.get(url(role) + path) as answer,
    ):
        assert answer.status == 400
        assert (await answer.json())["error"].startswith(says)


async def test_a_token_is_demanded(redis_client: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(READ_TOKEN, "old new")
    await tell(redis_client, 1)
    async with serving(redis_client, unauthenticated=False) as role:
        for token in (None, "wrong"):
            async with AsyncEventsClient(url(role), token) as client:
                with pytest.raises(EventsError, match="401: a bearer token is required"):
                    await client.exposures("20250415")
                with pytest.raises(EventsError, match="401"):
                    await first(client.events(), 1)
        async with AsyncEventsClient(url(role), "new") as client:
            assert await client.exposures("20250415") == []
            async with aclosing(client.events(after="0")) as events:
                await first(events, 1)
    monkeypatch.delenv(READ_TOKEN)
    async with serving(redis_client, unauthenticated=False) as role, AsyncEventsClient(url(role), "") as client:
        with pytest.raises(EventsError, match="401"):
            await client.exposures("20250415")


async def test_a_client_that_does_not_read_is_let_go(redis_client: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "READ_PATIENCE", 0.2)
    for number in range(20_000):
        await tell(redis_client, number)
    async with serving(redis_client) as role:
        reader, writer = await asyncio.open_connection("127.0.0.1", role.port, limit=1024)
        cast(asyncio.ReadTransport, writer.transport).pause_reading()
        writer.write(b"GET /events?after=0 HTTP/1.1\r\nHost: a\r\n\r\n")
        cast(asyncio.ReadTransport, writer.transport).resume_reading()
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        cast(asyncio.ReadTransport, writer.transport).pause_reading()

        async def gone() -> bool:
            return bool(metrics.EVENT_CLIENTS._value.get() == 0)

        await until(gone)
        writer.close()
