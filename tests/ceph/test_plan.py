"""What is done about which difference, without a Ceph."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pydantic import SecretStr

from autoingest.ceph.client import Notification
from autoingest.ceph.desired import Finding, Wanted, next_generation, steps_of
from autoingest.ceph.plan import compare
from autoingest.ceph.schema import CREATED
from autoingest.ceph.spec import Spec
from autoingest.ceph.state import BucketState, State, TopicState

SPEC: dict[str, Any] = {
    "topics": [{"name": "summit", "pushEndpoint": "http://host/notify", "opaqueDataVariable": "V"}],
    "buckets": [{"name": f"owner@{name}", "notifications": [{"topic": "summit"}]} for name in ("one", "two")],
}
HIDDEN = "hidden-word"


def wanted(spec: Mapping[str, Any] = SPEC, **more: Any) -> Wanted:
    loaded = Spec.model_validate(spec)
    return Wanted(loaded, {topic.name: SecretStr(HIDDEN) for topic in loaded.topics}, **more)


def topic(name: str, **changes: Any) -> TopicState:
    usual = TopicState(arn(name), "http://host/notify", True, SecretStr(HIDDEN), {}, paced=True)
    return replace(usual, **changes)


def arn(name: str) -> str:
    return f"arn:aws:sns:default::{name}"


def entry(bucket: str, name: str, identifier: str | None = None) -> Notification:
    return Notification(identifier or f"autoingest.{bucket}.{name}", arn(name), (CREATED,), "[]")


def state(names: Mapping[str, list[str]], *topics: TopicState, copies: Mapping[Any, TopicState] | None = None) -> State:
    """Buckets notify topics, which exist or not."""
    buckets = {f"owner@{b}": BucketState(tuple(entry(b, name) for name in list_), None) for b, list_ in names.items()}
    by_name = {item.arn.rpartition(":")[2]: item for item in topics}
    listed = {name: 1 + sum(name in list_ for list_ in names.values()) for name in by_name}
    return State(by_name, listed, copies or {}, buckets)


def steps(findings: list[Finding]) -> list[str]:
    return [str(step) for step in steps_of(findings)]


GOOD = state({"one": ["summit"], "two": ["summit"]}, topic("summit"))


def test_nothing_to_do() -> None:
    assert compare(wanted(), GOOD) == []


def test_changed_topic_is_written_to_all_of_its_buckets() -> None:
    actual = replace(GOOD, topics={"summit": topic("summit", secret=SecretStr("former-word"))})
    findings = compare(wanted(), actual)
    assert steps(findings) == [
        "write topic summit",
        "write the notifications of bucket owner@one",
        "write the notifications of bucket owner@two",
    ]
    assert HIDDEN not in repr(findings)
    assert "former-word" not in repr(findings)


def test_bucket_that_posts_what_the_topic_said_before() -> None:
    copies = {("autoingest.two.summit", "summit"): topic("summit", endpoint="http://former/notify")}
    (finding,) = compare(wanted(), replace(GOOD, copies=copies))
    assert finding.where == "bucket owner@two, notification autoingest.two.summit"
    assert steps([finding]) == ["write the notifications of bucket owner@two"]


def test_limits_that_nobody_declares_are_found_and_those_unknown_to_ceph_noted() -> None:
    limited = {"max_retries": "3", "time_to_live": "None"}
    (finding,) = compare(wanted(), replace(GOOD, topics={"summit": topic("summit", options=limited)}))
    assert "max_retries is 3" in finding.wrong
    declared = {**SPEC, "topics": [{**SPEC["topics"][0], "maxRetries": 3}]}
    old = topic("summit", options={"max_retries": "3"}, paced=False)
    (finding,) = compare(wanted(declared), replace(GOOD, topics={"summit": old}))
    assert finding.note
    assert not finding.steps


def test_rotation_adds_before_it_removes() -> None:
    first = wanted(generations={"summit": next_generation(wanted().spec.topics[0], GOOD)})
    planned = steps_of(compare(first, GOOD))
    assert [str(step) for step in planned if step.phase == 0] == [
        "write topic summit-2",
        "write the notifications of bucket owner@one",
        "write the notifications of bucket owner@two",
    ]
    assert {str(step) for step in planned if step.phase == 1} == {
        "remove notification autoingest.one.summit of bucket owner@one",
        "remove notification autoingest.two.summit of bucket owner@two",
    }
    assert [str(step) for step in planned if step.phase == 2] == ["delete topic summit"]


def test_generation_of_the_file_is_the_least() -> None:
    declared = {**SPEC, "topics": [{**SPEC["topics"][0], "generation": 8}]}
    assert steps(compare(wanted(declared), GOOD))[0] == "write topic summit-8"
    (finding, *_) = compare(wanted(declared), state({"one": ["summit-9"], "two": []}, topic("summit-9")))
    assert finding.wrong == "the bucket does not notify topic summit-9"


def test_interrupted_rotation_is_finished_without_being_asked_again() -> None:
    half = state({"one": ["summit", "summit-2"], "two": ["summit"]}, topic("summit"), topic("summit-2"))
    planned = steps(compare(wanted(), half))
    assert planned[0] == "write the notifications of bucket owner@two"
    assert "remove notification autoingest.one.summit of bucket owner@one" in planned
    done = state({"one": ["summit-2"], "two": ["summit-2"]}, topic("summit-2"))
    assert compare(wanted(), done) == []


def test_next_generation_is_of_no_topic_that_was_ever_seen() -> None:
    (declared,) = wanted().spec.topics
    seen = state({"one": ["summit-4"]}, topic("summit"), topic("summit-7"))
    assert next_generation(declared, seen) == 8


def test_old_generation_is_kept_while_others_use_it() -> None:
    rotated = state({"one": ["summit-2"], "two": ["summit-2"]}, topic("summit-2"), topic("summit"))
    assert steps(compare(wanted(), rotated)) == ["delete topic summit"]
    (finding,) = compare(wanted(), replace(rotated, listed={"summit": 2, "summit-2": 3}))
    assert finding.note
    assert not finding.steps


def test_unknown_notification_goes_by_force_only() -> None:
    by_hand = BucketState((entry("one", "summit"), entry("one", "other", "by-hand")), None)
    actual = replace(GOOD, buckets={**GOOD.buckets, "owner@one": by_hand})
    (finding,) = compare(wanted(), actual)
    assert "unknown" in finding.wrong
    assert not finding.steps
    assert steps(compare(wanted(force=True), actual)) == ["remove notification by-hand of bucket owner@one"]


def test_missing_bucket_is_created_only_where_that_is_declared() -> None:
    actual = state({"one": ["summit"]}, topic("summit"))
    (finding,) = compare(wanted(), actual)
    assert not finding.steps
    created = {**SPEC, "buckets": [SPEC["buckets"][0], {**SPEC["buckets"][1], "create": True}]}
    assert steps(compare(wanted(created), actual)) == [
        "create bucket owner@two",
        "write the notifications of bucket owner@two",
    ]
