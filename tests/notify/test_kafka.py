from __future__ import annotations

import asyncio
import inspect
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import orjson
import pytest
import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.consumer.group_coordinator import CoordinatorGroupRebalance
from aiokafka.errors import CorruptRecordException
from aiokafka.protocol.metadata import MetadataResponse_v1
from aiokafka.record._crecords import default_records

from autoingest.app import metrics
from autoingest.app.config import AdminConfig, Config, Listen
from autoingest.app.daemon import serve
from autoingest.app.secrets import NOTIFICATION_SECRETS
from autoingest.dev import embedded
from autoingest.errors import ConfigurationError
from autoingest.notify import kafka as source
from autoingest.notify import kafka_client, kafka_lag
from autoingest.notify.records import MAX_RECORDS
from autoingest.queue import keys
from autoingest.queue.connection import connect
from autoingest.queue.intake import Intake
from autoingest.roles.enqueue import EnqueueRole
from testing.kafka import Kafka
from testing.messages import body, key, record
from testing.waiting import until

BUCKET = "embargo@rubin-summit"
QUEUE = keys.queue(BUCKET)
TOPIC = "rubin-summit-notification-8"
GROUP = "embargo-butler-enqueue-summit"
UNKNOWN_TOPIC = 3
NOT_AUTHORIZED = 29


def configuration(redis_url: str, kafka: dict[str, Any], listen: Any = None) -> Config:
    return Config.from_dict(
        {
            "buckets": [BUCKET],
            "redis": {"url": redis_url, "socketTimeout": 1},
            "enqueue": {"listen": listen, "hold": 1, "kafka": {"groupId": GROUP, "topics": [TOPIC], **kafka}},
            "ingest": {"repo": "unused"},
        },
        "test",
    )


class Member:
    """A running role that reads from Kafka."""

    def __init__(self, role: EnqueueRole, redis: Any, stop: asyncio.Event, task: asyncio.Task[None]) -> None:
        self.role = role
        self.redis = redis
        self.stop = stop
        self.task = task

    async def queued(self) -> list[str]:
        """Keys on the queue, oldest first."""
        return [path.removeprefix(BUCKET + "/") for path in (await self.redis.lrange(QUEUE, 0, -1))[::-1]]

    async def idle(self) -> None:
        """Wait until all is in Redis and committed."""
        await until(self.role.is_drained)


@asynccontextmanager
async def member(redis_url: str, broker: Kafka, listen: Any = None, **kafka: Any) -> AsyncIterator[Member]:
    config = configuration(redis_url, {"bootstrapServers": [broker.bootstrap], **kafka}, listen)
    client = connect(config.redis)
    role = EnqueueRole(config, client)
    stop = asyncio.Event()
    async with AsyncExitStack() as stack:
        stack.push_async_callback(client.aclose)
        stack.push_async_callback(role.close)
        await role.start()
        task = asyncio.create_task(role.run(stop))
        try:
            yield Member(role, client, stop, task)
        finally:
            stop.set()
            await asyncio.wait_for(task, 60)


def exposures(first: int, number: int) -> list[bytes]:
    """Messages of one record each, no two of the same object."""
    return [body(record(name(n), event_id=f"event {n}", etag=f"e{n}")) for n in range(first, first + number)]


def name(n: int) -> str:
    return key("R22_S11", f"LSSTCam/20251231/MC_O_20251231_{n:06}")


def lag() -> float | None:
    return metrics.REGISTRY.get_sample_value("autoingest_kafka_lag", {"topic": TOPIC})


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look more often than in production; the broker here waits for a session's length whenever a group changes."""
    monkeypatch.setattr(kafka_client, "SESSION", 1.2)
    monkeypatch.setattr(kafka_client, "HEARTBEAT", 0.05)
    monkeypatch.setattr(source, "WATCH", 0.05)
    monkeypatch.setattr(kafka_lag, "ANSWER", 1.0)


async def test_messages_reach_the_queue_once(valkey_url: str, redis_client: Any, broker: Kafka) -> None:
    broker.create(TOPIC, 200)
    broker.send(TOPIC, [*exposures(0, 1000), *exposures(0, 1000)], 200)
    async with member(valkey_url, broker) as reader:
        await reader.idle()
        assert reader.role.unready_reasons() == []
        assert sorted(await reader.queued()) == [name(n) for n in range(1000)]
        assert await redis_client.hget(keys.received(BUCKET), "20251231") == "1000"
        assert broker.committed(GROUP, TOPIC, 200) == [10] * 200
        await until(lambda: _lags(0))
    assert lag() is None


