"""The configuration file: one frozen class per block, in the order of the file.

The file is YAML with camelCase keys; the Helm chart takes the same keys in its values. Unknown keys are refused.
Secrets are never in the file: see `autoingest.app.secrets`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    Field,
    field_validator,
    model_validator,
)

from ..model import buckets
from ..model.events import EXPOSURE_TYPES, EventType
from ..model.patterns import search
from .documents import Block, Document
from .secrets import REDIS_PASSWORD

CONFIG_VARIABLE = "AUTOINGEST_CONFIG"
"""Environment variable that names the configuration file."""

Role = Literal["enqueue", "ingest", "idle", "presence", "events", "reconcile", "status"]
ROLES: tuple[Role, ...] = ("enqueue", "ingest", "idle", "presence", "events", "reconcile", "status")
DEFAULT_ROLES: tuple[Role, ...] = ("enqueue", "ingest", "idle", "presence", "events")

EngineName = Literal["native", "stack"]
Grouping = Literal["one-to-one", "one-to-one-and-by-counter", "none"]
DifferingMetadata = Literal["keep", "update", "fail"]

Seconds = Annotated[float, Field(gt=0)]
Port = Annotated[int, Field(ge=0, le=65535)]


class Tls(Block):
    """TLS of a listener."""

    cert_file: Path
    """PEM file with the certificate and its chain. It is read once, at the start of the process."""

    key_file: Path | None = None
    """PEM file with the private key, unless ``certFile`` contains it."""


class Listen(Block):
    """Address, TLS and connection limits of a listener."""

    host: str | None = None
    """Address or host name to bind; by default all IPv4 and IPv6 addresses of the machine."""

    port: Port
    """TCP port; 0 chooses a free one."""

    tls: Tls | None = None
    """Certificate for TLS. Without it, connections are not encrypted."""

    max_connections: Annotated[int, Field(ge=1)] = 1000
    """Maximum number of open connections. When the limit is reached, a new connection replaces the one that has been
    idle longest (no request, an incomplete request or an incomplete TLS handshake). If none is idle, the new
    connection waits. A connection is never closed while its request is being processed."""

    patience: Seconds = 75.0
    """Idle timeout in seconds: a connection is closed this long after it was opened, or after its last answer, if no
    request arrives."""


class SentinelConfig(Block):
    """Redis Sentinels, which provide the address of the current primary."""

    hosts: Annotated[tuple[Annotated[str, Field(pattern=r"^\S+:\d+$")], ...], Field(min_length=1)]
    """Sentinels, each ``host:port``. They are asked one after the other, starting with the one that answered last."""

    service: Annotated[str, Field(min_length=1)]
    """Name of the monitored primary in the Sentinels' configuration, such as ``mymaster``."""

    username: str | None = None
    """User name for the Sentinels, if they use an access control list. The password comes from
    ``AUTOINGEST_SENTINEL_PASSWORD``."""


class RedisConfig(Block):
    """The Redis or Valkey server that all roles share."""

    url: str = "redis://127.0.0.1:6379/0"
    """``redis://``, ``rediss://`` (TLS) or ``unix://`` URL without a password; the password comes from
    ``AUTOINGEST_REDIS_PASSWORD``. With ``sentinel``, the host and port of the URL are ignored."""

    sentinel: SentinelConfig | None = None
    """Sentinels that provide the address of the primary for each new connection, if any."""

    replicas: Annotated[int, Field(ge=0)] = 0
    """Number of replicas that must confirm a notification before it is acknowledged (Redis's ``WAIT``). Too few
    confirmations count as a Redis outage. With 0, a failover can lose the most recent notifications; ``reconcile``
    finds and queues the affected files."""

    replica_timeout: Seconds = 2.0
    """Seconds to wait for the replicas' confirmation."""

    username: str | None = None
    """User name for Redis, if it uses an access control list; otherwise its default user."""

    ca_file: Path | None = None
    """PEM file with the certificate authorities for a ``rediss://`` URL; by default those of the system."""

    max_connections: Annotated[int, Field(ge=4)] = 64
    """Maximum number of connections per process."""

    socket_timeout: Seconds = 10.0
    """Seconds to wait for the answer to a command. After that, Redis counts as unavailable."""

    @field_validator("url")
    @classmethod
    def _no_password(cls, value: str) -> str:
        try:
            parts = urlsplit(value)
            holds_password = parts.password is not None or "password=" in value
            _ = parts.port
        except ValueError:
            raise ValueError("not a valid URL") from None
        if holds_password:
            raise ValueError(f"the URL must not contain a password: set {REDIS_PASSWORD}, or {REDIS_PASSWORD}_FILE")
        if not re.match("(redis|rediss|unix)://", value):
            raise ValueError("the URL must begin with redis://, rediss:// or unix://")
        if not value.startswith("unix://") and not re.fullmatch(r"/?[0-9]*", urlsplit(value).path):
            raise ValueError(
                f"{urlsplit(value).path[1:]!r} is not a database number; end the URL with a number such as /0"
            )
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


