"""What a Ceph holds now of what a spec is about."""

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
    """A topic, or a notification's copy of one."""

    arn: str
    endpoint: str
    """Without credentials, if it has any."""
    persistent: bool
    secret: SecretStr
    options: Mapping[str, str] = field(repr=False)
    """Arguments as given when it was written; they hold the secret, too."""
    paced: bool
    """Whether this Ceph knows pauses and limits of retries; one that doesn't keeps them among the options only."""


@dataclass(frozen=True, slots=True)
class BucketState:
    """A bucket that exists."""

    notifications: tuple[Notification, ...]
    policy: str | None
    """Its text, where the spec declares one; so the next."""
    acl: tuple[str, ...] = ()
    """What its ACL lets others than the owner do."""


@dataclass(frozen=True, slots=True)
class State:
    """Everything that was read."""

    topics: Mapping[str, TopicState]
    """By name: all generations of the declared topics."""
    listed: Mapping[str, int]
    """By name of any topic of the tenant: how often it is listed, copies included."""
    copies: Mapping[tuple[str, str], TopicState]
    """By id and topic of this spec's notifications: what the bucket posts, whatever has become of the topic since.
    Ceph has these until Squid's new format, in which there is nothing to be out of date."""
    buckets: Mapping[str, BucketState]
    """By name as declared; those that do not exist are missing."""


async def read_state(gateway: Gateway, spec: Spec) -> State:
    """Read what a spec is about.

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
            # The name that Ceph gives to the copy.
            copy = f"{item.arn.removesuffix(item.topic)}{item.id}_{item.topic}"
            if item.id.startswith(spec.prefix(bucket)) and (attributes := await gateway.topic(copy)):
                copies[item.id, item.topic] = _topic(attributes)
    return State(topics, {_name(arn): number for arn, number in arns.items()}, copies, buckets)


def _topic(attributes: Mapping[str, str]) -> TopicState:
    endpoint = json.loads(attributes["EndPoint"])
    arguments = (argument.partition("=") for argument in endpoint.get("EndpointArgs", "").split("&"))
    options = {name: value for name, _, value in arguments if not name.startswith("Attributes.")}
    told = {"max_retries": "MaxRetries", "time_to_live": "TimeToLive", "retry_sleep_duration": "RetrySleepDuration"}
    options |= {name: str(endpoint[key]) for name, key in told.items() if key in endpoint}
    return TopicState(
        arn=attributes["TopicArn"],
        endpoint=_CREDENTIALS.sub("//***@", endpoint["EndpointAddress"]),
        persistent=str(endpoint.get("Persistent")).lower() == "true",
        secret=SecretStr(attributes.get("OpaqueData", "")),
        options=options,
        paced="MaxRetries" in endpoint,
    )


def _name(arn: str) -> str:
    return arn.rpartition(":")[2]
