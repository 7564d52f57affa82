"""The blocks of a Ceph specification: topics, notifications, grants and buckets."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, field_validator, model_validator

from ..app.documents import Block
from ..model import buckets
from .actions import validated

CREATED = "s3:ObjectCreated:*"
"""The only events that may be subscribed to."""

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,240}$")]
Count = Annotated[int, Field(ge=0)]

_USER = re.compile(r"arn:aws:iam::(?P<tenant>[A-Za-z0-9_]*):user/(?P<name>[^\s*?]+)")
_ACCOUNT = re.compile(r"\d{12}|RGW\d{17}")


class TopicSpec(Block):
    """A topic: where Ceph sends notifications, and how."""

    name: Name
    """Name of the first generation; generation N is named ``{name}-{N}``."""

    generation: Annotated[int, Field(ge=1, le=9999)] = 1
    """Minimum generation of the topic. A topic whose queue has broken gets a new name and never the old one again."""

    push_endpoint: str
    """``http://host:port/notify``, ``https://...`` or ``kafka://host:port``, without credentials."""

    opaque_data_variable: str | None = None
    """Environment variable with the secret that each notification carries as ``opaqueData``; null for no secret."""

    persistent: bool = True
    """Whether Ceph stores notifications until they are delivered. If not, it tries each once while the writer waits."""

    kafka_ack_level: Literal["none", "broker"] | None = None
    """When a notification to Kafka counts as delivered; by default Ceph uses ``broker``."""

    use_ssl: bool | None = None
    """Whether the connection to Kafka is encrypted."""

    verify_ssl: bool | None = None
    """Whether the endpoint's certificate is checked; by default Ceph checks it."""

    ca_location: str | None = None
    """File of the certificate authority, on the gateway's machine."""

    max_retries: Count | None = None
    """Attempts after which Ceph drops a notification; since Ceph Reef, older versions retry for ever."""

    time_to_live: Count | None = None
    """Seconds after which Ceph drops a notification; since Ceph Reef."""

    retry_sleep_duration: Count | None = None
    """Seconds between two attempts; since Ceph Reef, older versions do not pause."""

    canary: bool = True
    """Whether the topic's notifications come to this program, so that ``canary`` can expect them."""

    @field_validator("push_endpoint")
    @classmethod
    def _endpoint(cls, value: str) -> str:
        try:
            url = urlsplit(value)
            port = url.port
        except ValueError as err:
            raise ValueError(f"not a URL: {err}") from None
        if url.scheme not in ("http", "https", "kafka") or not url.hostname:
            raise ValueError("must be http://host:port/path, https://host:port/path or kafka://host:port")
        if url.username is not None:
            raise ValueError("credentials must not be in this file")
        if url.scheme == "kafka" and port is None:
            raise ValueError("the port is missing, as in kafka://host:9094")
        if "&" in value or re.search(r"\s", value):
            raise ValueError("must not contain & or white space, which Ceph does not keep in an endpoint")
        return value

    def name_of(self, generation: int) -> str:
        """Return the topic's name in Ceph for a generation."""
        return self.name if generation == 1 else f"{self.name}-{generation}"

    def generation_of(self, name: str) -> int | None:
        """Return the generation of this topic that a name in Ceph stands for; None if it is another topic's."""
        if name == self.name:
            return 1
        match = re.fullmatch(re.escape(self.name) + r"-([2-9]|[1-9]\d{1,3})", name)
        return int(match[1]) if match else None

    def options(self) -> dict[str, str]:
        """Return the declared attributes except endpoint, secret and persistence, in Ceph's names and notation."""
        values = {
            "kafka-ack-level": self.kafka_ack_level,
            "use-ssl": self.use_ssl,
            "verify-ssl": self.verify_ssl,
            "ca-location": self.ca_location,
            "max_retries": self.max_retries,
            "time_to_live": self.time_to_live,
            "retry_sleep_duration": self.retry_sleep_duration,
        }
        return {name: str(value).lower() if isinstance(value, bool) else str(value)
                for name, value in values.items() if value is not None}  # fmt: skip


class NotificationSpec(Block):
    """A notification: a bucket announces its new objects to a topic."""

    topic: Name
    """Name of a declared topic, without its generation."""

    events: tuple[str, ...] = (CREATED,)
    """Events to announce; only ``s3:ObjectCreated:*`` is accepted."""

    prefix: str = ""
    """Announce only objects whose keys begin with this."""

    suffix: str = ""
    """Announce only objects whose keys end with this."""

    @field_validator("events")
    @classmethod
    def _only_created(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if any("ObjectRemoved" in event for event in value):
            raise ValueError(
                "don't subscribe to ObjectRemoved: deleting several objects at once then crashes Ceph's gateway"
            )
        if value != (CREATED,):
            raise ValueError(f"must be [{CREATED}]: with less, images that are copied or written in parts are missed")
        return value


class GrantSpec(Block):
    """A rule of a bucket's policy: grants access to users, or denies them actions."""

    grant: Literal["read", "readWrite"] | None = None
    """``read``: list the bucket and get objects in any version; ``readWrite``: also put and delete objects."""

    deny: Annotated[tuple[Annotated[str, AfterValidator(validated)], ...], Field(min_length=1)] | None = None
    """Actions to deny, such as ``s3:PutObject``; any of `autoingest.ceph.actions`."""

    principals: Annotated[tuple[str, ...], Field(min_length=1)]
    """Users, as ``arn:aws:iam:::user/NAME`` or ``arn:aws:iam::TENANT:user/NAME``; with deny also ``*``."""

    objects: str = "*"
    """Keys to which the rule applies, such as ``LSSTCam/raw/*``. Actions on the bucket apply to the whole bucket."""

    @field_validator("principals")
    @classmethod
    def _users(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for principal in value:
            match = _USER.fullmatch(principal)
            if principal != "*" and not match:
                raise ValueError(f"{principal!r} is neither arn:aws:iam:::user/NAME nor arn:aws:iam::TENANT:user/NAME")
            if match and _ACCOUNT.fullmatch(match["tenant"]):
                raise ValueError(
                    f"{principal!r} contains an account id, which Ceph accepts without granting anything; write "
                    "arn:aws:iam:::user/NAME, or put the tenant in its place"
                )
            if match and match["name"] == "anonymous":
                raise ValueError(f"{principal!r} is Ceph's name for everybody without keys; name the users instead")
        return value

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if (self.grant is None) == (self.deny is None):
            raise ValueError("must have either grant or deny")
        if self.grant and "*" in self.principals:
            raise ValueError("a grant to * would make the bucket public; name the users instead")
        return self


class BucketSpec(Block):
    """A bucket: its notifications and its policy."""

    name: Annotated[str, Field(pattern=f"^{buckets.PATTERN}$")]
    """``bucket``, or ``profile@bucket`` with the S3 profile of its owner."""

    create: bool = False
    """Whether ``apply`` creates the bucket if it does not exist."""

    notifications: tuple[NotificationSpec, ...] = ()
    """All notifications of the bucket that this file manages."""

    leave: tuple[str, ...] = ()
    """Ids of notifications that others manage; they are left alone."""

    policy: tuple[GrantSpec, ...] | None = None
    """The complete policy; an empty list removes it. Without this key the policy and the ACL are left alone."""

    @property
    def name_on_server(self) -> str:
        """Name by which the server knows the bucket."""
        return buckets.name_on_server(self.name)
