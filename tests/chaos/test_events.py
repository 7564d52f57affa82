"""Every exposure is told once, and reaches every reader, whatever is killed or away."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping

import pytest

from autoingest.model.events import Event
from autoingest.queue import keys
from testing.chaos import Chaos
from testing.event_readers import Receiver, listening
from testing.kafka import Kafka, kafka
from testing.s3server import Stored
from testing.shots import BUCKET, Shot
from testing.threads import in_thread
from testing.waiting import wait_for

TOPIC = "lsst.autoingest.events"


@pytest.fixture
def broker() -> Iterator[Kafka]:
    with kafka() as cluster:
        cluster.create(TOPIC, 1)
        yield cluster


@pytest.fixture
def receiver() -> Receiver:
    return Receiver()


@pytest.fixture
def events(chaos: Chaos, broker: Kafka, receiver: Receiver) -> Iterator[Chaos]:
    """A site whose events go to Kafka and to a webhook."""
    with in_thread(receiver.run()) as url:
        chaos.site.events = {
            "kafka": {"bootstrapServers": [broker.bootstrap], "topic": TOPIC},
            "webhooks": [{"name": "hook", "url": url}],
            "deadline": 20.0,
        }
        expect_sensors(chaos)
        yield chaos


def expect_sensors(chaos: Chaos) -> None:
    """Write the lists of expected sensors: of all exposures but the last, which thus expects all of the camera."""
    by_exposure: dict[str, list[Shot]] = {}
    for shot in chaos.shots:
        by_exposure.setdefault(shot.exposure.obs_id, []).append(shot)
    for shots in list(by_exposure.values())[:-1]:
        sensors = {shot.sensor.name: shot.sensor.purpose for shot in shots}
        body = json.dumps({"expectedSensors": sensors}).encode()
        chaos.store.buckets[BUCKET][shots[0].exposure.expected_sensors_key] = Stored(body, "list", time.time())


def told(chaos: Chaos) -> list[str]:
    """Ids of the events in the stream."""
    with chaos.client as client:
        return [Event.of_entry(*entry).id for entry in client.xrange(keys.EVENTS)]


def ids(chaos: Chaos, what: str) -> set[str]:
    """Ids of the first revision of an event, of the exposures that are complete (or incomplete)."""
    exposures = {shot.exposure.exposure_id: None for shot in chaos.shots}
    numbers = Counter(shot.exposure.exposure_id for shot in chaos.shots)
    *listed, last = exposures
    is_whole = numbers[last] == 205
    complete = [*listed, *([last] if is_whole else [])]
    wanted = complete if what == "complete" else [] if is_whole else [last]
    return {f"LSSTCam:{exposure}:{what}:1" for exposure in wanted}


def in_kafka(broker: Kafka) -> list[str]:
    return [json.loads(message.value() or b"")["id"] for message in broker.messages(TOPIC, broker.size(TOPIC))]


def check(chaos: Chaos, readers: Mapping[str, Callable[[], list[str]]]) -> None:
    """Check that each exposure was told once, and that each reader has all that was told and nothing else."""
    wanted = ids(chaos, "complete") | ids(chaos, "incomplete")
    wait_for(lambda: wanted <= set(told(chaos)), f"all are told: {wanted}; {chaos.site.logs()[-3000:]}", 120)
    found = told(chaos)
    assert Counter(found) == Counter(set(found)), "none is told twice"
    assert {name for name in found if ":complete:" in name} == ids(chaos, "complete"), "none is invented"
    assert {name for name in found if ":known:" in name} == {
        f"LSSTCam:{shot.exposure.exposure_id}:known:1" for shot in chaos.shots
    }
    for name, read in readers.items():
        wait_for(lambda read=read: set(found) <= set(read()), f"{name} has all", 180)  # type: ignore[misc]
        assert set(read()) <= set(told(chaos)), f"{name} got nothing else"


@pytest.mark.short
def test_kills_of_every_role_and_of_redis(events: Chaos, broker: Kafka, receiver: Receiver) -> None:
    chaos = events
    members = chaos.start("enqueue", "ingest", "ingest", "idle", "events", "events")
    urls = [member.events_url for member in members if member.roles == "events"]
    with in_thread(listening(urls)) as (one, other):
        chaos.camera.start()
        for number in chaos.moments(len(members) + 4 * chaos.repeat):
            if number < len(members):
                chaos.kill(members[number])
            elif number % 4 == 0:
                chaos.redis.kill()
                chaos.fault("SIGKILL of Redis")
                chaos.redis.start()
            else:
                chaos.kill(chaos.any_ready(members))
        chaos.finish()
        check(
            chaos,
            {
                "the first client": lambda: list(one),
                "the second client": lambda: list(other),
                "the webhook": lambda: [event["id"] for event in receiver.taken],
                "Kafka": lambda: in_kafka(broker),
            },
        )


@pytest.mark.short
def test_readers_away_all_the_time(events: Chaos, broker: Kafka, receiver: Receiver) -> None:
    """Kafka is down and the webhook answers 503 while all exposures come, and the role is killed."""
    chaos = events
    _, role = chaos.start("enqueue,ingest,idle", "events")
    receiver.is_away = True
    broker.down()
    chaos.fault("Kafka away")
    chaos.fault("webhook away")
    chaos.camera.start()
    wait_for(lambda: ids(chaos, "complete") <= set(told(chaos)), "all complete ones are told", 120)
    wait_for(lambda: chaos.log(role).count("events not delivered") >= 2, "both outages are noticed")
    chaos.kill(role)
    chaos.wait_ready(role)
    assert not receiver.taken
    receiver.is_away = False
    broker.up()
    chaos.finish()
    check(
        chaos,
        {"the webhook": lambda: [event["id"] for event in receiver.taken], "Kafka": lambda: in_kafka(broker)},
    )