class KafkaConnection(Block):
    """How Kafka is reached."""

    bootstrap_servers: Annotated[tuple[Annotated[str, Field(pattern=r"^\S+:\d+$")], ...], Field(min_length=1)]
    """Bootstrap brokers, each ``host:port``."""

    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    """Whether connections are encrypted (``SSL``), and whether brokers require a user name and password (``SASL``)."""

    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    """SASL mechanism."""

    sasl_username: str | None = None
    """User name for SASL; the password comes from ``AUTOINGEST_KAFKA_PASSWORD``."""

    ca_file: Path | None = None
    """PEM file with the certificate authorities for the brokers; by default those of the system."""

    cert_file: Path | None = None
    """PEM file with a client certificate, if the brokers require one."""

    key_file: Path | None = None
    """PEM file with the private key of the client certificate, unless ``certFile`` contains it."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.security_protocol.startswith("SASL") != (self.sasl_username is not None):
            raise ValueError("saslUsername and a securityProtocol with SASL must be set together")
        files = self.ca_file or self.cert_file or self.key_file
        if files and not self.security_protocol.endswith("SSL"):
            raise ValueError("caFile, certFile and keyFile need a securityProtocol with SSL: SSL or SASL_SSL")
        if self.key_file and not self.cert_file:
            raise ValueError("keyFile needs certFile")
        return self


class KafkaConfig(KafkaConnection):
    """Notifications from Kafka, in addition to the webhook or instead of it."""

    topics: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(min_length=1)]
    """Topics with the notifications. A topic that does not exist does not delay the others."""

    group_id: Annotated[str, Field(min_length=1)]
    """Consumer group. All replicas of the role must use the same group; they share the partitions."""

    auto_offset_reset: Literal["earliest", "latest"] = "earliest"
    """Where to start reading a partition if the group has no committed offset, or if the committed offset no longer
    exists: at the first message, or at new messages only."""

    check_secret: bool = False
    """Whether records must carry one of ``AUTOINGEST_NOTIFICATION_SECRETS``, like those of the webhook. Otherwise
    every producer that may write to the topic is trusted."""


class EnqueueConfig(Block):
    """Role enqueue: receives notifications and queues the names of new objects."""

    listen: Listen | None = Listen(port=8000)
    """Listener for ``POST /notify``; null if all notifications come from Kafka."""

    kafka: KafkaConfig | None = None
    """Kafka topics to read notifications from, if any."""

    filter: str = r"\.fits(\.fz)?$"
    """Regular expression (RE2 syntax) that is searched in the object's key. Objects that do not match are ignored."""

    key_encoding: Literal["auto", "raw", "url"] = "auto"
    """How keys are written in notifications: ``raw``, ``url`` for URL-encoded, or ``auto`` to decide for each
    record."""

    hold: Seconds = 8.0
    """Seconds to delay an answer: while Redis is unavailable, before the answer is 503; and for a wrong secret, before
    the answer is 401. Must be shorter than the sender's timeout, which is 10 s for Ceph."""

    max_body: Annotated[int, Field(ge=1024)] = 2**20
    """Maximum size of an HTTP body or a Kafka message, in bytes."""

    max_bodies: Annotated[int, Field(ge=1024)] = 32 * 2**20
    """Maximum total size of all HTTP bodies in memory, in bytes. Beyond it, a request whose body does not fit is
    answered 503. The first 16 KiB of each body do not count."""

    max_rejected: Annotated[int, Field(ge=1)] = 10_000
    """Maximum number of rejected records kept per bucket; beyond that, the least recently seen is evicted."""

    @field_validator("filter")
    @classmethod
    def _compiles(cls, value: str) -> str:
        search(value)
        return value

    @model_validator(mode="after")
    def _has_source(self) -> Self:
        if self.listen is None and self.kafka is None:
            raise ValueError("there is no source of notifications: set listen, kafka or both")
        if self.max_bodies < self.max_body:
            raise ValueError(f"maxBody ({self.max_body}) <= maxBodies ({self.max_bodies}) must hold")
        if self.listen and self.listen.patience <= self.hold:
            raise ValueError(f"hold ({self.hold} s) < listen.patience ({self.listen.patience} s) must hold")
        return self


