"""Compare the desired with the actual state: what is wrong, and which steps correct it. Pure functions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from . import policy
from .client import Notification, key_filter
from .desired import DesiredState, Finding, Step, notifications
from .schema import BucketSpec, NotificationSpec, TopicSpec
from .state import ActualState, BucketState, TopicState

PACING = ("max_retries", "time_to_live", "retry_sleep_duration")
"""Attributes that Ceph knows only since Reef."""

UNSET = "None"
"""Value that Ceph reports for them if they are not set."""


def compare(desired: DesiredState, state: ActualState) -> list[Finding]:
    """Return all differences between the desired state and the actual one."""
    findings: list[Finding] = []
    for topic in desired.spec.topics:
        findings += _topic(desired, state, topic)
    for bucket in desired.spec.buckets:
        findings += _bucket(desired, state, bucket)
    for topic in desired.spec.topics:
        findings += _old_generations(desired, state, topic)
    return findings


def _topic(desired: DesiredState, state: ActualState, topic: TopicSpec) -> Iterator[Finding]:
    name = desired.name(topic, state)
    where = f"topic {name}"
    buckets = [bucket for bucket in desired.spec.buckets if any(n.topic == topic.name for n in bucket.notifications)]
    # A change of a topic takes effect only after the buckets' notifications have been written again.
    steps = (
        Step("write topic", name),
        *(Step("subscribe", bucket.name) for bucket in buckets if bucket.create or bucket.name in state.buckets),
    )
    declared = f"to {topic.push_endpoint}"
    actual = state.topics.get(name)
    if actual is None:
        users = [b.name for b in desired.spec.buckets if any(n.topic == name for n in notifications(state, b))]
        if users:
            wrong = (
                f"the topic has been deleted, but {', '.join(users)} still notifies it: if it was persistent, Ceph "
                "refuses writes to that bucket; otherwise it keeps posting with the old settings"
            )
        else:
            wrong = "the topic does not exist"
        yield Finding(where, wrong, "apply creates it and writes the buckets' notifications", declared, "absent", steps)
        return
    for wrong, expected, found in _attributes(desired, topic, actual):
        yield Finding(where, wrong, "apply writes the topic and the buckets' notifications", expected, found, steps)
    ignored = [option for option in PACING if option in topic.options()]
    if ignored and not actual.supports_pacing:
        yield Finding(
            where, f"this Ceph is older than Reef and ignores {', '.join(ignored)}", "no action needed", note=True
        )


def _attributes(desired: DesiredState, topic: TopicSpec, actual: TopicState) -> Iterator[tuple[str, str, str]]:
    """Yield each attribute that differs: what is wrong, the declared value and the actual one."""
    if actual.endpoint != topic.push_endpoint:
        yield (f"notifications go to {actual.endpoint}, not to {topic.push_endpoint}",
               f"to {topic.push_endpoint}", f"to {actual.endpoint}")  # fmt: skip
    if actual.secret != desired.secrets[topic.name]:
        variable = topic.opaque_data_variable
        yield (
            f"OpaqueData is not the secret that {variable} holds" if variable else "OpaqueData is set but not declared",
            f"OpaqueData of {variable}" if variable else "no OpaqueData",
            "another OpaqueData" if actual.secret else "no OpaqueData",
        )
    if actual.persistent != topic.persistent:
        yield (
            "it is not persistent: Ceph tries each notification only once"
            if topic.persistent
            else "it is persistent, which is not declared",
            f"persistent: {topic.persistent}",
            f"persistent: {actual.persistent}",
        )
    for option, value in topic.options().items():
        if (found := actual.options.get(option)) != value:
            found = found or "not set"
            yield f"{option} is {found}, not {value}", f"{option}: {value}", f"{option}: {found}"
    for option in PACING:
        if option not in topic.options() and (found := actual.options.get(option, UNSET)) != UNSET:
            yield f"{option} is {found}, which is not declared", f"{option}: not set", f"{option}: {found}"


def _bucket(desired: DesiredState, state: ActualState, bucket: BucketSpec) -> Iterator[Finding]:
    where = f"bucket {bucket.name}"
    actual = state.buckets.get(bucket.name)
    if actual is None:
        steps = [Step("create bucket", bucket.name)] if bucket.create else []
        if bucket.create and bucket.notifications:
            steps.append(Step("subscribe", bucket.name))
        if bucket.create and bucket.policy:
            steps.append(Step("write policy", bucket.name))
        remedy = "apply creates it" if bucket.create else "create it as its owner, or set create: true in the file"
        yield Finding(where, "the bucket does not exist", remedy, "bucket", "absent", tuple(steps))
        return
    ids = set()
    for item in bucket.notifications:
        topic = desired.spec.topic(item.topic)
        name = desired.name(topic, state)
        ids.add(desired.spec.prefix(bucket) + name)
        yield from _notification(desired, state, bucket, item, name)
    for entry in dict.fromkeys(actual.notifications):
        if entry.id not in ids and entry.id not in bucket.leave:
            yield _undeclared(desired, bucket, entry)
    if bucket.policy is not None:
        yield from _policy(bucket, actual)


def _notification(
    desired: DesiredState, state: ActualState, bucket: BucketSpec, item: NotificationSpec, name: str
) -> Iterator[Finding]:
    identifier = desired.spec.prefix(bucket) + name
    where = f"bucket {bucket.name}, notification {identifier}"
    step = (Step("subscribe", bucket.name),)
    declared = _describe(name, item.events, key_filter(item.prefix, item.suffix))
    remedy = "apply writes the bucket's notifications"
    found = [entry for entry in notifications(state, bucket) if entry.id == identifier and entry.topic == name]
    if not found:
        yield Finding(where, f"the bucket does not notify topic {name}", remedy, declared, "absent", step)
        return
    actual = _describe(found[0].topic, found[0].events, found[0].filter)
    if actual != declared:
        yield Finding(where, "its events or its filter on keys differ", remedy, declared, actual, step)
    topic = desired.spec.topic(item.topic)
    copy = state.copies.get((identifier, name))
    current = state.topics.get(name)
    if copy and current and not any(_attributes(desired, topic, current)):
        for wrong, declared, actual in _attributes(desired, topic, copy):
            wrong = f"the bucket still uses the topic's former settings: {wrong}"
            yield Finding(where, wrong, remedy, declared, actual, step)


def _undeclared(desired: DesiredState, bucket: BucketSpec, entry: Notification) -> Finding:
    where = f"bucket {bucket.name}, notification {entry.id}"
    actual = _describe(entry.topic, entry.events, entry.filter)
    step = (Step("unsubscribe", bucket.name, entry.id),)
    if entry.id.startswith(desired.spec.prefix(bucket)):
        wrong = f"stale: it is no longer declared, but still posts to topic {entry.topic}"
        return Finding(where, wrong, "apply removes it", "absent", actual, step)
    wrong = f"unknown: it is not declared, but posts to topic {entry.topic}"
    remedy = "declare it, list it under leave if others manage it, or remove it with apply --force"
    return Finding(where, wrong, remedy, "absent", actual, step if desired.force else ())


def _policy(bucket: BucketSpec, actual: BucketState) -> Iterator[Finding]:
    if actual.acl:
        yield Finding(
            f"bucket {bucket.name}, ACL", f"it gives access to others than the owner: {', '.join(actual.acl)}",
            "apply makes it private; grant what others need under policy", "the owner only", "\n".join(actual.acl),
            (Step("write ACL", bucket.name),),
        )  # fmt: skip
    declared, present = policy.permissions_of(policy.render(bucket)), policy.permissions_of(actual.policy)
    if declared == present:
        return
    parts = []
    if missing := declared - present:
        parts.append(f"{len(missing)} declared permissions or denials are missing")
    if surplus := present - declared:
        parts.append(f"{len(surplus)} permissions or denials are not declared")
        if public := policy.count_public(surplus):
            parts[-1] += f" ({public} may apply to everybody)"
    yield Finding(
        f"bucket {bucket.name}, policy", " and ".join(parts), "apply replaces the policy",
        policy.describe_permissions(missing), policy.describe_permissions(surplus),
        (Step("write policy", bucket.name),),
    )  # fmt: skip


def _old_generations(desired: DesiredState, state: ActualState, topic: TopicSpec) -> Iterator[Finding]:
    current = desired.generation(topic, state)
    for name in state.topics:
        generation = topic.generation_of(name)
        if generation is None or generation >= current:
            continue
        users = [(b, n) for b in desired.spec.buckets for n in notifications(state, b) if n.topic == name]
        removed = [n for b, n in users if desired.force or n.id.startswith(desired.spec.prefix(b))]
        others = max(len(users) - len(removed), state.listed.get(name, 1) - 1 - len(users))
        where = f"topic {name}"
        if others > 0:
            wrong = f"an old generation that {others} other notifications still use, so it is kept"
            yield Finding(where, wrong, "apply deletes it once they are gone", "absent", "present", note=True)
        else:
            wrong = f"an old generation of topic {topic.name_of(current)}"
            yield Finding(where, wrong, "apply deletes it", "absent", "present", (Step("delete topic", name),))


def _describe(topic: str, events: Sequence[str], keys: str) -> str:
    return f"topic {topic}, {' '.join(events) or 'all events'}" + (f", keys {keys}" if keys != "[]" else "")
