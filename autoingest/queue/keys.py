"""The names of all Redis keys.

The first group is shared with the services that this program replaces: names, types and meanings are theirs. The
second group is ours. ``bucket`` includes the profile, as in ``embargo@rubin-summit``.
"""

from __future__ import annotations

FILE_EXPIRY = 7 * 86400
"""Seconds that a file's record is kept after its last change, unless the file is ingested."""

CANARY_EXPIRY = 3600
"""Seconds that arrived test objects (canaries) are kept after the last one; their sender removes its own at once."""

PROGRESS_EXPIRY = 7 * 86400
"""Seconds that the progress of an exposure is kept after its last change."""

HEARTBEAT_EXPIRY = 3600
"""Seconds for which a process that is no longer heard of is remembered, so that operators see that it has vanished."""

FROM_KAFKA_EXPIRY = 86400
"""Seconds that `from_kafka` is kept."""


def queue(bucket: str) -> str:
    """List of paths to be ingested: pushed left, taken from the right."""
    return f"QUEUE:{bucket}"


def worker(bucket: str, name: str) -> str:
    """List of paths that a worker has taken."""
    return f"WORKER:{bucket}:{name}"


def worker_of(key: str) -> tuple[str, str]:
    """Return bucket and name of a key made by `worker`: a bucket may hold a colon, a worker's name does not."""
    bucket, _, name = key.removeprefix("WORKER:").rpartition(":")
    return bucket, name


def file(path: str) -> str:
    """Hash: what is known of a file.

    Shared fields: ``recv_time``, ``ingest_time`` (epoch seconds), ``ing_fail_exc``, ``ing_fail_count``,
    ``md_fail_exc``. Ours: ``state`` (``queued``, ``working``, ``waiting``, ``ingested``, ``dead``, or ``dropped``: a
    dead letter that an operator has removed), ``worker`` (who has it or had it last), ``claim`` (token of the claim by
    which the worker has it), ``etag``, ``size`` (bytes; both as the store served them once it is ingested, before that
    as the event told), ``butler_etag`` (the version in the Butler, while another is on its way), ``overtaken`` (the
    version written by a worker whose claim was no longer valid, or ``unknown``), ``created`` (epoch seconds of the
    event), ``first_wait`` (epoch seconds), ``waits_for`` (obs_id), ``first_fail`` (epoch seconds), ``tries`` (claims
    without an outcome), ``trials`` (the same, where the file was written alone) and one ``event:{id}`` for
    each event seen, up to a limit. Of an ingested file only ``state``, ``recv_time``, ``ingest_time``, ``etag`` and
    ``size`` are kept, and the events if they named several versions.

    Queueing a path sets ``state`` to ``queued``, whatever it was. A worker that still has an earlier version then no
    longer changes the record: only the worker named in it may, while the state is ``working``, and with the claim in
    it. A claim removes the path from waiting and from the dead letters.
    """
    return f"FILE:{path}"


def received(bucket: str) -> str:
    """Hash day_obs -> number received."""
    return f"REC:{bucket}"


def received_by_instrument(bucket: str, instrument: str) -> str:
    """Hash day_obs -> number received of one instrument."""
    return f"RECINSTR:{bucket}:{instrument}"


def max_seq(bucket: str, instrument: str, day_obs: str) -> str:
    """Text: highest sequence number received."""
    return f"MAXSEQ:{bucket}:{instrument}:{day_obs}"


def ingested(bucket: str, instrument: str) -> str:
    """Hash day_obs -> number ingested."""
    return f"INGEST:{bucket}:{instrument}"


def failed(bucket: str, instrument: str) -> str:
    """Hash day_obs -> number of failed attempts."""
    return f"FAIL:{bucket}:{instrument}"


def group(instrument: str, group: str, snap: int, raft_sensor: str) -> str:
    """Text ``s3://{path}``: where the image of a detector is. ``snap`` counts from 0."""
    return f"GROUP:{instrument}:{group}:{snap}:{raft_sensor}"


def arrivals(instrument: str, group: str) -> str:
    """Hash ``{snap}:{raft_sensor}:{obs_id}`` -> cursor, epoch seconds and JSON of an image that has arrived.

    Its field ``expected_snaps`` is the number of images in the group.
    """
    return f"ARRIVALS:{instrument}:{group}"


ARRIVAL_STREAM = "ARRIVALSTREAM"
"""Stream of the last arrivals, which wakes clients that wait for one."""

ARRIVALS_SINCE = "ARRIVALSSINCE"
"""Text: epoch seconds since when arrivals have been recorded without a gap."""


EVENTS = "EVENTS"
"""Stream of the events of exposures: fields ``id``, ``type``, ``subject``, ``time`` and ``data``."""

FILE_EVENTS = "EVENTSOFFILES"
"""Stream of the events of single files, with the same fields."""


def position(reader: str, stream: str) -> str:
    """Text: position up to which a reader of events has delivered a stream."""
    return f"POSITION:{reader}:{stream}"


def publisher(reader: str, stream: str) -> str:
    """Text with a time to live: the process that delivers a stream for a reader."""
    return f"PUBLISHER:{reader}:{stream}"


