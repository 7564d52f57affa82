"""The specification: the file that declares topics, notifications and policies.

It is YAML in camelCase with one frozen class for each block; unknown keys are refused. It never contains secrets: a
topic names the environment variable that holds its secret.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Self

from pydantic import Field, SecretStr, model_validator

from ..app.documents import Document
from ..app.secrets import secret
from ..errors import ConfigurationError
from .schema import BucketSpec, TopicSpec


class Spec(Document):
    """A whole specification."""

    owner: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")] = "autoingest"
    """First part of the ids of all notifications that this file manages: ``{owner}.{bucket}.{topic}``."""

    profile: str | None = None
    """S3 profile of the user who owns the topics; by default ``S3_ENDPOINT_URL`` and the AWS variables."""

    topics: tuple[TopicSpec, ...] = ()
    buckets: Annotated[tuple[BucketSpec, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        _distinct("topics", [topic.name for topic in self.topics])
        _distinct("buckets", [bucket.name_on_server for bucket in self.buckets])
        for topic in self.topics:
            for other in self.topics:
                if other is not topic and topic.generation_of(other.name):
                    raise ValueError(f"topic {other.name} could be a generation of topic {topic.name}")
        known = {topic.name for topic in self.topics}
        for bucket in self.buckets:
            named = [notification.topic for notification in bucket.notifications]
            _distinct(f"notifications of {bucket.name}", named)
            if unknown := set(named) - known:
                raise ValueError(f"{bucket.name} notifies {', '.join(sorted(unknown))}, which is not a declared topic")
            for name in bucket.leave:
                if name.startswith(self.prefix(bucket)):
                    raise ValueError(
                        f"{bucket.name}: {name} can't be under leave, as it begins with this file's prefix "
                        f"{self.prefix(bucket)}"
                    )
        return self

    def prefix(self, bucket: BucketSpec) -> str:
        """Return the prefix of the ids of all notifications of a bucket that this file manages."""
        return f"{self.owner}.{bucket.name_on_server.rpartition(':')[2]}."

    def topic(self, name: str) -> TopicSpec:
        """Return the declared topic of a name.

        Raises
        ------
        ConfigurationError
            If there is no such topic.
        """
        for topic in self.topics:
            if topic.name == name:
                return topic
        names = ", ".join(topic.name for topic in self.topics) or "none"
        raise ConfigurationError(f"topic {name!r} is not declared; declared topics: {names}")

    def secrets(self) -> dict[str, SecretStr]:
        """Read the topics' secrets from the environment, by topic name.

        Raises
        ------
        ConfigurationError
            If one is not set, or contains white space, which Ceph changes; the message does not quote it.
        """
        secrets = {}
        for topic in self.topics:
            value = ""
            if (variable := topic.opaque_data_variable) is not None:
                value = secret(variable) or ""
                if not value:
                    raise ConfigurationError(f"{variable} is not set: it must hold the secret of topic {topic.name}")
                if re.search(r"\s", value):
                    raise ConfigurationError(
                        f"{variable}: the secret of topic {topic.name} contains white space, which Ceph changes to +"
                    )
            secrets[topic.name] = SecretStr(value)
        return secrets


def _distinct(what: str, names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"{what}: {name} appears twice")
        seen.add(name)
