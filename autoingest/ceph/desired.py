"""What is wanted of a Ceph beyond what the file says, what may be wrong, and the steps that mend it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from pydantic import SecretStr

from .client import Notification
from .schema import BucketSpec, TopicSpec
from .spec import Spec
from .state import State

Kind = Literal["create bucket", "write topic", "subscribe", "write policy", "write ACL", "unsubscribe", "delete topic"]
"""In the order in which they are done."""


@dataclass(frozen=True, slots=True)
class Step:
    """One change of Ceph."""

    kind: Kind
    subject: str
    """Name of the bucket as declared, or of the topic."""
    id: str = ""
    """Id of the notification to remove."""

    @property
    def phase(self) -> int:
        """Steps of a later phase are taken only when Ceph has been read again and no earlier one is left.

        First what is wanted is there, then what is not wanted any more goes: notifications before their topics, as
        Ceph refuses what is written to a bucket that notifies a deleted persistent topic.
        """
        return max(0, get_args(Kind).index(self.kind) - get_args(Kind).index("unsubscribe") + 1)

    def __str__(self) -> str:
        return {
            "create bucket": f"create bucket {self.subject}",
            "write topic": f"write topic {self.subject}",
            "subscribe": f"write the notifications of bucket {self.subject}",
            "write policy": f"write the policy of bucket {self.subject}",
            "write ACL": f"make the ACL of bucket {self.subject} private",
            "unsubscribe": f"remove notification {self.id} of bucket {self.subject}",
            "delete topic": f"delete topic {self.subject}",
        }[self.kind]


@dataclass(frozen=True, slots=True)
class Finding:
    """One difference between the file and Ceph."""

    where: str
    wrong: str
    remedy: str
    declared: str = ""
    actual: str = ""
    steps: tuple[Step, ...] = ()
    """What mends it; nothing where a person must decide."""
    note: bool = False
    """Worth knowing, but nothing is wrong."""


@dataclass(frozen=True)
class Wanted:
    """The spec with what it does not hold itself: secrets, and the generation of each topic."""

    spec: Spec
    secrets: Mapping[str, SecretStr]
    """By name of the declared topic."""
    generations: Mapping[str, int] = field(default_factory=dict)
    """By name of the declared topic: least generation, where it is to be higher than what the spec says."""
    force: bool = False
    """Whether notifications that nobody has declared are to go."""

    def generation(self, topic: TopicSpec, state: State) -> int:
        """Tell the generation that a topic is to have: the highest that a bucket has been given."""
        used = (
            topic.generation_of(item.topic)
            for bucket in self.spec.buckets
            for item in notifications(state, bucket)
            if item.id == self.spec.prefix(bucket) + item.topic
        )
        return max(topic.generation, self.generations.get(topic.name, 1), *(number or 1 for number in used))

    def name(self, topic: TopicSpec, state: State) -> str:
        """Tell the name that a topic is to have."""
        return topic.named(self.generation(topic, state))

    def attributes(self, topic: TopicSpec) -> dict[str, str]:
        """Return what a topic is written with, its secret included."""
        secret = self.secrets[topic.name].get_secret_value()
        return {
            "push-endpoint": topic.push_endpoint,
            "persistent": str(topic.persistent).lower(),
            **topic.options(),
            **({"OpaqueData": secret} if secret else {}),
        }

    def entries(self, bucket: BucketSpec, state: State, arns: Mapping[str, str]) -> list[dict[str, Any]]:
        """Return the bucket's notification configuration; `arns` are by actual name of the topic."""
        entries = []
        for item in bucket.notifications:
            name = self.name(self.spec.topic(item.topic), state)
            rules = [{"Name": k, "Value": v} for k, v in (("prefix", item.prefix), ("suffix", item.suffix)) if v]
            entry: dict[str, Any] = {
                "Id": self.spec.prefix(bucket) + name, "TopicArn": arns[name], "Events": list(item.events)
            }  # fmt: skip
            entries.append(entry | ({"Filter": {"Key": {"FilterRules": rules}}} if rules else {}))
        return entries


def next_generation(topic: TopicSpec, state: State) -> int:
    """Return a generation that no topic or notification has had, as far as Ceph still knows."""
    names = {*state.listed, *state.topics}
    names.update(item.topic for bucket in state.buckets.values() for item in bucket.notifications)
    return 1 + max(topic.generation, *(topic.generation_of(name) or 0 for name in names), 0)


def notifications(state: State, bucket: BucketSpec) -> tuple[Notification, ...]:
    """Return what a bucket is told now; nothing where it does not exist."""
    actual = state.buckets.get(bucket.name)
    return actual.notifications if actual else ()


def steps_of(findings: Sequence[Finding]) -> list[Step]:
    """Return all steps that findings ask for, each once, in the order in which they are done."""
    steps = dict.fromkeys(step for finding in findings for step in finding.steps)
    return sorted(steps, key=lambda step: get_args(Kind).index(step.kind))