def undelivered(reader: str) -> str:
    """Hash event's id -> JSON: events that a reader has refused, bounded in number."""
    return f"UNDELIVERED:{reader}"


def progress(bucket: str, obs_id: str) -> str:
    """Hash: which detectors of an exposure are expected and in the Butler, and what its events have told.

    ``since`` (epoch seconds of the first notice), ``instrument``, ``day_obs``, ``folder``, ``exposure`` (its record as
    JSON), ``id``, ``visit`` (``none``, ``owed``, ``defined``), ``expected_from`` (``file`` or ``camera``),
    ``expected_number``, ``expected:science``, ``expected:wavefront``, ``expected:guider`` and ``ingested`` (names of
    detectors, separated by spaces), ``failed:{detector}`` (dead letter: its reason), ``state`` (``complete`` or
    ``incomplete``), ``revision``, ``told:{type of event}`` and the times in the events.
    """
    return f"PROGRESS:{bucket}:{obs_id}"


def progress_due(bucket: str) -> str:
    """Sorted set folder -> epoch seconds: exposures in progress, and when to look next what they lack."""
    return f"PROGRESSDUE:{bucket}"


def progress_of_day(bucket: str, day_obs: str) -> str:
    """Set of the obs_ids of a day of which `progress` is kept."""
    return f"PROGRESSDAY:{bucket}:{day_obs}"


def from_kafka(path: str) -> str:
    """Text ``1``: the file has come by Kafka.

    The services that this program replaces do not queue a file that has it. This program sets it, so that they can read
    the same topic beside it, but ignores it: they set it before they queue, so a file that they failed to queue would
    be lost.
    """
    return f"ENQ:{path}"


def confirmed() -> str:
    """Text with a time to live, written so that replicas confirm what was written before it."""
    return "CONFIRMED"


def annex_instruments(bucket: str) -> str:
    """Set of the keys `received_by_instrument` of the Large File Annex, of which there is a limited number."""
    return f"ANNEXINSTRUMENTS:{bucket}"


def site(bucket: str) -> str:
    """Text: repository whose workers take from the queue; set by the first, never expires."""
    return f"SITE:{bucket}"


def lease(bucket: str, name: str) -> str:
    """Text with a time to live, renewed by a worker while it is alive."""
    return f"LEASE:{bucket}:{name}"


def leaseholders(bucket: str) -> str:
    """Set of the workers whose lists are guarded by a lease; a list of any other worker keeps the old rule."""
    return f"LEASEHOLDERS:{bucket}"


def waiting(bucket: str) -> str:
    """Sorted set path -> epoch seconds at which it returns to the queue."""
    return f"WAITING:{bucket}"


def waiting_for(bucket: str, obs_id: str) -> str:
    """Set of the waiting paths that an exposure's arrival in the Butler wakes."""
    return f"WAITINGFOR:{bucket}:{obs_id}"


def exposure_known(bucket: str, obs_id: str) -> str:
    """Text with a time to live: the exposure was recently seen in the Butler, so no file need wait for it."""
    return f"EXPOSURE:{bucket}:{obs_id}"


def owed(bucket: str) -> str:
    """Hash ``{instrument}/{exposure id}`` -> JSON: exposures in the Butler whose visits are undefined.

    ``since``, ``due`` (epoch seconds, of the next attempt), ``attempts`` and ``exception``.
    """
    return f"OWED:{bucket}"


def dead(bucket: str) -> str:
    """Hash path -> JSON of the dead letter."""
    return f"DEAD:{bucket}"


def canary(bucket: str) -> str:
    """Hash key and notification's id, joined by a slash -> JSON like that of a rejected record: canaries arrived."""
    return f"CANARY:{bucket}"


def canary_times(bucket: str) -> str:
    """Sorted set of the fields of `canary` -> epoch seconds at which each came last."""
    return f"CANARYTIMES:{bucket}"


def rejected(bucket: str) -> str:
    """Hash key as received -> JSON of the rejected record; the bucket is ``-`` if it is unknown."""
    return f"REJECTED:{bucket}"


def rejected_times(bucket: str) -> str:
    """Sorted set key as received -> epoch seconds when it last arrived; the oldest are dropped at the limit."""
    return f"REJECTEDTIMES:{bucket}"


OPERATOR_LOG = "OPERATORLOG"
"""Stream of what operators have done: ``who``, ``act``, ``bucket``, ``number``, the first ``paths``, ``why``."""


def paused(bucket: str) -> str:
    """Text: who has paused the bucket, and why; workers take nothing from its queue while it exists."""
    return f"PAUSED:{bucket}"


HEARTBEATS = "HEARTBEATS"
"""Hash name of a process -> JSON: the processes of this program that run, and those that have lately vanished."""

HEARTBEAT_TIMES = "HEARTBEATTIMES"
"""Sorted set name of a process -> epoch seconds at which it was last heard of."""


def set_aside(key: str) -> str:
    """Value of the wrong type that was found under one of our keys and moved out of the way."""
    return f"WRONGTYPE:{key}"
