"""The configuration file, one frozen class a block, in the file's order.

The file is YAML in camelCase: the same block that a deployment's values carry. Unknown keys are refused. Secrets are
never in it: they come from environment variables, or from files that environment variables with the suffix
``_FILE`` name.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    Field,
    SecretStr,
    field_validator,
    model_validator,
)

from ..errors import ConfigurationError
from ..model.patterns import search
from .documents import Block, Document

Role = Literal["enqueue", "ingest", "idle", "presence", "reconcile"]
ROLES: tuple[Role, ...] = ("enqueue", "ingest", "idle", "presence", "reconcile")
DEFAULT_ROLES = ROLES[:4]

REDIS_PASSWORD = "AUTOINGEST_REDIS_PASSWORD"  # noqa: S105 - the variable's name
SENTINEL_PASSWORD = "AUTOINGEST_SENTINEL_PASSWORD"  # noqa: S105
NOTIFICATION_SECRETS = "AUTOINGEST_NOTIFICATION_SECRETS"
KAFKA_PASSWORD = "AUTOINGEST_KAFKA_PASSWORD"  # noqa: S105
ADMIN_TOKEN = "AUTOINGEST_ADMIN_TOKEN"  # noqa: S105
PRESENCE_TOKEN = "AUTOINGEST_PRESENCE_TOKEN"  # noqa: S105

FOREIGN_SECRETS = (
    "S3_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "PGPASSWORD",
)  # fmt: skip
"""Variables of other programs that may hold a secret."""

EngineName = Literal["native", "stack"]
Grouping = Literal["one-to-one", "one-to-one-and-by-counter", "none"]
DifferingMetadata = Literal["keep", "update", "fail"]

Seconds = Annotated[float, Field(gt=0)]
Port = Annotated[int, Field(ge=0, le=65535)]


class Tls(Block):
    """What a listener shows to its clients, who then speak TLS with it."""

    cert_file: Path
    """PEM file of the certificate and those that certify it. It is read at the start."""

    key_file: Path | None = None
    """PEM file of the certificate's key, unless it is in ``certFile``."""


class Listen(Block):
    """Where a listener binds, and its limits."""

    host: str | None = None
    """Address or name to bind; without it, all addresses of the machine, IPv4 and IPv6."""

    port: Port
    """TCP port; 0 takes a free one."""

    tls: Tls | None = None
    """Certificate for TLS; without it, requests and answers can be read on their way."""

    max_connections: Annotated[int, Field(ge=1)] = 1000
    """Most connections at once. A further one takes the place of the one whose client has kept us waiting for longest
    (for a request, the rest of its body, a TLS handshake), or waits; a connection whose request is being answered keeps
    its place."""

    patience: Seconds = 75.0
    """Seconds that a connection may be without a request, from its opening or from the answer before."""


class SentinelConfig(Block):
    """Redis Sentinels, which know the current primary."""

    hosts: Annotated[tuple[Annotated[str, Field(pattern=r"^\S+:\d+$")], ...], Field(min_length=1)]
    """Sentinels, each ``host:port``. They are asked in turn, the one that answered last first."""

    service: Annotated[str, Field(min_length=1)]
    """Name under which the Sentinels watch the primary, such as ``mymaster``."""

    username: str | None = None
    """User of the Sentinels' own access control list; their password is ``AUTOINGEST_SENTINEL_PASSWORD``, if they
    want one."""


