"""Every metric of the program, in one registry."""

from __future__ import annotations

import platform

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
    disable_created_metrics,
)

from .. import __version__

# Roles prepare the counters that alerts watch with all their labels: Prometheus does not see the first increase of a
# series that begins with it.
disable_created_metrics()  # type: ignore[no-untyped-call]
REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)

_LATENCY = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 900, 3600)

BUILD = Info("autoingest_build", "Version of the program and of Python", registry=REGISTRY)
BUILD.info({"version": __version__, "python": platform.python_version()})
DEPENDENCY_UP = Gauge(
    "autoingest_dependency_up", "Whether this process can use Redis, the Butler, the store, Kafka or an event reader",
    ["dependency"], registry=REGISTRY,
)  # fmt: skip
DEPENDENCY_DOWN_SINCE = Gauge(
    "autoingest_dependency_down_since_timestamp_seconds", "Since when this process can't use it; absent while it can",
    ["dependency"], registry=REGISTRY,
)  # fmt: skip
CERTIFICATE_EXPIRY = Gauge(
    "autoingest_certificate_expiry_timestamp_seconds", "When the certificate of a listener expires", ["listener"],
    registry=REGISTRY,
)  # fmt: skip

RECEIVED = Counter("autoingest_received", "Notification records received", ["bucket"], registry=REGISTRY)
UNAUTHENTIC = Counter("autoingest_unauthentic", "Records without a valid secret", registry=REGISTRY)
IGNORED = Counter(
    "autoingest_ignored",
    "Records ignored because of the filter or the type of event",
    ["bucket"],
    registry=REGISTRY,
)
REJECTED = Counter("autoingest_rejected", "Records rejected because they were invalid", ["bucket"], registry=REGISTRY)
REJECTED_FORGOTTEN = Counter(
    "autoingest_rejected_forgotten", "Rejected records evicted because the limit was reached", ["bucket"],
    registry=REGISTRY,
)  # fmt: skip
EVENTS_FORGOTTEN = Counter(
    "autoingest_events_forgotten", "Event ids forgotten because one file had too many events", ["bucket"],
    registry=REGISTRY,
)  # fmt: skip
DUPLICATE = Counter("autoingest_duplicate", "Records of objects that were already known", ["bucket"], registry=REGISTRY)
QUEUED = Counter("autoingest_queued", "Objects put on a queue", ["bucket"], registry=REGISTRY)
NOTIFY_SECONDS = Histogram(
    "autoingest_notify_seconds", "Seconds to answer a notification", registry=REGISTRY,
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)  # fmt: skip

KAFKA_LAG = Gauge(
    "autoingest_kafka_lag", "Messages in this process's partitions not in Redis yet; absent while Kafka is away",
    ["topic"], registry=REGISTRY,
)  # fmt: skip

INGESTED = Counter("autoingest_ingested", "Files now in the Butler", ["bucket", "instrument"], registry=REGISTRY)
REPLACED = Counter(
    "autoingest_replaced", "Ingested files that were replaced in the store and whose size was updated in the Butler",
    ["bucket"], registry=REGISTRY,
)  # fmt: skip
FAILED = Counter("autoingest_failed", "Failed attempts", ["bucket", "reason"], registry=REGISTRY)
DEAD = Counter("autoingest_dead", "Files that became dead letters", ["bucket", "reason"], registry=REGISTRY)
DEAD_FORGOTTEN = Counter(
    "autoingest_dead_forgotten", "Files not in the store, given up without a dead letter at the limit",
    ["bucket"], registry=REGISTRY,
)  # fmt: skip
WAITING = Counter("autoingest_waited", "Files deferred", ["bucket", "reason"], registry=REGISTRY)
OUTAGES = Counter("autoingest_outages", "Batches delayed by an outage", ["bucket"], registry=REGISTRY)
VISITS = Counter("autoingest_visits", "Visits defined", ["instrument"], registry=REGISTRY)
DIFFERENCES_KEPT = Counter(
    "autoingest_differences_kept", "Fields of stored exposure records that were kept although a header differed",
    ["instrument", "field"], registry=REGISTRY,
)  # fmt: skip
WEBHOOK_FAILED = Counter("autoingest_webhook_failed", "Exposure webhook calls that failed", registry=REGISTRY)
BATCH_FILES = Histogram(
    "autoingest_batch_files",
    "Files per batch",
    registry=REGISTRY,
    buckets=(1, 2, 5, 10, 25, 50, 100, 205, 500),
)
BATCH_SECONDS = Histogram(
    "autoingest_batch_seconds", "Seconds per batch, by step", ["step"], registry=REGISTRY,
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)  # fmt: skip
RECLAIMED = Counter("autoingest_reclaimed", "Files recovered from dead workers", ["bucket"], registry=REGISTRY)

TO_QUEUED = Histogram(
    "autoingest_creation_to_queued_seconds", "Seconds from an object's creation until it is queued", ["bucket"],
    registry=REGISTRY, buckets=_LATENCY,
)  # fmt: skip
TO_PRESENCE = Histogram(
    "autoingest_creation_to_presence_seconds", "Seconds from an object's creation until its presence is known",
    ["bucket"], registry=REGISTRY, buckets=_LATENCY,
)  # fmt: skip
TO_INGESTED = Histogram(
    "autoingest_creation_to_ingested_seconds", "Seconds from an object's creation until it is in the Butler",
    ["bucket"], registry=REGISTRY, buckets=_LATENCY,
)  # fmt: skip

