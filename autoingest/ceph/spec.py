"""The file that declares what a Ceph shall hold.

It is YAML in camelCase, one frozen class a block, and unknown keys are refused. Secrets are never in it: a topic names
the environment variable that holds its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Self

from pydantic import Field, SecretStr, model_validator

from ..app.config import secret
from ..app.documents import Document
from ..errors import ConfigurationError
from .schema import BucketSpec, TopicSpec


class Spec(Document):
    """The whole file."""

    owner: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")] = "autoingest"
    """First part of the ids of all notifications that this file is in charge of: ``{owner}.{bucket}.{topic}``."""

    profile: str | None = None
    """S3 profile of the user who owns the topics; none: ``S3_ENDPOINT_URL`` and the AWS variables."""

    topics: tuple[TopicSpec, ...] = ()
    buckets: Annotated[tuple[BucketSpec, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        _distinct("topics", [topic.name for topic in self.topics])
        _distinct("buckets", [bucket.bare for bucket in self.buckets])
        for topic in self.topics:
            for other in self.topics:
                if other is not topic and topic.generation_of(other.name):
                    raise ValueError(f"topic {other.name} could be a generation of topic {topic.name}")
        known = {topic.name for topic in self.topics}
        for bucket in self.buckets:
            named = [notification.topic for notification in bucket.notifications]
            _distinct(f"notifications of {bucket.name}", named)
            if unknown := set(named) - known:
                raise ValueError(f"{bucket.name} notifies {', '.join(sorted(unknown))}, which is no declared topic")
            for name in bucket.leave:
                if name.startswith(self.prefix(bucket)):
                    raise ValueError(f"{bucket.name}: {name} has this file's prefix and can't be left to others")
        return self

    def prefix(self, bucket: BucketSpec) -> str:
        """Return how the ids of this file's notifications of a bucket begin."""
        return f"{self.owner}.{bucket.bare.rpartition(':')[2]}."

    def topic(self, name: str) -> TopicSpec:
        """Return a declared topic.

        Raises
        ------
        ConfigurationError
            If there is none of that name.
        """
        for topic in self.topics:
            if topic.name == name:
                return topic
        raise ConfigurationError(f"no topic {name!r} is declared; there are {', '.join(t.name for t in self.topics)}")

    def secrets(self) -> dict[str, SecretStr]:
        """Read the topics' secrets from the environment, by topic name.

        Raises
        ------
        ConfigurationError
            If one is missing, or holds what Ceph does not pass on unchanged; the message does not quote it.
        """
        secrets = {}
        for topic in self.topics:
            value = ""
            if (variable := topic.opaque_data_variable) is not None:
                value = secret(variable) or ""
                if not value:
                    raise ConfigurationError(f"{variable} is not set: it holds the secret of topic {topic.name}")
                if re.search(r"\s", value):
                    raise ConfigurationError(
                        f"{variable}: the secret of topic {topic.name} holds white space, which Ceph changes to +"
                    )
            secrets[topic.name] = SecretStr(value)
        return secrets


def _distinct(what: str, names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"{what}: {name} is named twice")
        seen.add(name)