class RedisConfig(Block):
    """The Redis or Valkey server that all roles share."""

    url: str = "redis://127.0.0.1:6379/0"
    """``redis://``, ``rediss://`` (TLS) or ``unix://`` URL without password; the password is
    ``AUTOINGEST_REDIS_PASSWORD``. With ``sentinel``, host and port of the URL do not matter."""

    sentinel: SentinelConfig | None = None
    """Sentinels that are asked for the primary before each new connection, if any."""

    replicas: Annotated[int, Field(ge=0)] = 0
    """Replicas that must have confirmed a notification before it is acknowledged (Redis's ``WAIT``). Too few are
    treated as an outage. With 0, a failover may lose the last notifications before it, which ``reconcile`` brings
    back."""

    replica_timeout: Seconds = 2.0
    """Seconds to wait for their confirmation."""

    username: str | None = None
    """User of Redis's access control list; its default user if there is none."""

    ca_file: Path | None = None
    """PEM file of the authorities that certify the server of a ``rediss://`` URL; the system's by default."""

    max_connections: Annotated[int, Field(ge=4)] = 64
    """Connections of one process at the most."""

    socket_timeout: Seconds = 10.0
    """Seconds after which an unanswered command counts as Redis being away."""

    @field_validator("url")
    @classmethod
    def _no_password(cls, value: str) -> str:
        try:
            parts = urlsplit(value)
            holds_password = parts.password is not None or "password=" in value
            _ = parts.port
        except ValueError:
            raise ValueError("not a URL, or its port is no port") from None
        if holds_password:
            raise ValueError(f"a password does not belong here: set {REDIS_PASSWORD}, or {REDIS_PASSWORD}_FILE")
        if not re.match("(redis|rediss|unix)://", value):
            raise ValueError("neither redis:// nor rediss:// nor unix://")
        if not value.startswith("unix://") and not re.fullmatch(r"/?[0-9]*", urlsplit(value).path):
            raise ValueError(f"{urlsplit(value).path[1:]!r} is no number of a database")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.ca_file and not self.url.startswith("rediss://"):
            raise ValueError("caFile needs a url with rediss://")
        if self.sentinel and self.url.startswith("unix://"):
            raise ValueError("sentinel needs a url with redis:// or rediss://")
        if self.replicas and self.replica_timeout >= self.socket_timeout:
            raise ValueError(
                f"replicaTimeout ({self.replica_timeout} s) < socketTimeout ({self.socket_timeout} s) must hold"
            )
        return self


class KafkaConfig(Block):
    """Notifications from Kafka, beside the webhook or instead of it."""

    bootstrap_servers: Annotated[tuple[Annotated[str, Field(pattern=r"^\S+:\d+$")], ...], Field(min_length=1)]
    """Brokers to begin with, each ``host:port``."""

    topics: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(min_length=1)]
    """Topics with the notifications. One that does not exist yet, or no longer, does not hold up the others."""

    group_id: Annotated[str, Field(min_length=1)]
    """Consumer group. All replicas name the same one, and share the partitions."""

    auto_offset_reset: Literal["earliest", "latest"] = "earliest"
    """Where a partition is read from if the group has committed nothing, or if what it has committed has been deleted:
    from its first message, or only what comes from now on."""

    check_secret: bool = False
    """Whether records must carry one of ``AUTOINGEST_NOTIFICATION_SECRETS``, as those of the webhook. Otherwise who may
    write to the topic is believed."""

    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    """Whether connections are encrypted (``SSL``), and whether brokers ask for a name and password (``SASL``)."""

    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    """How the password is proven."""

    sasl_username: str | None = None
    """Name for SASL; the password is ``AUTOINGEST_KAFKA_PASSWORD``."""

    ca_file: Path | None = None
    """PEM file of the authorities that certify the brokers; the system's by default."""

    cert_file: Path | None = None
    """PEM file of a certificate that this client shows, if brokers want one."""

    key_file: Path | None = None
    """PEM file of that certificate's key, unless it is in ``certFile``."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.security_protocol.startswith("SASL") != (self.sasl_username is not None):
            raise ValueError("saslUsername and a securityProtocol with SASL go together")
        files = self.ca_file or self.cert_file or self.key_file
        if files and not self.security_protocol.endswith("SSL"):
            raise ValueError("caFile, certFile and keyFile need a securityProtocol with SSL")
        if self.key_file and not self.cert_file:
            raise ValueError("keyFile needs certFile")
        return self


class EnqueueConfig(Block):
    """Role enqueue: notifications in, object names onto the queues."""

    listen: Listen | None = Listen(port=8000)
    """Where ``POST /notify`` is served; null where all notifications come from Kafka."""

    kafka: KafkaConfig | None = None
    """Topics that notifications are read from, if any."""

    filter: str = r"\.fits(\.fz)?$"
    """Regular expression, as RE2 knows them, searched in the object's key; objects that don't match are ignored."""

    key_encoding: Literal["auto", "raw", "url"] = "auto"
    """How the sender writes keys: as they are, URL-encoded, or decide from the record."""

    hold: Seconds = 8.0
    """Seconds for which an answer is held back while Redis is away, before it becomes a 503, and before a wrong secret
    is answered 401. Below the sender's timeout: 10 s for Ceph."""

    max_body: Annotated[int, Field(ge=1024)] = 2**20
    """Bytes of a message at the most, by HTTP and by Kafka."""

    max_bodies: Annotated[int, Field(ge=1024)] = 32 * 2**20
    """Bytes of all bodies together that are in memory. Beyond it, long ones are answered 503. The first 16 KiB of each
    do not count."""

    max_rejected: Annotated[int, Field(ge=1)] = 10_000
    """Rejected records that are kept of each bucket; beyond that the one last seen longest ago is dropped."""

    @field_validator("filter")
    @classmethod
    def _compiles(cls, value: str) -> str:
        search(value)
        return value

    @model_validator(mode="after")
    def _has_source(self) -> Self:
        if self.listen is None and self.kafka is None:
            raise ValueError("notifications come from nowhere: set listen, kafka or both")
        if self.max_bodies < self.max_body:
            raise ValueError(f"maxBody ({self.max_body}) <= maxBodies ({self.max_bodies}) must hold")
        if self.listen and self.listen.patience <= self.hold:
            raise ValueError(f"hold ({self.hold} s) < listen.patience ({self.listen.patience} s) must hold")
        return self


