"""The blocks of the file that declares what a Ceph shall hold: topics, notifications, grants, buckets."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, field_validator, model_validator

from ..app.documents import Block
from .actions import known

CREATED = "s3:ObjectCreated:*"
"""The only events that are asked for."""

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,240}$")]
Count = Annotated[int, Field(ge=0)]

_USER = re.compile(r"arn:aws:iam::(?P<tenant>[A-Za-z0-9_]*):user/(?P<name>[^\s*?]+)")
_ACCOUNT = re.compile(r"\d{12}|RGW\d{17}")


class TopicSpec(Block):
    """A topic: where notifications go, and what they carry."""

    name: Name
    """Name of the first generation; generation N is called ``{name}-{N}``."""

    generation: Annotated[int, Field(ge=1, le=9999)] = 1
    """Least generation of the topic. A topic whose queue once broke is given a new name, never the old one again."""

    push_endpoint: str
    """``http://host:port/notify``, ``https://...`` or ``kafka://host:port``, without credentials."""

    opaque_data_variable: str | None = None
    """Environment variable that holds the secret each notification carries; none: it carries none."""

    persistent: bool = True
    """Whether Ceph keeps notifications until they are taken. If not, each is tried once, and the writer waits."""

    kafka_ack_level: Literal["none", "broker"] | None = None
    """When a notification to Kafka counts as delivered; Ceph's own default is ``broker``."""

    use_ssl: bool | None = None
    """Whether the connection to Kafka is encrypted."""

    verify_ssl: bool | None = None
    """Whether the endpoint's certificate is checked; Ceph's own default is yes."""

    ca_location: str | None = None
    """File of the certificate authority, as the gateway sees it."""

    max_retries: Count | None = None
    """Attempts after which a notification is lost; Ceph from Reef on, older ones try for ever."""

    time_to_live: Count | None = None
    """Seconds after which a notification is lost; Ceph from Reef on."""

    retry_sleep_duration: Count | None = None
    """Seconds between two attempts; Ceph from Reef on, older ones do not pause."""

    canary: bool = True
    """Whether notifications come to this program, so that a canary can be expected from the topic."""

    @field_validator("push_endpoint")
    @classmethod
    def _endpoint(cls, value: str) -> str:
        try:
            url = urlsplit(value)
            port = url.port
        except ValueError as err:
            raise ValueError(f"not a URL: {err}") from None
        if url.scheme not in ("http", "https", "kafka") or not url.hostname:
            raise ValueError("neither http://host:port/path nor https://... nor kafka://host:port")
        if url.username is not None:
            raise ValueError("credentials do not belong into this file")
        if url.scheme == "kafka" and port is None:
            raise ValueError("the port is missing, as in kafka://host:9094")
        if "&" in value or re.search(r"\s", value):
            raise ValueError("Ceph keeps neither & nor white space in an endpoint")
        return value

    def named(self, generation: int) -> str:
        """Return the topic's name in a generation."""
        return self.name if generation == 1 else f"{self.name}-{generation}"

    def generation_of(self, name: str) -> int | None:
        """Tell which generation of this topic a name stands for, if any."""
        if name == self.name:
            return 1
        match = re.fullmatch(re.escape(self.name) + r"-([2-9]|[1-9]\d{1,3})", name)
        return int(match[1]) if match else None

    def options(self) -> dict[str, str]:
        """Return the declared attributes beyond endpoint, secret and persistence, as Ceph names and writes them."""
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
    """Announces a bucket's new objects to a topic."""

    topic: Name
    """Name of a declared topic, without generation."""

    events: tuple[str, ...] = (CREATED,)
    """Only ``s3:ObjectCreated:*``."""

    prefix: str = ""
    """Only keys that begin so."""

    suffix: str = ""
    """Only keys that end so."""

    @field_validator("events")
    @classmethod
    def _only_created(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if any("ObjectRemoved" in event for event in value):
            raise ValueError(
                "ObjectRemoved must not be subscribed: deleting several objects at once then aborts Ceph's gateway"
            )
        if value != (CREATED,):
            raise ValueError(f"only [{CREATED}]: with less, images that are copied or written in parts are missed")
        return value


class GrantSpec(Block):
    """Lets users do something with a bucket, or forbids it."""

    grant: Literal["read", "readWrite"] | None = None
    """``read``: list, and get objects in any version; ``readWrite``: also put and delete."""

    deny: Annotated[tuple[Annotated[str, AfterValidator(known)], ...], Field(min_length=1)] | None = None
    """Actions to forbid, as ``s3:PutObject``; all of `autoingest.ceph.actions`."""

    principals: Annotated[tuple[str, ...], Field(min_length=1)]
    """``arn:aws:iam:::user/NAME`` or ``arn:aws:iam::TENANT:user/NAME``; with deny also ``*``."""

    objects: str = "*"
    """Keys that it is about, as ``LSSTCam/raw/*``; actions on the bucket itself are about all of it."""

    @field_validator("principals")
    @classmethod
    def _users(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for principal in value:
            match = _USER.fullmatch(principal)
            if principal != "*" and not match:
                raise ValueError(f"{principal!r} is neither arn:aws:iam:::user/NAME nor arn:aws:iam::TENANT:user/NAME")
            if match and _ACCOUNT.fullmatch(match["tenant"]):
                raise ValueError(
                    f"{principal!r} has an account id: Ceph accepts that and grants nothing; write "
                    "arn:aws:iam:::user/NAME, or the tenant in its place"
                )
            if match and match["name"] == "anonymous":
                raise ValueError(f"{principal!r} is how Ceph calls everybody without keys; name the users")
        return value

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if (self.grant is None) == (self.deny is None):
            raise ValueError("either grant or deny")
        if self.grant and "*" in self.principals:
            raise ValueError("a grant to * makes the bucket public; name the users")
        return self


class BucketSpec(Block):
    """A bucket: whom it notifies, and who may do what."""

    name: Annotated[str, Field(pattern=r"^([A-Za-z0-9_-]+@)?[A-Za-z0-9][A-Za-z0-9._:-]*$")]
    """``bucket``, or ``profile@bucket`` with the S3 profile of its owner."""

    create: bool = False
    """Whether ``apply`` makes the bucket if it does not exist."""

    notifications: tuple[NotificationSpec, ...] = ()
    """All notifications of the bucket that this file is in charge of."""

    leave: tuple[str, ...] = ()
    """Ids of notifications that others are in charge of."""

    policy: tuple[GrantSpec, ...] | None = None
    """The whole policy; an empty list is none. Without this key the policy is left alone."""

    @property
    def bare(self) -> str:
        """Name that the server knows it by."""
        return self.name.rpartition("@")[2]