class IngestConfig(Block):
    """Role ingest: writes the queued files into the Butler repository."""

    repo: str
    """Butler repository: its directory, or the URL of its ``butler.yaml``."""

    engine: EngineName = "native"
    """Code that writes to the Butler: ``native`` is part of this program; ``stack`` uses the tasks of the Science
    Pipelines, whose package ``obs_lsst`` must be installed."""

    instruments: tuple[str, ...] = ()
    """Files, or folders of files, that describe additional instruments of the Large File Annex."""

    workers: Annotated[int, Field(ge=1, le=64)] = 1
    """Number of Butler processes in this pod. Each has two workers: one reads headers while the batch of the other is
    written."""

    batch_size: Annotated[int, Field(ge=1, le=2000)] = 250
    """Maximum number of files in a batch."""

    header_requests: Annotated[int, Field(ge=1, le=1000)] = 64
    """Maximum number of headers that one process reads concurrently from each bucket."""

    max_attempts: Annotated[int, Field(ge=1)] = 3
    """Number of failed attempts after which a file becomes a dead letter. Outages do not count."""

    retry_delay: Seconds = 5.0
    """Seconds until a failed file is retried; doubles with every attempt."""

    unreadable_wait: Seconds = 3600.0
    """Minimum time in seconds between a file's first failure and its dead letter, if the store fails for this file
    (5xx or timeout) but serves others. Until then the file is retried."""

    batch_timeout: Seconds = 40.0
    """Seconds that the Butler may take for a batch. After that, its process is killed and replaced."""

    lease: Seconds = 60.0
    """Duration of a worker's lease in seconds. The worker renews it every 3 s; when it expires, the batch returns to
    the queue."""

    drain: Seconds = 90.0
    """Maximum time in seconds from SIGTERM to the end of the process, even if work is unfinished. The pod's grace
    period must be longer."""

    visits: Grouping = "one-to-one"
    """How on-sky exposures are grouped into visits: each exposure is a visit; additionally, the snaps of a group form
    a visit; or no visits are defined."""

    visit_retry: Seconds = 60.0
    """Seconds until a visit that could not be defined is retried; doubles with every attempt, up to an hour."""

    differing_metadata: DifferingMetadata = "keep"
    """What to do if a header differs from the stored exposure record: ``keep`` the record and ingest the file,
    ``update`` the record and its visit from the header, or ``fail`` the file. A different obs_id, day_obs, group or
    filter always fails the file."""

    guider_wait: Seconds = 6 * 3600.0
    """Seconds that a guider image may wait for its exposure, counted from its first notification, before it becomes a
    dead letter."""

    guider_recheck: Seconds = 60.0
    """Seconds between checks whether the exposure of a waiting guider image has been ingested."""

    max_dead: Annotated[int, Field(ge=1)] = 100_000
    """Maximum number of complete dead letters per bucket. Beyond it, dead letters omit the exception text, and a file
    that does not exist in the store gets no dead letter. This keeps a sender from filling Redis with invented
    names."""

    record_expiry: Annotated[float, Field(ge=3600)] = 7 * 86400.0
    """Seconds that Redis keeps the record of an ingested file, about 400 bytes. The record distinguishes a repeated
    notification from a new version of the file. All other records are kept for a week after their last change."""

    exposure_webhook: str | None = None
    """URL that receives a POST with the ingested files of an exposure, if any."""

    @model_validator(mode="after")
    def _nested(self) -> Self:
        if not self.batch_timeout < self.lease < self.drain:
            raise ValueError(
                f"batchTimeout ({self.batch_timeout} s) < lease ({self.lease} s) < drain ({self.drain} s) must hold"
            )
        return self