CONNECTIONS_CLOSED = Counter(
    "autoingest_connections_closed",
    "Connections closed, by reason: idle timeout, connection limit, malformed request, failed handshake",
    ["listener", "why"], registry=REGISTRY,
)  # fmt: skip

PRESENCE = Counter("autoingest_presence_lookups", "Presence lookups, by answer", ["answer"], registry=REGISTRY)
PRESENCE_WAITING = Gauge(
    "autoingest_presence_waiting", "Requests to version 2 of presence that wait for an arrival", registry=REGISTRY
)

QUEUE_DEPTH = Gauge("autoingest_queue_depth", "Objects on the queue", ["bucket"], registry=REGISTRY)
QUEUE_AGE = Gauge(
    "autoingest_queue_oldest_seconds", "Age in seconds of the oldest entry in the queue", ["bucket"],
    registry=REGISTRY,
)  # fmt: skip
WORK_AGE = Gauge(
    "autoingest_working_oldest_seconds", "Seconds since the oldest file in work was announced", ["bucket"],
    registry=REGISTRY,
)  # fmt: skip
WAITING_AGE = Gauge(
    "autoingest_waiting_oldest_seconds", "Seconds since the oldest of the next files due was announced",
    ["bucket"], registry=REGISTRY,
)  # fmt: skip
DEAD_LETTERS = Gauge("autoingest_dead_letters", "Dead letters on record", ["bucket"], registry=REGISTRY)
OWED_VISITS = Gauge(
    "autoingest_owed_visits", "Exposures in the Butler whose visits are not defined yet", ["bucket"], registry=REGISTRY
)
WAITING_FILES = Gauge("autoingest_waiting_files", "Files waiting", ["bucket"], registry=REGISTRY)
WORKING_FILES = Gauge("autoingest_working_files", "Files held by workers, alive or dead", ["bucket"], registry=REGISTRY)
WORKERS = Gauge("autoingest_workers", "Living workers", ["bucket"], registry=REGISTRY)
PROCESSES = Gauge("autoingest_processes", "Processes of the site, alive and silent ones", ["state"], registry=REGISTRY)
CANARY_TIME = Gauge(
    "autoingest_canary_last_timestamp_seconds", "When the last canary of a bucket arrived; absent without canaries",
    ["bucket"], registry=REGISTRY,
)  # fmt: skip
REDIS_MEMORY = Gauge("autoingest_redis_memory_bytes", "Memory that Redis uses", registry=REGISTRY)
REDIS_MAX_MEMORY = Gauge("autoingest_redis_max_memory_bytes", "maxmemory of Redis; 0: no limit", registry=REGISTRY)
REDIS_PERSISTENT = Gauge(
    "autoingest_redis_persistent", "Whether Redis keeps a log of writes, and its last write and snapshot succeeded",
    registry=REGISTRY,
)  # fmt: skip
REDIS_UP = Gauge("autoingest_redis_up", "Whether Redis answered when the metrics were collected", registry=REGISTRY)

EXPOSURES_IN_PROGRESS = Gauge(
    "autoingest_exposures_in_progress", "Exposures of which detectors, the visit, or both are missing", ["bucket"],
    registry=REGISTRY,
)  # fmt: skip
EXPOSURES_INCOMPLETE = Counter(
    "autoingest_exposures_incomplete", "Exposures that were incomplete when events.deadline had passed", ["bucket"],
    registry=REGISTRY,
)  # fmt: skip

EVENT_CLIENTS = Gauge("autoingest_event_clients", "Open streams of server-sent events", registry=REGISTRY)
EVENT_GAPS = Counter(
    "autoingest_event_gaps",
    "Times that a reader of events was too far behind, by reader",
    ["reader"],
    registry=REGISTRY,
)

EVENT_LAG = Gauge(
    "autoingest_event_lag_seconds", "Age in seconds of the oldest event that a reader has not got",
    ["reader", "stream"], registry=REGISTRY,
)  # fmt: skip
EVENTS_REFUSED = Counter(
    "autoingest_events_refused", "Events that a webhook has refused, by reader", ["reader"], registry=REGISTRY
)

RECONCILED = Gauge(
    "autoingest_reconcile_exposures", "Exposures of the last reconciliation, by verdict", ["bucket", "verdict"],
    registry=REGISTRY,
)  # fmt: skip
RECONCILE_HEALED = Counter(
    "autoingest_reconcile_healed",
    "Missing files queued and missing visits scheduled",
    ["bucket"],
    registry=REGISTRY,
)
RECONCILE_TIME = Gauge(
    "autoingest_reconcile_last_success_timestamp_seconds", "When the last complete reconciliation ended",
    registry=REGISTRY,
)  # fmt: skip
ROLE_ERRORS = Counter(
    "autoingest_role_errors", "Unexpected errors of events, idle, reconcile and status, which continue", ["role"],
    registry=REGISTRY,
)  # fmt: skip
RECONCILE_FAILED = Counter(
    "autoingest_reconcile_failed",
    "Reconciliations that failed",
    registry=REGISTRY,
)