async def test_restart_goes_on_from_the_commit(valkey_url: str, redis_client: Any, broker: Kafka) -> None:
    broker.create(TOPIC, 4)
    broker.send(TOPIC, exposures(0, 20), 4)
    async with member(valkey_url, broker) as reader:
        await reader.idle()
    assert await redis_client.llen(QUEUE) == 20
    await redis_client.flushall()
    broker.send(TOPIC, exposures(20, 20), 4)
    async with member(valkey_url, broker) as reader:
        await reader.idle()
        assert sorted(await reader.queued()) == [name(n) for n in range(20, 40)]


@pytest.mark.parametrize(("reset", "expected"), [("earliest", 10), ("latest", 5)])
async def test_first_start(valkey_url: str, redis_client: Any, broker: Kafka, reset: str, expected: int) -> None:
    broker.create(TOPIC, 1)
    broker.send(TOPIC, exposures(0, 5))
    async with member(valkey_url, broker, autoOffsetReset=reset) as reader:
        await reader.idle()
        broker.send(TOPIC, exposures(5, 5))
        await until(lambda: _holds(reader, expected))
        await reader.idle()
        assert await reader.queued() == [name(n) for n in range(10)][-expected:]


async def _holds(reader: Member, number: int) -> bool:
    return len(await reader.queued()) >= number


async def test_redis_killed_in_the_middle(tmp_path: Path, broker: Kafka, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "MAX_POLL_RECORDS", 50)
    broker.create(TOPIC, 8)
    port = embedded.free_port()
    with ExitStack() as valkey:
        url = valkey.enter_context(embedded.valkey(tmp_path, port=port))
        async with member(url, broker) as reader:
            broker.send(TOPIC, exposures(0, 400), 8)
            await until(lambda: _holds(reader, 1))
            valkey.close()
            with structlog.testing.capture_logs() as logs:
                broker.send(TOPIC, exposures(400, 400), 8)
                await until(lambda: _lags_at_least(400))
                # Longer than a session: who is taken for dead loses the partitions.
                await asyncio.sleep(1.5 * kafka_client.SESSION)
                assert sum(offset or 0 for offset in broker.committed(GROUP, TOPIC, 8)) <= 400
                valkey.enter_context(embedded.valkey(tmp_path, port=port))
                await reader.idle()
            assert "kafka partitions assigned" not in [entry["event"] for entry in logs]
            assert "kafka away" not in [entry["event"] for entry in logs]
            assert sorted(await reader.queued()) == [name(n) for n in range(800)]
            assert await reader.redis.hget(keys.received(BUCKET), "20251231") == "800"
            assert broker.committed(GROUP, TOPIC, 8) == [100] * 8


async def _lags(number: int) -> bool:
    return lag() == number


async def _lags_at_least(number: int) -> bool:
    return (lag() or 0) >= number


async def test_bad_messages_are_rejected_and_committed(valkey_url: str, redis_client: Any, broker: Kafka) -> None:
    broker.create(TOPIC, 1)
    bad = [b"", None, b"{", b"[]", b'{"Records": 5}', b"\xff\xfe", b"[" * 100_000]
    broker.send(TOPIC, [*bad, body(5, record(name(1)), record("x.fits")), body(), *exposures(2, 1)])
    async with member(valkey_url, broker) as reader:
        await reader.idle()
        assert await reader.queued() == [name(1), name(2)]
        assert broker.committed(GROUP, TOPIC) == [len(bad) + 3]
    rejected = await redis_client.hgetall(keys.rejected("-"))
    assert sorted(rejected) == ["-", *(f"{TOPIC}/0/{offset}" for offset in range(len(bad)))]
    assert orjson.loads(rejected[f"{TOPIC}/0/3"])["reason"] == "message has no list of Records"
    assert await redis_client.hkeys(keys.rejected(BUCKET)) == ["x.fits"]


