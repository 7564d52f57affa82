"""Every metric of the program, in one registry."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

REGISTRY = CollectorRegistry()

_LATENCY = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 900, 3600)

RECEIVED = Counter("autoingest_received", "Notification records that arrived", ["bucket"], registry=REGISTRY)
UNAUTHENTIC = Counter("autoingest_unauthentic", "Records dropped for a missing or unknown secret", registry=REGISTRY)
IGNORED = Counter(
    "autoingest_ignored",
    "Records that the filter or the kind of event leaves out",
    ["bucket"],
    registry=REGISTRY,
)
REJECTED = Counter("autoingest_rejected", "Records recorded as rejected", ["bucket"], registry=REGISTRY)
REJECTED_FORGOTTEN = Counter(
    "autoingest_rejected_forgotten", "Rejected records removed because there were too many", ["bucket"],
    registry=REGISTRY,
)  # fmt: skip
EVENTS_FORGOTTEN = Counter(
    "autoingest_events_forgotten", "Events of files forgotten because there were too many of one file", ["bucket"],
    registry=REGISTRY,
)  # fmt: skip
DUPLICATE = Counter("autoingest_duplicate", "Records of objects already known", ["bucket"], registry=REGISTRY)
QUEUED = Counter("autoingest_queued", "Objects put on a queue", ["bucket"], registry=REGISTRY)
NOTIFY_SECONDS = Histogram(
    "autoingest_notify_seconds", "Seconds to answer a notification request", registry=REGISTRY,
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)  # fmt: skip

KAFKA_LAG = Gauge(
    "autoingest_kafka_lag", "Messages of this process's partitions that are not in Redis yet; none while Kafka is away",
    ["topic"], registry=REGISTRY,
)  # fmt: skip

INGESTED = Counter("autoingest_ingested", "Files now in the Butler", ["bucket", "instrument"], registry=REGISTRY)
REPLACED = Counter(
    "autoingest_replaced", "Files replaced in the store since their ingest, whose new size the Butler has learnt",
    ["bucket"], registry=REGISTRY,
)  # fmt: skip
FAILED = Counter("autoingest_failed", "Failed attempts", ["bucket", "reason"], registry=REGISTRY)
DEAD = Counter("autoingest_dead", "Files given up with a dead letter", ["bucket", "reason"], registry=REGISTRY)
DEAD_FORGOTTEN = Counter(
    "autoingest_dead_forgotten", "Files missing in the store, given up without a dead letter as there were too many",
    ["bucket"], registry=REGISTRY,
)  # fmt: skip
WAITING = Counter("autoingest_waited", "Files that began to wait", ["bucket", "reason"], registry=REGISTRY)
OUTAGES = Counter("autoingest_outages", "Batches held up by something away", ["bucket"], registry=REGISTRY)
VISITS = Counter("autoingest_visits", "Visits defined", ["instrument"], registry=REGISTRY)
DIFFERENCES_KEPT = Counter(
    "autoingest_differences_kept", "Fields of stored exposures that stayed though a header differs",
    ["instrument", "field"], registry=REGISTRY,
)  # fmt: skip
WEBHOOK_FAILED = Counter("autoingest_webhook_failed", "Exposure webhook calls that failed", registry=REGISTRY)
BATCH_FILES = Histogram(
    "autoingest_batch_files",
    "Files that were written together",
    registry=REGISTRY,
    buckets=(1, 2, 5, 10, 25, 50, 100, 205, 500),
)
BATCH_SECONDS = Histogram(
    "autoingest_batch_seconds", "Seconds of a batch, by step", ["step"], registry=REGISTRY,
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)  # fmt: skip
RECLAIMED = Counter("autoingest_reclaimed", "Files taken back from dead workers", ["bucket"], registry=REGISTRY)

TO_QUEUED = Histogram(
    "autoingest_creation_to_queued_seconds", "Seconds from an object's creation to the queue", ["bucket"],
    registry=REGISTRY, buckets=_LATENCY,
)  # fmt: skip
TO_PRESENCE = Histogram(
    "autoingest_creation_to_presence_seconds", "Seconds from an object's creation to its presence key", ["bucket"],
    registry=REGISTRY, buckets=_LATENCY,
)  # fmt: skip
TO_INGESTED = Histogram(
    "autoingest_creation_to_ingested_seconds", "Seconds from an object's creation to the Butler", ["bucket"],
    registry=REGISTRY, buckets=_LATENCY,
)  # fmt: skip

CONNECTIONS_CLOSED = Counter(
    "autoingest_connections_closed",
    "Connections closed for want of a whole request, for a malformed one, or for others to be served",
    ["listener", "why"], registry=REGISTRY,
)  # fmt: skip

PRESENCE = Counter("autoingest_presence_lookups", "Presence lookups, by answer", ["answer"], registry=REGISTRY)

QUEUE_DEPTH = Gauge("autoingest_queue_depth", "Objects on the queue", ["bucket"], registry=REGISTRY)
QUEUE_AGE = Gauge(
    "autoingest_queue_oldest_seconds", "Seconds since the queue's oldest entry was received", ["bucket"],
    registry=REGISTRY,
)  # fmt: skip
DEAD_LETTERS = Gauge("autoingest_dead_letters", "Dead letters on record", ["bucket"], registry=REGISTRY)
OWED_VISITS = Gauge(
    "autoingest_owed_visits", "Exposures in the Butler of which a visit is not", ["bucket"], registry=REGISTRY
)
WAITING_FILES = Gauge("autoingest_waiting_files", "Files waiting", ["bucket"], registry=REGISTRY)
WORKING_FILES = Gauge(
    "autoingest_working_files", "Files in work, of living and dead workers", ["bucket"], registry=REGISTRY
)
WORKERS = Gauge("autoingest_workers", "Workers whose lease lasts", ["bucket"], registry=REGISTRY)
REDIS_UP = Gauge("autoingest_redis_up", "Whether Redis answered when this was asked", registry=REGISTRY)

RECONCILED = Gauge(
    "autoingest_reconcile_exposures", "Exposures of the last complete look, by verdict", ["bucket", "verdict"],
    registry=REGISTRY,
)  # fmt: skip
RECONCILE_HEALED = Counter(
    "autoingest_reconcile_healed", "Missing files and visits that were handed on", ["bucket"], registry=REGISTRY
)
RECONCILE_TIME = Gauge(
    "autoingest_reconcile_last_success_timestamp_seconds", "Epoch seconds of the end of the last complete look",
    registry=REGISTRY,
)  # fmt: skip
ROLE_ERRORS = Counter(
    "autoingest_role_errors", "Unforeseen errors of the roles idle and reconcile, which go on", ["role"],
    registry=REGISTRY,
)  # fmt: skip
RECONCILE_FAILED = Counter(
    "autoingest_reconcile_failed", "Looks given up because store, Butler or Redis were away", registry=REGISTRY
)
