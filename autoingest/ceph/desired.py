"""The desired state of a Ceph, the findings of a comparison, and the steps that correct them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from pydantic import SecretStr

from .client import Notification
from .schema import BucketSpec, TopicSpec
from .spec import Spec
from .state import ActualState

Kind = Literal["create bucket", "write topic", "subscribe", "write policy", "write ACL", "unsubscribe", "delete topic"]
"""Kinds of steps, in the order in which they are taken."""


@dataclass(frozen=True, slots=True)
class Step:
    """One change to Ceph."""

    kind: Kind
    subject: str
    """Name of the bucket, as declared, or of the topic."""
    id: str = ""
    """Id of the notification that is removed."""

    @property
    def phase(self) -> int:
        """Number of the phase in which this step is taken, from 0.

        A phase begins only after Ceph has been read again and shows that no step of an earlier phase is left: first
        everything is created and written, then notifications are removed, and topics last. Ceph refuses writes to a
        bucket that notifies a deleted persistent topic.
        """
        return max(0, get_args(Kind).index(self.kind) - get_args(Kind).index("unsubscribe") + 1)

    def __str__(self) -> str:
        return {
            "create bucket": f"create bucket {self.subject}",
            "write topic": f"write topic {self.subject}",
            "subscribe": f"write the notifications of bucket {self.subject}",
            "write policy": f"write the policy of bucket {self.subject}",
            "write ACL": f"make the ACL of bucket {self.subject} private",
            "unsubscribe": f"remove notification {self.id} from bucket {self.subject}",
            "delete topic": f"delete topic {self.subject}",
        }[self.kind]


@dataclass(frozen=True, slots=True)
class Finding:
    """One difference between the specification and Ceph."""

    where: str
    """The topic, bucket or notification."""
    wrong: str
    """What is wrong, as a clause."""
    remedy: str
    """What the operator should do."""
    declared: str = ""
    """What the specification says, one item a line."""
    actual: str = ""
    """What Ceph says, one item a line."""
    steps: tuple[Step, ...] = ()
    """Steps that correct it; empty if a person must decide."""
    note: bool = False
    """Whether this is for information only and nothing is wrong."""


@dataclass(frozen=True)
class DesiredState:
    """A specification together with what is not in its file: secrets, and the generation of each topic."""

    spec: Spec
    secrets: Mapping[str, SecretStr]
    """By name of the declared topic; empty for a topic without one."""
    generations: Mapping[str, int] = field(default_factory=dict)
    """Minimum generation by name of the declared topic, where it is higher than the specification's."""
    force: bool = False
    """Whether undeclared notifications are removed."""

    def generation(self, topic: TopicSpec, state: ActualState) -> int:
        """Return the generation that a topic should have: the highest one that any bucket already notifies."""
        used = (
            topic.generation_of(item.topic)
            for bucket in self.spec.buckets
            for item in notifications(state, bucket)
            if item.id == self.spec.prefix(bucket) + item.topic
        )
        return max(topic.generation, self.generations.get(topic.name, 1), *(number or 1 for number in used))

    def name(self, topic: TopicSpec, state: ActualState) -> str:
        """Return the name that a topic should have in Ceph."""
        return topic.name_of(self.generation(topic, state))

    def attributes(self, topic: TopicSpec) -> dict[str, str]:
        """Return the attributes to write a topic with, including its secret."""
        secret = self.secrets[topic.name].get_secret_value()
        return {
            "push-endpoint": topic.push_endpoint,
            "persistent": str(topic.persistent).lower(),
            **topic.options(),
            **({"OpaqueData": secret} if secret else {}),
        }

    def entries(self, bucket: BucketSpec, state: ActualState, arns: Mapping[str, str]) -> list[dict[str, Any]]:
        """Return a bucket's notification configuration; `arns` maps the topics' names in Ceph to their ARNs."""
        entries = []
        for item in bucket.notifications:
            name = self.name(self.spec.topic(item.topic), state)
            rules = [{"Name": k, "Value": v} for k, v in (("prefix", item.prefix), ("suffix", item.suffix)) if v]
            entry: dict[str, Any] = {
                "Id": self.spec.prefix(bucket) + name, "TopicArn": arns[name], "Events": list(item.events)
            }  # fmt: skip
            entries.append(entry | ({"Filter": {"Key": {"FilterRules": rules}}} if rules else {}))
        return entries


def next_generation(topic: TopicSpec, state: ActualState) -> int:
    """Return a generation higher than that of any topic or notification that Ceph still knows."""
    names = {*state.listed, *state.topics}
    names.update(item.topic for bucket in state.buckets.values() for item in bucket.notifications)
    return 1 + max(topic.generation, *(topic.generation_of(name) or 0 for name in names), 0)


def notifications(state: ActualState, bucket: BucketSpec) -> tuple[Notification, ...]:
    """Return a bucket's current notifications; none if it does not exist."""
    actual = state.buckets.get(bucket.name)
    return actual.notifications if actual else ()


def ordered_steps(findings: Sequence[Finding]) -> list[Step]:
    """Return all steps of the findings, each once, in the order in which they are taken."""
    steps = dict.fromkeys(step for finding in findings for step in finding.steps)
    return sorted(steps, key=lambda step: get_args(Kind).index(step.kind))
