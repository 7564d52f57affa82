"""Events reach Kafka and webhooks at least once, in order, whatever is away."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from redis.asyncio import Redis

from autoingest.app.config import EventsConfig
from autoingest.app.secrets import WEBHOOK_SECRETS
from autoingest.queue import delivery, keys
from autoingest.queue.delivery import Delivery, undelivered
from autoingest.queue.event_stream import EventStream
from autoingest.roles import event_publishers as module
from autoingest.roles.event_publishers import Publishers
from testing.event_readers import Receiver
from testing.kafka import kafka
from testing.waiting import until


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LONGEST_PAUSE", 0.1)
    monkeypatch.setattr(module, "STANDBY", 0.1)


@asynccontextmanager
async def publishing(client: Redis, events: dict[str, object]) -> AsyncIterator[Publishers]:
    config = EventsConfig.model_validate({"source": "/autoingest/test", **events})
    streams = (EventStream(client, keys.EVENTS), EventStream(client, keys.FILE_EVENTS))
    publishers, stop = Publishers(config, client, streams), asyncio.Event()
    tasks = [asyncio.create_task(each.run(stop)) for each in (*streams, publishers)]

    async def began() -> bool:
        return len(await client.keys("POSITION:*")) == len(publishers._publishers)

    await until(began)
    try:
        yield publishers
    finally:
        stop.set()
        await asyncio.gather(*tasks)


async def tell(client: Redis, number: int, kind: str = "exposure.complete", stream: str = keys.EVENTS) -> None:
    fields: dict[Any, Any] = {
        "id": f"LSSTCam:{number}:{kind}", "type": kind, "subject": f"LSSTCam/{number}", "time": "1000.5",
        "data": json.dumps({"number": number}),
    }  # fmt: skip
    await client.xadd(stream, fields)


def hook(url: str, name: str = "a", **fields: object) -> dict[str, object]:
    return {"webhooks": [{"name": name, "url": url, "attempts": 2, **fields}]}


async def test_a_webhook_gets_what_it_asks_for_in_order(redis_client: Redis) -> None:
    receiver = Receiver()
    await tell(redis_client, 0)  # before it was configured
    types = ["exposure.complete", "file.failed"]
    async with receiver.run() as url, publishing(redis_client, hook(url, types=types)):
        await tell(redis_client, 1)
        await tell(redis_client, 2, "exposure.known")
        await tell(redis_client, 3)
        await tell(redis_client, 4, "file.ingested", keys.FILE_EVENTS)
        await tell(redis_client, 5, "file.failed", keys.FILE_EVENTS)
        await receiver.has(1, 3, 5)
        assert sorted(receiver.numbers) == [1, 3, 5]
        assert [number for number in receiver.numbers if number < 5] == [1, 3]
    headers, body = receiver.requests[0]
    assert headers["Content-Type"] == "application/cloudevents+json"
    assert "webhook-signature" not in headers
    assert json.loads(body)["source"] == "/autoingest/test"


async def test_messages_are_signed_with_each_secret(redis_client: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(WEBHOOK_SECRETS, "old new")
    receiver = Receiver()
    async with receiver.run() as url, publishing(redis_client, hook(url)):
        await tell(redis_client, 1)
        await receiver.has(1)
    headers, body = receiver.requests[0]
    assert headers["webhook-id"] == "LSSTCam:1:exposure.complete"
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    assert headers["webhook-signature"].split() == [
        "v1," + base64.b64encode(hmac.digest(secret, signed, hashlib.sha256)).decode() for secret in (b"old", b"new")
    ]


async def test_an_outage_of_the_receiver_delays_and_loses_nothing(redis_client: Redis) -> None:
    receiver = Receiver()
    receiver.statuses = [500, 503, 429, 302, 408]
    async with receiver.run() as url, publishing(redis_client, hook(url)):
        for number in range(5):
            await tell(redis_client, number)
        await receiver.has(*range(5))
    async with publishing(redis_client, hook(url)):  # nobody listens
        await tell(redis_client, 5)
        async with receiver.run(receiver.port):
            await receiver.has(5)
    assert receiver.numbers == list(range(6))
    assert await undelivered(redis_client, "a") == []


async def test_what_is_refused_is_kept_and_the_rest_goes_on(redis_client: Redis) -> None:
    receiver = Receiver()
    receiver.statuses = [400, 400]
    async with receiver.run() as url, publishing(redis_client, hook(url)):
        for number in range(3):
            await tell(redis_client, number)
        await receiver.has(1, 2)
    [kept] = await undelivered(redis_client, "a")
    assert (kept.id, kept.error) == ("LSSTCam:0:exposure.complete", "the receiver answers 400")
    assert kept.event["data"] == {"number": 0}


async def test_refused_events_are_bounded(redis_client: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "MAX_UNDELIVERED", 3)
    receiver = Receiver()
    receiver.statuses = [400] * 20
    async with receiver.run() as url, publishing(redis_client, hook(url, attempts=1)):
        for number in range(21):
            await tell(redis_client, number)
        await receiver.has(20)
    assert len(await undelivered(redis_client, "a")) == 3


async def test_one_process_delivers_and_another_takes_over(redis_client: Redis) -> None:
    receiver = Receiver()
    async with receiver.run() as url:
        async with publishing(redis_client, hook(url)), publishing(redis_client, hook(url)):
            for number in range(20):
                await tell(redis_client, number)
            await receiver.has(*range(20))
        assert Counter(receiver.numbers) == Counter(range(20))
        # A process that was killed holds it until its time is over.
        await Delivery(redis_client, "a", keys.EVENTS).hold()
        async with publishing(redis_client, hook(url)):
            await tell(redis_client, 20)
            await redis_client.pexpire(keys.publisher("a", keys.EVENTS), 1)
            await receiver.has(20)
        assert Counter(receiver.numbers) == Counter(range(21))


async def test_a_process_that_lost_its_turn_moves_nothing(redis_client: Redis) -> None:
    first, second = Delivery(redis_client, "a", keys.EVENTS), Delivery(redis_client, "a", keys.EVENTS)
    assert await first.hold() == ""
    assert await second.hold() is None
    assert await first.moved("5-0")
    await redis_client.delete(keys.publisher("a", keys.EVENTS))
    assert await second.hold() == "5-0"
    assert not await first.moved("4-0")
    await first.release()
    assert await second.moved("6-0")
    assert await redis_client.get(keys.position("a", keys.EVENTS)) == "6-0"


async def test_a_gap_is_told(redis_client: Redis) -> None:
    receiver = Receiver()
    async with receiver.run() as url:
        async with publishing(redis_client, hook(url)):
            await tell(redis_client, 0)
            await receiver.has(0)
        for number in range(1, 6):
            await tell(redis_client, number)
        await redis_client.xtrim(keys.EVENTS, maxlen=2, approximate=False)
        async with publishing(redis_client, hook(url)):
            await receiver.has(4, 5)
    assert [event["type"].rpartition(".")[2] for event in receiver.taken] == ["complete", "gap", "complete", "complete"]


async def test_an_event_at_which_the_receiver_fails_keeps_only_itself_out(redis_client: Redis) -> None:
    receiver = Receiver()
    receiver.poison = "LSSTCam:1:exposure.complete"
    async with receiver.run() as url, publishing(redis_client, hook(url)):
        for number in range(4):
            await tell(redis_client, number)
        await receiver.has(0, 2, 3)

        async def is_kept() -> bool:
            return bool(await undelivered(redis_client, "a"))

        await until(is_kept)
    [kept] = await undelivered(redis_client, "a")
    assert (kept.id, kept.error) == (receiver.poison, "the receiver answers 500")
    assert set(receiver.numbers) == {0, 2, 3}


async def test_an_outage_in_which_the_receiver_answers_refuses_nothing(redis_client: Redis) -> None:
    receiver = Receiver()
    receiver.is_away = True
    async with receiver.run() as url, publishing(redis_client, hook(url)):
        for number in range(3):
            await tell(redis_client, number)
        await until(lambda: len(receiver.requests) >= 3 * module.TRIES)
        receiver.is_away = False
        await receiver.has(0, 1, 2)
    assert await undelivered(redis_client, "a") == []


async def test_a_receiver_that_is_away_delays_no_other(redis_client: Redis) -> None:
    receiver = Receiver()
    async with receiver.run() as url:
        webhooks = [{"name": "away", "url": "http://127.0.0.1:1/"}, {"name": "there", "url": url}]
        async with publishing(redis_client, {"webhooks": webhooks}) as publishers:
            for number in range(5):
                await tell(redis_client, number)
            await receiver.has(*range(5))
            await until(lambda: [name for name, why in publishers.troubles().items() if why] == ["away"])
            assert set(publishers.troubles()) == {"away", "there"}


async def test_kafka_gets_every_event(redis_client: Redis) -> None:
    with kafka() as cluster:
        cluster.create("lsst.autoingest.events", 1)
        settings: dict[str, object] = {"kafka": {"bootstrapServers": [cluster.bootstrap]}}
        async with publishing(redis_client, settings):
            for number in range(3):
                await tell(redis_client, number)
            messages = await asyncio.to_thread(cluster.messages, "lsst.autoingest.events", 3)
            cluster.down()
            for number in range(3, 6):
                await tell(redis_client, number)
            cluster.up()
            position: Any = await redis_client.xrevrange(keys.EVENTS, count=1)

            async def delivered() -> bool:
                return bool(await redis_client.get(keys.position("kafka", keys.EVENTS)) == position[0][0])

            await until(delivered)
        numbers = [
            json.loads(message.value() or b"")["data"]["number"]
            for message in await asyncio.to_thread(cluster.messages, "lsst.autoingest.events", 6)
        ]
    assert set(numbers) == set(range(6))
    assert messages[0].key() == b"LSSTCam/0"
    assert messages[0].headers() == [("content-type", b"application/cloudevents+json")]
    assert json.loads(messages[0].value() or b"")["type"] == "org.rubinobs.autoingest.exposure.complete"