class IngestConfig(Block):
    """Role ingest: from the queues into the Butler."""

    repo: str
    """Butler repository: directory or URL of its ``butler.yaml``."""

    engine: EngineName = "native"
    """Which code writes the Butler: ``native`` needs nothing else; ``stack`` has it done by the tasks of the Science
    Pipelines, which must be installed (their package ``obs_lsst``)."""

    instruments: tuple[str, ...] = ()
    """Files, or folders of files, that describe instruments of the Large File Annex beyond those that the program
    knows."""

    workers: Annotated[int, Field(ge=1, le=64)] = 1
    """Butler processes of this pod. Each has two lanes: one reads headers while the other's batch is written."""

    batch_size: Annotated[int, Field(ge=1, le=2000)] = 250
    """Files of one batch at the most."""

    header_requests: Annotated[int, Field(ge=1, le=1000)] = 64
    """Images of each bucket whose headers are read at once, by one process."""

    max_attempts: Annotated[int, Field(ge=1)] = 3
    """Failed attempts after which a file becomes a dead letter. Outages do not count."""

    retry_delay: Seconds = 5.0
    """Seconds before a failed file is tried again; doubles with every attempt."""

    unreadable_wait: Seconds = 3600.0
    """Seconds from its first failure before which a file does not become a dead letter while the store answers for it
    with errors of its own (5xx) or too late, but serves other files. It is tried again and again meanwhile."""

    batch_timeout: Seconds = 40.0
    """Seconds that the Butler may take for one batch before its process is replaced."""

    lease: Seconds = 60.0
    """Seconds after its last renewal (every 3 s) at which a worker's lease ends and its batch is given to others."""

    drain: Seconds = 90.0
    """Seconds from SIGTERM until the process ends, whatever is unfinished; the pod's grace period must be longer."""

    visits: Grouping = "one-to-one"
    """How exposures on the sky are grouped into visits: each is one; each is one and the snaps of a group are another;
    or none are defined."""

    visit_retry: Seconds = 60.0
    """Seconds after which a visit that could not be defined is tried again; doubles with every attempt up to an
    hour."""

    differing_metadata: DifferingMetadata = "keep"
    """What happens when a header differs from the stored exposure: ``keep`` the stored record and ingest the file,
    ``update`` the record and its visit from the header, or ``fail`` the file. Another obs_id, day, group or filter
    always fails."""

    guider_wait: Seconds = 6 * 3600.0
    """Seconds that a guider waits for its exposure, from its first arrival, before it becomes a dead letter."""

    guider_recheck: Seconds = 60.0
    """Seconds after which a waiting guider is looked at again even though nobody has announced its exposure."""

    max_dead: Annotated[int, Field(ge=1)] = 100_000
    """Dead letters of a bucket that are kept in full. Further ones lack the exception's text, and a file that is not in
    the store gets none, so that no sender can fill Redis with names."""

    record_expiry: Annotated[float, Field(ge=3600)] = 7 * 86400.0
    """Seconds that Redis keeps the record of an ingested file, which tells a repeated notification from a new version;
    about 400 bytes a file. All other records are kept for a week after their last change."""

    exposure_webhook: str | None = None
    """URL that is told which files of an exposure are in, if any."""

    @model_validator(mode="after")
    def _nested(self) -> Self:
        if not self.batch_timeout < self.lease < self.drain:
            raise ValueError(
                f"batchTimeout ({self.batch_timeout} s) < lease ({self.lease} s) < drain ({self.drain} s) must hold"
            )
        return self


class IdleConfig(Block):
    """Role idle: the work of dead workers back to the queues."""

    interval: Seconds = 5.0
    """Seconds between two looks."""

    old_worker_idle: Seconds = 10.0
    """Seconds without a change after which the list of a worker that never took a lease is given back."""


class PresenceConfig(Block):
    """Role presence: whether the image of a group, snap and detector has arrived."""

    listen: Listen = Listen(port=8001, max_connections=2500)
    """Where ``GET /presence/...`` is served."""

    expiry: Seconds = 24 * 3600.0
    """Seconds for which an arrival is remembered."""

    delete_on_sight: bool = False
    """Whether an answer removes what it told."""