class IdleConfig(Block):
    """Role idle: returns the work of dead workers to the queues."""

    interval: Seconds = 5.0
    """Seconds between checks."""

    old_worker_idle: Seconds = 10.0
    """Seconds without a change after which the files of a worker without a lease (of the previous ingest service)
    return to the queue."""


class PresenceListen(Listen):
    """Address, TLS and connection limits of the listener of presence."""

    max_connections: Annotated[int, Field(ge=1)] = 2500
    """Like that of other listeners, but higher by default: each waiting client has a connection."""


class PresenceConfig(Block):
    """Role presence: answers whether the image of a group, snap and detector has arrived."""

    listen: PresenceListen = PresenceListen(port=8001)
    """Listener for ``GET /presence/...``."""

    expiry: Seconds = 24 * 3600.0
    """Seconds that the arrival of an image is kept."""

    delete_on_sight: bool = False
    """Whether the first answer that reports an image deletes its presence key."""

    unauthenticated: bool = False
    """Whether ``/v2/presence`` needs no token. Otherwise it needs one of ``AUTOINGEST_READ_TOKEN``: pointings of
    embargoed exposures are confidential. Version 1 needs a token only if ``AUTOINGEST_PRESENCE_TOKEN`` is set."""

    butler: bool = False
    """Whether ``/v2/presence`` also looks groups up in the Butler (``ingest.repo``) that are older than the recorded
    arrivals."""


class EventsListen(Listen):
    """Address, TLS and connection limits of the listener of events."""

    max_connections: Annotated[int, Field(ge=1)] = 2500
    """Like that of other listeners, but higher by default: each client of a stream has a connection."""


class EventsKafka(KafkaConnection):
    """Kafka topic to which events are published."""

    topic: Annotated[str, Field(min_length=1)] = "lsst.autoingest.events"
    """Topic. The key of a message is ``{instrument}/{obs_id}``."""

    types: tuple[EventType, ...] = EXPOSURE_TYPES
    """Types of events that are published."""


