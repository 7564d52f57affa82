"""Declared against actual: what is wrong, and the steps that mend it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from . import policy
from .client import Notification, key_filter
from .desired import Finding, Step, Wanted, notifications
from .schema import BucketSpec, NotificationSpec, TopicSpec
from .state import BucketState, State, TopicState

PACING = ("max_retries", "time_to_live", "retry_sleep_duration")
"""Attributes that only Ceph from Reef on knows."""

UNSET = "None"
"""What Ceph tells of them where they are not set."""


def compare(wanted: Wanted, state: State) -> list[Finding]:
    """Find all differences between a spec and what Ceph holds."""
    findings: list[Finding] = []
    for topic in wanted.spec.topics:
        findings += _topic(wanted, state, topic)
    for bucket in wanted.spec.buckets:
        findings += _bucket(wanted, state, bucket)
    for topic in wanted.spec.topics:
        findings += _old_generations(wanted, state, topic)
    return findings


def _topic(wanted: Wanted, state: State, topic: TopicSpec) -> Iterator[Finding]:
    name = wanted.name(topic, state)
    where = f"topic {name}"
    buckets = [bucket for bucket in wanted.spec.buckets if any(n.topic == topic.name for n in bucket.notifications)]
    # What is changed takes effect only when the buckets' configurations are written again.
    steps = (
        Step("write topic", name),
        *(Step("subscribe", bucket.name) for bucket in buckets if bucket.create or bucket.name in state.buckets),
    )
    declared = f"to {topic.push_endpoint}"
    actual = state.topics.get(name)
    if actual is None:
        users = [b.name for b in wanted.spec.buckets if any(n.topic == name for n in notifications(state, b))]
        if users:
            wrong = (
                f"the topic is deleted, but {', '.join(users)} still notifies it: if it was persistent, Ceph refuses "
                "what is written there, else it goes on posting as it was told before"
            )
        else:
            wrong = "the topic does not exist"
        yield Finding(where, wrong, "apply creates it and writes the buckets' notifications", declared, "absent", steps)
        return
    for wrong, said, is_ in _attributes(wanted, topic, actual):
        yield Finding(where, wrong, "apply writes the topic and the buckets' notifications", said, is_, steps)
    ignored = [option for option in PACING if option in topic.options()]
    if ignored and not actual.paced:
        yield Finding(
            where, f"this Ceph is older than Reef and ignores {', '.join(ignored)}", "nothing to be done", note=True
        )


def _attributes(wanted: Wanted, topic: TopicSpec, actual: TopicState) -> Iterator[tuple[str, str, str]]:
    """Tell what differs, as words, declared and actual."""
    if actual.endpoint != topic.push_endpoint:
        yield (f"notifications go to {actual.endpoint}, not to {topic.push_endpoint}",
               f"to {topic.push_endpoint}", f"to {actual.endpoint}")  # fmt: skip
    if actual.secret != wanted.secrets[topic.name]:
        variable = topic.opaque_data_variable
        yield (
            f"OpaqueData is not the secret that {variable} holds"
            if variable
            else "OpaqueData is set, but not declared",
            f"OpaqueData of {variable}" if variable else "no OpaqueData",
            "another OpaqueData" if actual.secret else "no OpaqueData",
        )
    if actual.persistent != topic.persistent:
        yield (
            "it does not keep notifications until they are taken" if topic.persistent else "it is persistent",
            f"persistent: {topic.persistent}",
            f"persistent: {actual.persistent}",
        )
    for option, value in topic.options().items():
        if (is_ := actual.options.get(option)) != value:
            yield f"{option} is {is_ or 'not set'}, not {value}", f"{option}: {value}", f"{option}: {is_ or 'not set'}"
    for option in PACING:
        if option not in topic.options() and (is_ := actual.options.get(option, UNSET)) != UNSET:
            yield f"{option} is {is_}, which is not declared", f"{option}: not set", f"{option}: {is_}"


def _bucket(wanted: Wanted, state: State, bucket: BucketSpec) -> Iterator[Finding]:
    where = f"bucket {bucket.name}"
    actual = state.buckets.get(bucket.name)
    if actual is None:
        steps = [Step("create bucket", bucket.name)] if bucket.create else []
        if bucket.create and bucket.notifications:
            steps.append(Step("subscribe", bucket.name))
        if bucket.create and bucket.policy:
            steps.append(Step("write policy", bucket.name))
        remedy = "apply creates it" if bucket.create else "create it as its owner, or say create: true"
        yield Finding(where, "the bucket does not exist", remedy, "bucket", "absent", tuple(steps))
        return
    ids = set()
    for item in bucket.notifications:
        topic = wanted.spec.topic(item.topic)
        name = wanted.name(topic, state)
        ids.add(wanted.spec.prefix(bucket) + name)
        yield from _notification(wanted, state, bucket, item, name)
    for entry in dict.fromkeys(actual.notifications):
        if entry.id not in ids and entry.id not in bucket.leave:
            yield _surplus(wanted, bucket, entry)
    if bucket.policy is not None:
        yield from _policy(bucket, actual)


def _notification(
    wanted: Wanted, state: State, bucket: BucketSpec, item: NotificationSpec, name: str
) -> Iterator[Finding]:
    identifier = wanted.spec.prefix(bucket) + name
    where = f"bucket {bucket.name}, notification {identifier}"
    step = (Step("subscribe", bucket.name),)
    said = _describe(name, item.events, key_filter(item.prefix, item.suffix))
    remedy = "apply writes the bucket's notifications"
    found = [entry for entry in notifications(state, bucket) if entry.id == identifier and entry.topic == name]
    if not found:
        yield Finding(where, f"the bucket does not notify topic {name}", remedy, said, "absent", step)
        return
    is_ = _describe(found[0].topic, found[0].events, found[0].filter)
    if is_ != said:
        yield Finding(where, "its events or keys differ", remedy, said, is_, step)
    topic = wanted.spec.topic(item.topic)
    copy = state.copies.get((identifier, name))
    current = state.topics.get(name)
    if copy and current and not any(_attributes(wanted, topic, current)):
        for wrong, declared, is_ in _attributes(wanted, topic, copy):
            yield Finding(where, f"what the topic now says has not reached the bucket: {wrong}",
                          remedy, declared, is_, step)  # fmt: skip


def _surplus(wanted: Wanted, bucket: BucketSpec, entry: Notification) -> Finding:
    where = f"bucket {bucket.name}, notification {entry.id}"
    actual = _describe(entry.topic, entry.events, entry.filter)
    step = (Step("unsubscribe", bucket.name, entry.id),)
    if entry.id.startswith(wanted.spec.prefix(bucket)):
        wrong = f"stale: it is not declared any more, but still posts to topic {entry.topic}"
        return Finding(where, wrong, "apply removes it", "absent", actual, step)
    wrong = f"unknown: nobody declares it, but it posts to topic {entry.topic}"
    remedy = "declare it, name it under leave if it is others', or remove it with apply --force"
    return Finding(where, wrong, remedy, "absent", actual, step if wanted.force else ())


def _policy(bucket: BucketSpec, actual: BucketState) -> Iterator[Finding]:
    if actual.acl:
        yield Finding(
            f"bucket {bucket.name}, ACL", f"it lets others than the owner in: {', '.join(actual.acl)}",
            "apply makes it private; grant what others need under policy", "the owner only", "\n".join(actual.acl),
            (Step("write ACL", bucket.name),),
        )  # fmt: skip
    should, is_ = policy.meaning(policy.render(bucket)), policy.meaning(actual.policy)
    if should == is_:
        return
    parts = []
    if missing := should - is_:
        parts.append(f"{len(missing)} declared permissions or denials are missing")
    if surplus := is_ - should:
        parts.append(f"{len(surplus)} are there that are not declared")
        if everybody := policy.for_everybody(surplus):
            parts[-1] += f" ({everybody} may be for everybody)"
    yield Finding(
        f"bucket {bucket.name}, policy", " and ".join(parts), "apply replaces the policy",
        policy.in_words(missing), policy.in_words(surplus), (Step("write policy", bucket.name),),
    )  # fmt: skip


def _old_generations(wanted: Wanted, state: State, topic: TopicSpec) -> Iterator[Finding]:
    current = wanted.generation(topic, state)
    for name in state.topics:
        generation = topic.generation_of(name)
        if generation is None or generation >= current:
            continue
        users = [(b, n) for b in wanted.spec.buckets for n in notifications(state, b) if n.topic == name]
        going = [n for b, n in users if wanted.force or n.id.startswith(wanted.spec.prefix(b))]
        others = max(len(users) - len(going), state.listed.get(name, 1) - 1 - len(users))
        where = f"topic {name}"
        if others > 0:
            wrong = f"an old generation that {others} other notifications still use; it is kept"
            yield Finding(where, wrong, "it can be deleted when those are gone", "absent", "present", note=True)
        else:
            wrong = f"an old generation of topic {topic.named(current)}"
            yield Finding(where, wrong, "apply deletes it", "absent", "present", (Step("delete topic", name),))


def _describe(topic: str, events: Sequence[str], keys: str) -> str:
    return f"topic {topic}, {' '.join(events) or 'all events'}" + (f", keys {keys}" if keys != "[]" else "")
