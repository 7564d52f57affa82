"""A Kafka of librdkafka's own: real protocol over TCP, groups and commits, all in memory; no TLS and no SASL.

Python's wheel of librdkafka starts it for a single client and offers no more, so this goes to the library itself.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from .requirements import missing

PRODUCER = 0
QUIET = {"log_level": 0, "log.connection.close": False}

try:
    import confluent_kafka
except ImportError:
    confluent_kafka = None  # type: ignore[assignment]


@functools.cache
def _library() -> ctypes.CDLL:
    if confluent_kafka is None:
        missing("kafka", "pip install 'autoingest[test]'")
    folder = Path(confluent_kafka.__file__).parent
    for file in (*folder.parent.glob("confluent_kafka.libs/librdkafka*"), *folder.glob(".dylibs/librdkafka*")):
        library = ctypes.CDLL(str(file))
        for name in ("rd_kafka_conf_new", "rd_kafka_new", "rd_kafka_mock_cluster_new"):
            getattr(library, name).restype = ctypes.c_void_p
        library.rd_kafka_mock_cluster_bootstraps.restype = ctypes.c_char_p
        return library
    missing("kafka", f"no librdkafka near {folder}")


class Kafka:
    """A running cluster of one broker."""

    def __init__(self, library: ctypes.CDLL, cluster: int) -> None:
        self._library = library
        self._cluster = ctypes.c_void_p(cluster)
        self.bootstrap: str = library.rd_kafka_mock_cluster_bootstraps(self._cluster).decode()
        self._settings = {"bootstrap.servers": self.bootstrap, **QUIET}
        self._producer = confluent_kafka.Producer(self._settings)

    def create(self, topic: str, partitions: int) -> None:
        assert not self._library.rd_kafka_mock_topic_create(self._cluster, topic.encode(), partitions, 1)

    def send(
        self, topic: str, messages: Iterable[bytes | None], partitions: int = 1, compression: str = "none"
    ) -> None:
        """Append messages, to the partitions in turn."""
        producer = self._producer
        if compression != "none":
            producer = confluent_kafka.Producer({**self._settings, "compression.type": compression, "linger.ms": 100})
        for number, message in enumerate(messages):
            producer.produce(topic, message, partition=number % partitions)
        assert producer.flush(60) == 0

    def messages(self, topic: str, number: int) -> list[confluent_kafka.Message]:
        """Return the first messages of a topic's first partition, once there are so many."""
        consumer = confluent_kafka.Consumer({**self._settings, "group.id": "test"})
        consumer.assign([confluent_kafka.TopicPartition(topic, 0, 0)])
        try:
            found: list[confluent_kafka.Message] = []
            while len(found) < number:
                message = consumer.poll(60)
                assert message is not None
                assert message.error() is None
                found.append(message)
            return found
        finally:
            consumer.close()

    def size(self, topic: str) -> int:
        """Return the number of messages of a topic's first partition."""
        consumer = confluent_kafka.Consumer({**self._settings, "group.id": "test"})
        try:
            _, number = consumer.get_watermark_offsets(confluent_kafka.TopicPartition(topic, 0), timeout=60)
            return int(number)
        finally:
            consumer.close()

    def committed(self, group: str, topic: str, partitions: int = 1) -> list[int | None]:
        """Committed offset of each partition."""
        consumer = confluent_kafka.Consumer({**self._settings, "group.id": group})
        try:
            asked = [confluent_kafka.TopicPartition(topic, number) for number in range(partitions)]
            return [found.offset if found.offset >= 0 else None for found in consumer.committed(asked, timeout=10)]
        finally:
            consumer.close()

    def refuse(self, topic: str, error: int) -> None:
        """Answer questions about a topic by an error of the protocol; 0 for none."""
        self._library.rd_kafka_mock_topic_set_error(self._cluster, topic.encode(), error)

    def advertise(self, port: int) -> None:
        """Tell clients to come to another port of the loopback interface."""
        assert not self._library.rd_kafka_mock_broker_set_host_port(self._cluster, 1, b"127.0.0.1", port)

    def down(self) -> None:
        """Break all connections, and take no new ones."""
        assert not self._library.rd_kafka_mock_broker_set_down(self._cluster, 1)

    def up(self) -> None:
        assert not self._library.rd_kafka_mock_broker_set_up(self._cluster, 1)


@contextmanager
def kafka() -> Iterator[Kafka]:
    """Run a cluster until the context ends."""
    library = _library()
    error = ctypes.create_string_buffer(512)
    settings = ctypes.c_void_p(library.rd_kafka_conf_new())
    library.rd_kafka_conf_set(settings, b"log_level", b"0", error, len(error))
    handle = library.rd_kafka_new(PRODUCER, settings, error, len(error))
    assert handle, error.value
    cluster = library.rd_kafka_mock_cluster_new(ctypes.c_void_p(handle), 1)
    assert cluster
    # A real broker waits for more members of an empty group; here that only takes time.
    library.rd_kafka_mock_group_initial_rebalance_delay_ms(ctypes.c_void_p(cluster), 0)
    try:
        yield Kafka(library, cluster)
    finally:
        library.rd_kafka_mock_cluster_destroy(ctypes.c_void_p(cluster))
        library.rd_kafka_destroy(ctypes.c_void_p(handle))