class EventsWebhook(Block):
    """A receiver of events by HTTP."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,31}$")]
    """Name of the receiver: Redis keeps its position under it."""

    url: Annotated[str, Field(pattern=r"^https?://\S+$")]
    """URL to which each event is posted as structured JSON of CloudEvents 1.0. It is signed, as the specification
    Standard Webhooks says, if ``AUTOINGEST_WEBHOOK_SECRETS`` is set."""

    types: tuple[EventType, ...] = EXPOSURE_TYPES
    """Types of events that are posted."""

    attempts: Annotated[int, Field(ge=1)] = 5
    """Number of times that the receiver may refuse an event (4xx) until it becomes a dead letter. Outages do not
    count."""


class EventsConfig(Block):
    """Role events: tells what has happened to exposures and files."""

    listen: EventsListen = EventsListen(port=8003)
    """Listener for ``GET /events`` and ``GET /exposures``."""

    unauthenticated: bool = False
    """Whether no token is needed. Otherwise it needs one of ``AUTOINGEST_READ_TOKEN``: pointings of embargoed exposures
    are confidential."""

    source: Annotated[str, Field(pattern=r"^\S+$")] = "/autoingest"
    """Names this site in events, such as ``/autoingest/summit``."""

    path_prefix: Annotated[str, Field(pattern=r"^(/[A-Za-z0-9._~-]+)*$")] = ""
    """What an ingress puts before the paths, such as ``/autoingest``; both forms are then served."""

    kafka: EventsKafka | None = None
    """Kafka topic to which events are published, if any."""

    webhooks: tuple[EventsWebhook, ...] = ()
    """Receivers of events by HTTP."""

    keep: Annotated[int, Field(ge=100)] = 30_000
    """Number of events of exposures that Redis keeps, 1.2 kB each: about a week. A reader that falls further behind
    is told so, and has to ask for the state of the exposures."""

    files: bool = True
    """Whether there are also events of single files, ``file.ingested`` and ``file.failed``, in a stream of their
    own."""

    keep_files: Annotated[int, Field(ge=100)] = 200_000
    """Number of events of files that Redis keeps, about 500 bytes each: about a night."""

    deadline: Seconds = 60.0
    """Seconds after the first notification of an exposure when an incomplete exposure is told to be incomplete."""

    @field_validator("webhooks")
    @classmethod
    def _distinct(cls, value: tuple[EventsWebhook, ...]) -> tuple[EventsWebhook, ...]:
        names = [webhook.name for webhook in value]
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two receivers are called {repeated[0]!r}; give each a name of its own")
        if "kafka" in names:
            raise ValueError("a receiver can't be called 'kafka'; choose another name")
        return value


class ReconcileConfig(Block):
    """Role reconcile: compares store and Butler on a schedule. Runs if this block is present or ``roles`` lists it."""

    interval: Seconds = 3600.0
    """Seconds from the start of one comparison to the start of the next."""

    last: Seconds = 2 * 86400.0
    """Seconds to look back. All observing days in this period are compared completely."""

    heal: bool = True
    """Whether to queue files that are in the store but neither in the Butler, on the queue, in work nor dead letters,
    and to schedule the definition of missing visits."""

    grace: Seconds = 900.0
    """Seconds after an object was written during which it does not count as missing, because its notification may
    still arrive."""


class StatusConfig(Block):
    """Role status: a page that shows the site live. It runs where ``roles`` or ``--roles`` lists it."""

    listen: Listen = Listen(port=8004)
    """Listener for the page and ``GET /api/...``."""

    unauthenticated: bool = False
    """Whether no token is needed. Otherwise it needs one of ``AUTOINGEST_READ_TOKEN``, as a bearer token or as the
    password that the browser asks for: pointings of embargoed exposures are confidential."""

    path_prefix: Annotated[str, Field(pattern=r"^(/[A-Za-z0-9._~-]+)*$")] = ""
    """What an ingress puts before the paths, such as ``/autoingest-status``; both forms are then served."""


class AdminConfig(Block):
    """Health checks and metrics of the process."""

    listen: Listen = Listen(port=8002)
    """Listener for ``/livez``, ``/readyz`` and ``/metrics``."""


class LoggingConfig(Block):
    """Level and format of the log."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """Minimum severity of messages that are logged."""

    format: Literal["json", "console"] = "json"
    """``json``: one JSON object per line; ``console``: coloured text."""


class Config(Document):
    """The whole configuration."""

    buckets: Annotated[tuple[str, ...], Field(min_length=1)]
    """Buckets whose objects are ingested, each ``bucket``, or ``profile@bucket`` to read it with a named S3
    profile."""

    roles: tuple[Role, ...] = DEFAULT_ROLES
    """Roles that this process runs. ``reconcile`` is added by default if its block is present. ``--roles`` takes
    precedence."""

    logging: LoggingConfig = LoggingConfig()
    redis: RedisConfig = RedisConfig()
    enqueue: EnqueueConfig = EnqueueConfig()
    ingest: IngestConfig
    idle: IdleConfig = IdleConfig()
    presence: PresenceConfig = PresenceConfig()
    events: EventsConfig = EventsConfig()
    reconcile: ReconcileConfig = ReconcileConfig()
    status: StatusConfig = StatusConfig()
    admin: AdminConfig = AdminConfig()

    @model_validator(mode="before")
    @classmethod
    def _reconcile_where_configured(cls, data: Any) -> Any:
        if isinstance(data, dict) and "reconcile" in data:
            return {"roles": (*DEFAULT_ROLES, "reconcile"), **data}
        return data

    @field_validator("buckets")
    @classmethod
    def _distinct(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(buckets.configured_names(value)) != len(value):
            raise ValueError("a bucket is listed twice; list it once, with one profile")
        for bucket in value:
            if not re.fullmatch(buckets.PATTERN, bucket):
                raise ValueError(f"{bucket!r} is neither bucket nor profile@bucket")
        return value
