"""Which steps correct which difference, without a Ceph."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pydantic import SecretStr

from autoingest.ceph.client import Notification
from autoingest.ceph.desired import DesiredState, Finding, next_generation, ordered_steps
from autoingest.ceph.plan import compare
from autoingest.ceph.schema import CREATED
from autoingest.ceph.spec import Spec
from autoingest.ceph.state import ActualState, BucketState, TopicState

SPEC: dict[str, Any] = {
    "topics": [{"name": "summit", "pushEndpoint": "http://host/notify", "opaqueDataVariable": "V"}],
    "buckets": [{"name": f"owner@{name}", "notifications": [{"topic": "summit"}]} for name in ("one", "two")],
}
HIDDEN = "hidden-word"


def desired(spec: Mapping[str, Any] = SPEC, **more: Any) -> DesiredState:
    loaded = Spec.model_validate(spec)
    return DesiredState(loaded, {topic.name: SecretStr(HIDDEN) for topic in loaded.topics}, **more)


def topic(name: str, **changes: Any) -> TopicState:
    usual = TopicState(arn(name), "http://host/notify", True, SecretStr(HIDDEN), {}, supports_pacing=True)
    return replace(usual, **changes)


def arn(name: str) -> str:
    return f"arn:aws:sns:default::{name}"


def entry(bucket: str, name: str, identifier: str | None = None) -> Notification:
    return Notification(identifier or f"autoingest.{bucket}.{name}", arn(name), (CREATED,), "[]")


def state(
    names: Mapping[str, list[str]], *topics: TopicState, copies: Mapping[Any, TopicState] | None = None
) -> ActualState:
    """Return a state in which buckets notify topics by name, and the given topics exist."""
    buckets = {f"owner@{b}": BucketState(tuple(entry(b, name) for name in list_), None) for b, list_ in names.items()}
    by_name = {item.arn.rpartition(":")[2]: item for item in topics}
    listed = {name: 1 + sum(name in list_ for list_ in names.values()) for name in by_name}
    return ActualState(by_name, listed, copies or {}, buckets)


def steps(findings: list[Finding]) -> list[str]:
    return [str(step) for step in ordered_steps(findings)]


GOOD = state({"one": ["summit"], "two": ["summit"]}, topic("summit"))


def test_no_findings_if_ceph_matches() -> None:
    assert compare(desired(), GOOD) == []


def test_changed_topic_is_written_to_all_of_its_buckets() -> None:
    actual = replace(GOOD, topics={"summit": topic("summit", secret=SecretStr("former-word"))})
    findings = compare(desired(), actual)
    assert steps(findings) == [
        "write topic summit",
        "write the notifications of bucket owner@one",
        "write the notifications of bucket owner@two",
    ]
    assert HIDDEN not in repr(findings)
    assert "former-word" not in repr(findings)


def test_bucket_that_still_uses_the_former_settings_of_its_topic() -> None:
    copies = {("autoingest.two.summit", "summit"): topic("summit", endpoint="http://former/notify")}
    (finding,) = compare(desired(), replace(GOOD, copies=copies))
    assert finding.where == "bucket owner@two, notification autoingest.two.summit"
    assert steps([finding]) == ["write the notifications of bucket owner@two"]


def test_undeclared_limits_are_findings_and_limits_that_ceph_ignores_are_notes() -> None:
    limited = {"max_retries": "3", "time_to_live": "None"}
    (finding,) = compare(desired(), replace(GOOD, topics={"summit": topic("summit", options=limited)}))
    assert "max_retries is 3" in finding.wrong
    declared = {**SPEC, "topics": [{**SPEC["topics"][0], "maxRetries": 3}]}
    old = topic("summit", options={"max_retries": "3"}, supports_pacing=False)
    (finding,) = compare(desired(declared), replace(GOOD, topics={"summit": old}))
    assert finding.note
    assert not finding.steps


def test_rotation_adds_before_it_removes() -> None:
    first = desired(generations={"summit": next_generation(desired().spec.topics[0], GOOD)})
    planned = ordered_steps(compare(first, GOOD))
    assert [str(step) for step in planned if step.phase == 0] == [
        "write topic summit-2",
        "write the notifications of bucket owner@one",
        "write the notifications of bucket owner@two",
    ]
    assert {str(step) for step in planned if step.phase == 1} == {
        "remove notification autoingest.one.summit from bucket owner@one",
        "remove notification autoingest.two.summit from bucket owner@two",
    }
    assert [str(step) for step in planned if step.phase == 2] == ["delete topic summit"]


def test_generation_in_the_file_is_a_minimum() -> None:
    declared = {**SPEC, "topics": [{**SPEC["topics"][0], "generation": 8}]}
    assert steps(compare(desired(declared), GOOD))[0] == "write topic summit-8"
    (finding, *_) = compare(desired(declared), state({"one": ["summit-9"], "two": []}, topic("summit-9")))
    assert finding.wrong == "the bucket does not notify topic summit-9"


def test_interrupted_rotation_is_finished_by_the_next_apply() -> None:
    half = state({"one": ["summit", "summit-2"], "two": ["summit"]}, topic("summit"), topic("summit-2"))
    planned = steps(compare(desired(), half))
    assert planned[0] == "write the notifications of bucket owner@two"
    assert "remove notification autoingest.one.summit from bucket owner@one" in planned
    done = state({"one": ["summit-2"], "two": ["summit-2"]}, topic("summit-2"))
    assert compare(desired(), done) == []


def test_next_generation_is_higher_than_any_in_ceph() -> None:
    (declared,) = desired().spec.topics
    seen = state({"one": ["summit-4"]}, topic("summit"), topic("summit-7"))
    assert next_generation(declared, seen) == 8


def test_old_generation_is_kept_while_others_use_it() -> None:
    rotated = state({"one": ["summit-2"], "two": ["summit-2"]}, topic("summit-2"), topic("summit"))
    assert steps(compare(desired(), rotated)) == ["delete topic summit"]
    (finding,) = compare(desired(), replace(rotated, listed={"summit": 2, "summit-2": 3}))
    assert finding.note
    assert not finding.steps


def test_unknown_notification_is_removed_only_with_force() -> None:
    by_hand = BucketState((entry("one", "summit"), entry("one", "other", "by-hand")), None)
    actual = replace(GOOD, buckets={**GOOD.buckets, "owner@one": by_hand})
    (finding,) = compare(desired(), actual)
    assert "unknown" in finding.wrong
    assert not finding.steps
    assert steps(compare(desired(force=True), actual)) == ["remove notification by-hand from bucket owner@one"]


def test_missing_bucket_is_created_only_if_declared() -> None:
    actual = state({"one": ["summit"]}, topic("summit"))
    (finding,) = compare(desired(), actual)
    assert not finding.steps
    created = {**SPEC, "buckets": [SPEC["buckets"][0], {**SPEC["buckets"][1], "create": True}]}
    assert steps(compare(desired(created), actual)) == [
        "create bucket owner@two",
        "write the notifications of bucket owner@two",
    ]
