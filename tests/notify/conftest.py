from __future__ import annotations

from collections.abc import Iterator

import pytest

from testing.kafka import Kafka, kafka


@pytest.fixture
def broker() -> Iterator[Kafka]:
    """A Kafka broker without topics."""
    with kafka() as running:
        yield running