class ReconcileConfig(Block):
    """Role reconcile: the store against the Butler on a schedule; runs where this block or ``roles`` names it."""

    interval: Seconds = 3600.0
    """Seconds between the begins of two looks."""

    last: Seconds = 2 * 86400.0
    """Seconds to look back; the observing days of that time are looked at as a whole."""

    heal: bool = True
    """Whether what is in the store, but neither in the Butler nor on the way nor dead, is queued, and visits that are
    missing are noted as owed."""

    grace: Seconds = 900.0
    """Seconds for which an object is left alone after it was written, as its notification may be under way."""


class AdminConfig(Block):
    """Health and metrics of the process."""

    listen: Listen = Listen(port=8002)
    """Where ``/livez``, ``/readyz`` and ``/metrics`` are served."""


class LoggingConfig(Block):
    """What is logged and how."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """Least severity that is logged."""

    format: Literal["json", "console"] = "json"
    """One JSON object a line, or coloured text."""


class Config(Document):
    """The whole configuration."""

    buckets: Annotated[tuple[str, ...], Field(min_length=1)]
    """Buckets whose objects are ingested, each ``bucket`` or ``profile@bucket`` where a named S3 profile reads it."""

    roles: tuple[Role, ...] = DEFAULT_ROLES
    """Roles that this process runs, by default reconcile too if it has a block; ``--roles`` takes precedence."""

    logging: LoggingConfig = LoggingConfig()
    redis: RedisConfig = RedisConfig()
    enqueue: EnqueueConfig = EnqueueConfig()
    ingest: IngestConfig
    idle: IdleConfig = IdleConfig()
    presence: PresenceConfig = PresenceConfig()
    reconcile: ReconcileConfig = ReconcileConfig()
    admin: AdminConfig = AdminConfig()

    @model_validator(mode="before")
    @classmethod
    def _reconcile_where_configured(cls, data: Any) -> Any:
        return {"roles": ROLES, **data} if isinstance(data, dict) and "reconcile" in data else data

    @field_validator("buckets")
    @classmethod
    def _distinct(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        names = [bucket.rpartition("@")[2] for bucket in value]
        if len(set(names)) != len(names):
            raise ValueError("a bucket is named twice; one bucket is read with one profile")
        for bucket in value:
            if not re.fullmatch(r"([A-Za-z0-9_-]+@)?[A-Za-z0-9][A-Za-z0-9._:-]*", bucket):
                raise ValueError(f"{bucket!r} is neither bucket nor profile@bucket")
        return value


def redis_password() -> SecretStr | None:
    """Redis password from the environment, if there is one."""
    return _password(REDIS_PASSWORD)


def sentinel_password() -> SecretStr | None:
    """Password of the Redis Sentinels from the environment, if there is one."""
    return _password(SENTINEL_PASSWORD)


def notification_secrets() -> tuple[SecretStr, ...]:
    """Secrets that notifications may carry, from the environment: several at once are separated by white space."""
    return tokens(NOTIFICATION_SECRETS)


def kafka_password() -> SecretStr | None:
    """Password for Kafka from the environment, if there is one."""
    return _password(KAFKA_PASSWORD)


def _password(name: str) -> SecretStr | None:
    value = secret(name)
    return SecretStr(value) if value else None


def tokens(name: str) -> tuple[SecretStr, ...]:
    """Secrets from the environment variable `name`: several that are valid at once are separated by white space."""
    return tuple(SecretStr(text) for text in (secret(name) or "").split())


def strip_foreign_secrets() -> None:
    """Take white space from around what libraries, and the Butler process, read from the environment themselves."""
    for name, value in os.environ.items():
        if name in FOREIGN_SECRETS or name.startswith("LSST_RESOURCES_S3_PROFILE_"):
            os.environ[name] = value.strip()


def secret(name: str) -> str | None:
    """Return what an environment variable holds, or the file that the variable with the suffix ``_FILE`` names.

    White space around it is no part of it: it comes from the editor or the ``echo`` that wrote it.

    Raises
    ------
    ConfigurationError
        If the file can't be read, or holds nothing.
    """
    if file := os.environ.get(name + "_FILE"):
        try:
            found = Path(file).read_text().strip()
        except (OSError, UnicodeDecodeError) as err:
            raise ConfigurationError(f"{name}_FILE: {file} can't be read: {err}") from err
        if not found:
            raise ConfigurationError(f"{name}_FILE: {file} holds nothing")
        return found
    return (os.environ.get(name) or "").strip() or None