async def test_messages_beyond_the_limits_are_rejected_and_committed(
    valkey_url: str, redis_client: Any, broker: Kafka
) -> None:
    """Also such that take long to read."""
    broker.create(TOPIC, 1)
    beyond = [
        body(*[record(name(1))] * (MAX_RECORDS + 1)),
        b'{"Records":[' + b"[]," * 150_000 + b"[]]}",
    ]
    broker.send(TOPIC, [*beyond, *exposures(2, 1)])
    async with member(valkey_url, broker) as reader:
        await reader.idle()
        assert await reader.queued() == [name(2)]
        assert broker.committed(GROUP, TOPIC) == [len(beyond) + 1]
    rejected = await redis_client.hgetall(keys.rejected("-"))
    assert {orjson.loads(item)["reason"] for item in rejected.values()} == {
        "message has 1001 records, more than 1000",
        "message has more than 100000 values",
    }


async def _committed(broker: Kafka, number: int) -> bool:
    return sum(offset or 0 for offset in await asyncio.to_thread(broker.committed, GROUP, TOPIC, 3)) == number


@pytest.mark.parametrize("compression", ["gzip", "snappy", "lz4", "zstd"])
async def test_compressed_messages(valkey_url: str, redis_client: Any, broker: Kafka, compression: str) -> None:
    broker.create(TOPIC, 1)
    broker.send(TOPIC, exposures(0, 50), compression=compression)
    async with member(valkey_url, broker) as reader:
        await reader.idle()
        assert await reader.queued() == [name(n) for n in range(50)]


async def garble(broker: Kafka, topic: str, good: bytes, monkeypatch: pytest.MonkeyPatch, partition: int = 0) -> None:
    """Append a message, and behind it one that says that it is compressed and is not."""
    async with AIOKafkaProducer(bootstrap_servers=broker.bootstrap) as producer:
        await producer.send_and_wait(topic, good, partition=partition)
    with monkeypatch.context() as patch:
        patch.setattr(default_records, "snappy_encode", lambda data: b"garbage" * 20)
        async with AIOKafkaProducer(bootstrap_servers=broker.bootstrap, compression_type="snappy") as producer:
            await producer.send_and_wait(topic, bytes(2000), partition=partition)


async def test_partition_that_cannot_be_read_is_nothing_to_the_others(
    valkey_url: str, redis_client: Any, broker: Kafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "ASIDE", 2.0)
    topics = [TOPIC, "bad"]
    broker.create(TOPIC, 3)
    broker.create("bad", 1)
    broker.send(TOPIC, exposures(0, 30), 3)
    [good] = exposures(30, 1)
    await garble(broker, "bad", good, monkeypatch)
    with structlog.testing.capture_logs() as logs:
        async with member(valkey_url, broker, topics=topics) as reader:
            await until(lambda: _holds(reader, 31))
            for first in range(100, 200, 10):
                broker.send(TOPIC, exposures(first, 10), 3)
                await until(lambda first=first: _holds(reader, first - 59))  # type: ignore[misc]
            assert [text.partition(":")[0] for text in reader.role.unready_reasons()] == [
                "topic bad partition 0 can't be read"
            ]
            await until(lambda: _logged(logs, "kafka partition can't be read"))
            await until(lambda: _committed(broker, 130))
            assert broker.committed(GROUP, "bad") == [1]
    assert [entry["event"] for entry in logs].count("kafka partition can't be read") == 1
    assert [entry["event"] for entry in logs].count("kafka away") <= 1


