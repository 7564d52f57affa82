"""The actual state of a Ceph, as far as a specification is concerned."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import SecretStr

from .client import Gateway, Notification
from .spec import Spec

_CREDENTIALS = re.compile(r"//[^/]*@")


@dataclass(frozen=True, slots=True)
class TopicState:
    """A topic, or a notification's own copy of one."""

    arn: str
    endpoint: str
    """URL, with any credentials masked."""
    persistent: bool
    secret: SecretStr
    options: Mapping[str, str] = field(repr=False)
    """Arguments as given when the topic was written, including the secret."""
    supports_pacing: bool
    """Whether this Ceph supports pauses between and limits of retries; older ones only store them among the options."""


@dataclass(frozen=True, slots=True)
class BucketState:
    """A bucket that exists."""

    notifications: tuple[Notification, ...]
    policy: str | None
    """Text of the policy; None if there is none, or if the specification declares none."""
    acl: tuple[str, ...] = ()
    """What the ACL grants to others than the owner; read only if the specification declares a policy."""


@dataclass(frozen=True, slots=True)
class ActualState:
    """Topics and buckets as Ceph has them."""

    topics: Mapping[str, TopicState]
    """All generations of the declared topics, by name."""
    listed: Mapping[str, int]
    """How often Ceph lists each topic of the tenant, copies included, by name."""
    copies: Mapping[tuple[str, str], TopicState]
    """The notifications' own copies of their topics, by notification id and topic name. The bucket posts with the
    copy's settings, even if the topic has changed since. Ceph no longer has copies in Squid's new format."""
    buckets: Mapping[str, BucketState]
    """Existing buckets, by declared name."""


async def read_state(gateway: Gateway, spec: Spec) -> ActualState:
    """Read the actual state of everything that a specification declares.

    Raises
    ------
    AutoingestError
        As `Gateway` does.
    """
    arns = await gateway.topics()
    topics = {}
    for arn in arns:
        name = _name(arn)
        if any(topic.generation_of(name) for topic in spec.topics) and (attributes := await gateway.topic(arn)):
            topics[name] = _topic(attributes)
    buckets = {}
    copies = {}
    for bucket in spec.buckets:
        notifications = await gateway.notifications(bucket)
        if notifications is None:
            continue
        declared = bucket.policy is not None
        policy = await gateway.policy(bucket) if declared else None
        acl = await gateway.acl(bucket) if declared else ()
        buckets[bucket.name] = BucketState(tuple(notifications), policy, acl)
        for item in notifications:
            # Ceph's name for the notification's copy of the topic.
            copy = f"{item.arn.removesuffix(item.topic)}{item.id}_{item.topic}"
            if item.id.startswith(spec.prefix(bucket)) and (attributes := await gateway.topic(copy)):
                copies[item.id, item.topic] = _topic(attributes)
    return ActualState(topics, {_name(arn): number for arn, number in arns.items()}, copies, buckets)


def _topic(attributes: Mapping[str, str]) -> TopicState:
    endpoint = json.loads(attributes["EndPoint"])
    arguments = (argument.partition("=") for argument in endpoint.get("EndpointArgs", "").split("&"))
    options = {name: value for name, _, value in arguments if not name.startswith("Attributes.")}
    pacing = {"max_retries": "MaxRetries", "time_to_live": "TimeToLive", "retry_sleep_duration": "RetrySleepDuration"}
    options |= {name: str(endpoint[key]) for name, key in pacing.items() if key in endpoint}
    return TopicState(
        arn=attributes["TopicArn"],
        endpoint=_CREDENTIALS.sub("//***@", endpoint["EndpointAddress"]),
        persistent=str(endpoint.get("Persistent")).lower() == "true",
        secret=SecretStr(attributes.get("OpaqueData", "")),
        options=options,
        supports_pacing="MaxRetries" in endpoint,
    )


def _name(arn: str) -> str:
    return arn.rpartition(":")[2]