async def test_partition_that_can_be_read_again_is_reported_no_more(
    valkey_url: str, redis_client: Any, broker: Kafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even while nothing new comes in it."""
    monkeypatch.setattr(source, "ASIDE", 0.3)
    broker.create(TOPIC, 1)
    getmany = AIOKafkaConsumer.getmany

    async def failing(self: AIOKafkaConsumer, *partitions: Any, **limits: Any) -> Any:
        raise CorruptRecordException("the batch can't be decoded")

    async with member(valkey_url, broker) as reader:
        await until(lambda: _says(reader, []))
        monkeypatch.setattr(AIOKafkaConsumer, "getmany", failing)
        await until(lambda: _begins(reader, f"topic {TOPIC} partition 0 can't be read"))
        monkeypatch.setattr(AIOKafkaConsumer, "getmany", getmany)
        await until(lambda: _says(reader, []))


async def test_topic_without_authorization_is_nothing_to_the_others(
    valkey_url: str, redis_client: Any, broker: Kafka
) -> None:
    broker.create(TOPIC, 1)
    broker.create("secret", 1)
    broker.refuse("secret", NOT_AUTHORIZED)
    broker.send(TOPIC, exposures(0, 5))
    async with member(valkey_url, broker, topics=[TOPIC, "secret"]) as reader:
        await until(lambda: _holds(reader, 5))
        await until(lambda: _says(reader, ["topic secret may not be read: no authorization"]))


@pytest.fixture
def patient_leader(monkeypatch: pytest.MonkeyPatch) -> None:
    """The broker here, unlike a real one, refuses members that ask for their partitions after the leader's answer."""
    answer = CoordinatorGroupRebalance._on_join_leader

    async def later(self: Any, response: Any) -> Any:
        await asyncio.sleep(0.1)
        return await answer(self, response)

    monkeypatch.setattr(CoordinatorGroupRebalance, "_on_join_leader", later)


@pytest.mark.usefixtures("patient_leader")
async def test_only_the_member_that_has_a_bad_partition_reports_it(
    valkey_url: str, redis_client: Any, broker: Kafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker.create("bad", 2)
    for number in range(2):
        await garble(broker, "bad", exposures(number, 1)[0], monkeypatch, number)

    async def report(*numbers: int) -> bool:
        """Tell whether the members report so many partitions, and together both."""
        reported = [{text.partition(":")[0] for text in one.role.unready_reasons()} for one in members]
        both = {f"topic bad partition {number} can't be read" for number in range(2)}
        return [len(texts) for texts in reported] == list(numbers) and set().union(*reported) == both

    async with member(valkey_url, broker, topics=["bad"]) as first:
        members = [first]
        await until(lambda: report(2))
        async with member(valkey_url, broker, topics=["bad"]) as second:
            members.append(second)
            await until(lambda: report(1, 1))


@pytest.mark.usefixtures("patient_leader")
async def test_members_share_the_partitions(valkey_url: str, redis_client: Any, broker: Kafka) -> None:
    broker.create(TOPIC, 6)
    with structlog.testing.capture_logs() as logs:
        async with member(valkey_url, broker) as first:
            broker.send(TOPIC, exposures(0, 300), 6)
            await until(lambda: _holds(first, 1))
            async with member(valkey_url, broker) as second:
                broker.send(TOPIC, exposures(300, 300), 6)
                await until(lambda: _assigned(logs, [3, 3]))
                broker.send(TOPIC, exposures(600, 300), 6)
                await first.idle()
                await second.idle()
                assert broker.committed(GROUP, TOPIC, 6) == [150] * 6
                broker.send(TOPIC, exposures(900, 300), 6)
            await until(lambda: _assigned(logs, [6]))
            broker.send(TOPIC, exposures(1200, 300), 6)
            await first.idle()
            assert broker.committed(GROUP, TOPIC, 6) == [250] * 6
            assert sorted(await first.queued()) == [name(n) for n in range(1500)]
            assert await redis_client.hget(keys.received(BUCKET), "20251231") == "1500"


async def _assigned(logs: list[Any], last: list[int]) -> bool:
    """Whether the latest assignments were of these numbers of partitions."""
    numbers = [entry["partitions"] for entry in logs if entry["event"] == "kafka partitions assigned"]
    return len(numbers) > len(last) and numbers[-len(last) :] == last


async def test_both_sources_make_one_entry(valkey_url: str, redis_client: Any, broker: Kafka) -> None:
    broker.create(TOPIC, 1)
    messages = exposures(0, 50)
    async with member(valkey_url, broker, listen={"host": "127.0.0.1", "port": 0}) as reader:
        broker.send(TOPIC, messages)
        async with aiohttp.ClientSession() as http:
            url = f"http://127.0.0.1:{reader.role.port}/notify"
            answers = [http.post(url, data=message) for message in messages]
            assert {(await answer).status for answer in answers} == {200}
        await reader.idle()
        assert sorted(await reader.queued()) == [name(n) for n in range(50)]
        assert await redis_client.hget(keys.received(BUCKET), "20251231") == "50"


async def test_services_beside_ours_are_told(valkey_url: str, redis_client: Any, broker: Kafka) -> None:
    broker.create(TOPIC, 1)
    broker.send(TOPIC, exposures(0, 2))
    # The other service has put this mark and gone before it queued the file.
    left = f"ENQ:{BUCKET}/{name(0)}"
    await redis_client.set(left, "1", ex=100)
    async with member(valkey_url, broker) as reader:
        await reader.idle()
        assert await reader.queued() == [name(0), name(1)]
    assert await redis_client.ttl(left) <= 100
    ours = f"ENQ:{BUCKET}/{name(1)}"
    assert await redis_client.get(ours) == "1"
    assert 86300 < await redis_client.ttl(ours) <= 86400


async def test_broker_away(valkey_url: str, redis_client: Any, broker: Kafka) -> None:
    broker.create(TOPIC, 2)
    async with member(valkey_url, broker) as reader:
        broker.send(TOPIC, exposures(0, 2), 2)
        await reader.idle()
        broker.down()
        await until(lambda: _says(reader, ["Kafka does not answer"]))
        assert lag() is None
        assert not reader.task.done()
        assert not await reader.role.is_drained()
        broker.up()
        await until(lambda: _says(reader, []))
        broker.send(TOPIC, exposures(2, 2), 2)
        await reader.idle()
        assert sorted(await reader.queued()) == [name(n) for n in range(4)]


async def test_broker_away_at_the_start(valkey_url: str, redis_client: Any, broker: Kafka) -> None:
    broker.create(TOPIC, 1)
    broker.send(TOPIC, exposures(0, 1))
    broker.down()
    async with member(valkey_url, broker) as reader:
        await until(lambda: _begins(reader, "Kafka can't be read: KafkaConnectionError"))
        broker.up()
        await reader.idle()
        assert await reader.queued() == [name(0)]


async def _says(reader: Member, missing: list[str]) -> bool:
    return reader.role.unready_reasons() == missing


async def _begins(reader: Member, missing: str) -> bool:
    return any(text.startswith(missing) for text in reader.role.unready_reasons())


async def test_failure_goes_back(
    valkey_url: str, redis_client: Any, broker: Kafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    accept, calls, taken = Intake.accept, 0, 0
    committed, expected = [], []

    async def failing(self: Intake, notices: Any, **kwargs: Any) -> Any:
        nonlocal calls, taken
        calls += 1
        committed.append(broker.committed(GROUP, TOPIC))
        expected.append([taken or None])
        if calls in (2, 3):
            raise ValueError("no reason")
        taken += len(notices)
        return await accept(self, notices, **kwargs)

    monkeypatch.setattr(Intake, "accept", failing)
    monkeypatch.setattr(source, "MAX_POLL_RECORDS", 10)
    broker.create(TOPIC, 1)
    broker.send(TOPIC, exposures(0, 30))
    async with member(valkey_url, broker) as reader:
        await reader.idle()
        assert await reader.queued() == [name(n) for n in range(30)]
    assert committed == expected
    assert (taken, broker.committed(GROUP, TOPIC)) == (30, [30])


async def test_stop_while_redis_is_away(tmp_path: Path, broker: Kafka) -> None:
    broker.create(TOPIC, 1)
    broker.send(TOPIC, exposures(0, 3))
    port = embedded.free_port()
    with structlog.testing.capture_logs() as logs:
        async with member(f"redis://127.0.0.1:{port}/0", broker) as reader:
            await until(lambda: _logged(logs, "redis away"))
            await until(lambda: _lags(3))
            reader.stop.set()
            await asyncio.wait_for(reader.task, 60)
    assert broker.committed(GROUP, TOPIC) == [None]
    with embedded.valkey(tmp_path, port=port) as url:
        async with member(url, broker) as reader:
            await reader.idle()
            assert await reader.queued() == [name(n) for n in range(3)]


@pytest.mark.usefixtures("patient_leader")
async def test_partitions_move_while_redis_is_away(
    tmp_path: Path, broker: Kafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "HAND_OVER", 0.2)
    broker.create(TOPIC, 4)
    broker.send(TOPIC, exposures(0, 100), 4)
    port = embedded.free_port()
    url = f"redis://127.0.0.1:{port}/0"
    with structlog.testing.capture_logs() as logs:
        async with member(url, broker) as first:
            await until(lambda: _logged(logs, "redis away"))
            async with member(url, broker) as second:
                await until(lambda: _logged(logs, "partitions lost, unfinished messages dropped"))
                await until(lambda: _assigned(logs, [2, 2]))
                assert broker.committed(GROUP, TOPIC, 4) == [None] * 4
                with embedded.valkey(tmp_path, port=port):
                    await first.idle()
                    await second.idle()
                    assert sorted(await first.queued()) == [name(n) for n in range(100)]
                    assert broker.committed(GROUP, TOPIC, 4) == [25] * 4


async def _logged(logs: list[Any], event: str) -> bool:
    return any(entry["event"] == event for entry in logs)


async def test_topic_that_does_not_exist_holds_up_no_other(valkey_url: str, redis_client: Any, broker: Kafka) -> None:
    broker.create(TOPIC, 1)
    broker.create("next", 1)
    broker.refuse("next", UNKNOWN_TOPIC)
    broker.send(TOPIC, exposures(0, 1))
    async with member(valkey_url, broker, topics=["next", TOPIC]) as reader:
        await until(lambda: _holds(reader, 1))
        await until(lambda: _says(reader, ["topic next does not exist"]))
        assert not await reader.role.is_drained()


async def test_secret_is_checked_where_asked(
    valkey_url: str, redis_client: Any, broker: Kafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(NOTIFICATION_SECRETS, "the-secret")
    broker.create(TOPIC, 1)
    broker.send(TOPIC, [body(record(name(1))), body(record(name(2), secret="the-secret"))])
    async with member(valkey_url, broker, checkSecret=True) as reader:
        await reader.idle()
        assert await reader.queued() == [name(2)]
    monkeypatch.delenv(NOTIFICATION_SECRETS)
    with pytest.raises(ConfigurationError, match=r"checkSecret needs AUTOINGEST_NOTIFICATION_SECRETS"):
        async with member(valkey_url, broker, checkSecret=True):
            pass


async def test_once_ends_when_all_is_read(valkey_url: str, redis_client: Any, broker: Kafka) -> None:
    broker.create(TOPIC, 3)
    broker.send(TOPIC, exposures(0, 30), 3)
    config = configuration(valkey_url, {"bootstrapServers": [broker.bootstrap]})
    config = config.model_copy(update={"admin": AdminConfig(listen=Listen(host="127.0.0.1", port=0))})
    async with asyncio.timeout(60):
        assert await serve(config, ["enqueue"], asyncio.Event(), once=True) == 0
    assert await redis_client.llen(QUEUE) == 30


def test_kafka_is_not_imported_without_need() -> None:
    code = "import sys, autoingest.roles.enqueue; sys.exit('aiokafka' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


async def test_fetched_while_the_brokers_are_asked() -> None:
    """Messages that are fetched during the measurement, and are not in Redis yet, lag."""
    partition = TopicPartition(TOPIC, 0)
    hand: dict[TopicPartition, list[Any]] = {}

    class Consumer:
        async def end_offsets(self, partitions: Any) -> dict[TopicPartition, int]:
            hand[partition] = [SimpleNamespace(offset=4)]
            return {partition: 6}

        async def position(self, partition: TopicPartition) -> int:
            return 6

        def assignment(self) -> set[TopicPartition]:
            return {partition}

        def partitions_for_topic(self, topic: str) -> set[int]:
            return {0}

    assert await kafka_lag.measure(Consumer(), [TOPIC], lambda: hand) == {TOPIC: 2}


async def test_refused_topics_are_kept_where_kafka_lag_looks_for_them() -> None:
    """A contract with the inside of aiokafka: no public call says why a topic is not shown."""
    consumer = SimpleNamespace(_client=AIOKafkaClient(), partitions_for_topic=lambda topic: None)
    consumer._client.cluster.update_metadata(
        MetadataResponse_v1(
            brokers=[(0, "localhost", 9092, None)], controller_id=0, topics=[(NOT_AUTHORIZED, "secret", False, [])]
        )
    )
    assert kafka_lag.unknown(consumer, ["secret", "none"]) == {
        "secret": "topic secret may not be read: no authorization",
        "none": "topic none does not exist",
    }
    assert "self._client = AIOKafkaClient(" in inspect.getsource(AIOKafkaConsumer.__init__)
