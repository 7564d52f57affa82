"""The life of an exposure and its files, from what store, Redis and Butler know of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import orjson
import redis.asyncio

from ..butler.messages import ButlerExposure
from ..butler.reader import ButlerReader
from ..errors import AutoingestError, UnknownObjectError
from ..model.objects import CAMERA_CODES, ExposureObject, parse
from ..queue import keys
from ..queue.file_status import file_statuses
from ..queue.operator_log import MOST_ENTRIES, acts
from ..queue.places import Place
from ..queue.progress import read_exposure
from ..store.listing import Listing, StoredObject
from ..store.reader import HeaderReader
from .trigger import Target

CARDS = ("OBSID", "GROUPID", "CURINDEX", "MAXINDEX", "DAYOBS", "SEQNUM", "IMGTYPE", "FILTER", "OBJECT", "MJD-BEG")
"""Cards of a header that are shown."""


@dataclass(frozen=True, slots=True)
class Step:
    """Something that happened."""

    time: float | None
    """Epoch seconds; None if it is not known when."""
    text: str


@dataclass(slots=True)
class FileLife:
    """The life of a file."""

    path: str
    state: str
    """A place in Redis (see `autoingest.queue.places.Place`), ``not announced`` or ``not in the store``."""
    steps: list[Step] = field(default_factory=list)
    """In order of their times."""
    exception: str = ""
    """Of the last failure."""
    header: dict[str, object] = field(default_factory=dict)
    """`CARDS` as read from the store."""
    command: str = ""
    """What to type next; empty if nothing is to be done."""


@dataclass(slots=True)
class ExposureLife:
    """The life of an exposure."""

    bucket: str
    obs_id: str
    visit: str
    """``defined``, ``owed``, ``none``, or ``unknown`` if the Butler does not know the exposure."""
    steps: list[Step]
    files: list[FileLife]
    missing: list[str]
    """Expected detectors that are not in the Butler."""

    def detectors(self) -> dict[str, list[str]]:
        """Return the detectors by the state of their files."""
        found: defaultdict[str, list[str]] = defaultdict(list)
        for file in self.files:
            obj = parse(file.path)
            name = obj.raft_sensor if isinstance(obj, ExposureObject) else None
            found[file.state].append(name or obj.path.rpartition("/")[2])
        known = {name for names in found.values() for name in names}
        found["not in the store"] += [name for name in self.missing if name not in known]
        return {state: sorted(names) for state, names in found.items() if names}


class Explainer:
    """Finds out what happened to files of one bucket.

    Parameters
    ----------
    client
        Redis client that decodes responses.
    listing
        The bucket.
    butler
        The repository.
    """

    def __init__(self, client: redis.asyncio.Redis, listing: Listing, butler: ButlerReader) -> None:
        self._redis = client
        self._listing = listing
        self._butler = butler
        self._bucket = listing.bucket

    async def explain(self, target: Target) -> list[ExposureLife]:
        """Return the lives of the exposures that a target names, with those of its files that it names.

        Raises
        ------
        TransientError
            If store, Redis or Butler are away.
        """
        stored: dict[str, StoredObject] = {}
        for prefix in await target.prefixes(self._listing):
            async for page in self._listing.objects(prefix):
                stored |= {item.path: item for item in page if self._is_image(item.path, target)}
        by_exposure: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
        for path in stored:
            obj = parse(path)
            assert isinstance(obj, ExposureObject)
            by_exposure[obj.instrument, obj.obs_id].add(path)
        if target.obs_id is not None:  # it may be gone from the store
            for instrument, code in CAMERA_CODES.items():
                if code == target.code:
                    by_exposure[instrument, target.obs_id] |= set()
        lives = []
        for (instrument, obs_id), paths in by_exposure.items():
            known = (await self._butler.exposures(instrument, [obs_id])).get(obs_id)
            progress = await read_exposure(self._redis, self._bucket, obs_id) or {}
            if progress.get("instrument") != instrument:  # another one with the same code, such as its simulation
                progress = {}
            in_butler = {path for path in known.files if self._is_image(path, target)} if known else set()
            files = await self._files(sorted(paths | in_butler), stored, known)
            missing = [name for name in progress.get("missing") or () if target.raft_sensor in (None, name)]
            if not (files or missing or progress):
                continue
            visit = known.visit if known else "unknown"
            lives.append(ExposureLife(self._bucket, obs_id, visit, _exposure_steps(progress), files, missing))
        return lives

    async def read_header(self, file: FileLife, size: int | None = None) -> None:
        """Read a file's header from the store, and show its cards, or why it can't be read."""
        try:
            found = await HeaderReader(1).read(parse(file.path), size)
        except (AutoingestError, OSError) as err:
            file.header = {"can't be read": str(err)}
        else:
            file.header = {card: found.header[card] for card in CARDS if card in found.header} | {
                "read from": found.source
            }

    def _is_image(self, path: str, target: Target) -> bool:
        try:
            obj = parse(path)
        except UnknownObjectError:
            return False
        return (
            isinstance(obj, ExposureObject)
            and path.startswith(f"{self._bucket}/")
            and path.endswith((".fits", ".fits.fz"))
            and target.obs_id in (None, obj.obs_id)
            and target.raft_sensor in (None, obj.raft_sensor)
        )

    async def _files(
        self, paths: Sequence[str], stored: Mapping[str, StoredObject], known: ButlerExposure | None
    ) -> list[FileLife]:
        statuses = await file_statuses(self._redis, self._bucket, paths)
        async with self._redis.pipeline(transaction=False) as pipe:
            for path in paths:
                pipe.hgetall(keys.file(path))
                pipe.hget(keys.dead(self._bucket), path)
            replies: list[Any] = await pipe.execute(raise_on_error=False)
        done = await acts(self._redis, MOST_ENTRIES)
        files = []
        for path, status, record, letter in zip(paths, statuses, replies[::2], replies[1::2], strict=True):
            item = stored.get(path)
            is_in = known is not None and path in known.files
            state = _state(status.place, is_in=is_in, is_stored=item is not None)
            record = record if isinstance(record, dict) else {}
            file = FileLife(path, state, _file_steps(path, item, record, letter, done))
            file.exception = str(record.get("ing_fail_exc") or record.get("md_fail_exc") or "")
            file.command = _command(file, parse(path))
            files.append(file)
        return files


def _state(place: Place | None, *, is_in: bool, is_stored: bool) -> str:
    if place not in (None, "ingested"):
        return place
    if not is_stored:
        return "not in the store"
    return "ingested" if is_in else "not announced"


def _command(file: FileLife, obj: Any) -> str:
    name = f"{obj.obs_id}_{obj.raft_sensor}" if obj.raft_sensor else obj.obs_id
    return {
        "not announced": f"autoingest trigger {name}",
        "dead": f"autoingest queue requeue {file.path}",
        "dropped": f"autoingest trigger --force {name}",
        "given up": f"autoingest trigger --force {name}",
        "queued": "autoingest status",
        "working": "autoingest status",
        "waiting": "autoingest status",
    }.get(file.state, "")


def _file_steps(
    path: str, item: StoredObject | None, record: Mapping[str, str], letter: object, done: Sequence[Mapping[str, Any]]
) -> list[Step]:
    steps = []
    if item is not None:
        steps.append(Step(item.modified, f"written to the store: {item.size:,} bytes, eTag {item.etag}"))
    what = {
        "created": "announced by the store",
        "recv_time": "received, and put on the queue",
        "first_fail": "first failed attempt",
        "first_wait": f"waits for {record.get('waits_for') or 'another attempt'}",
        "ingest_time": "in the Butler",
    }
    steps += [Step(seconds, text) for name, text in what.items() if (seconds := _seconds(record.get(name)))]
    if record.get("state") == "working":
        steps.append(Step(None, f"taken by worker {record.get('worker')}"))
    if (tries := int(record.get("tries") or 0)) > 1:
        steps.append(Step(None, f"{tries} claims without an outcome"))
    if failed := record.get("ing_fail_count"):
        steps.append(Step(None, f"{failed} failed attempts"))
    if isinstance(letter, str):
        try:
            content = orjson.loads(letter)
            text = f"given up ({content['reason']}): {content['exception']}"
            steps.append(Step(_seconds(content.get("last_time")), text))
        except (ValueError, LookupError, TypeError):
            steps.append(Step(None, f"given up: {letter[:200]}"))
    steps += [
        Step(act["time"], f"{act['act']} by {act['who']}{': ' + act['why'] if act.get('why') else ''}")
        for act in done
        if path in str(act.get("paths", "")).split("\n")
    ]
    return _in_order(steps)


def _exposure_steps(progress: Mapping[str, Any]) -> list[Step]:
    what = {
        "first_put": "first image written to the store",
        "last_put": "last image written to the store",
        "visit_defined": "visit defined",
        "last_ingested": "last image in the Butler",
    }
    times = progress.get("times") or {}
    steps = [Step(_moment(times.get(name)), text) for name, text in what.items() if times.get(name)]
    if progress.get("state") == "complete":
        steps.append(Step(None, f"complete, revision {progress.get('revision')}"))
    return _in_order(steps)


def _in_order(steps: Sequence[Step]) -> list[Step]:
    return sorted(steps, key=lambda step: (step.time is None, step.time or 0.0))


def _seconds(text: object) -> float | None:
    try:
        return float(text) if isinstance(text, str | int | float) and float(text) > 0 else None
    except ValueError:
        return None


def _moment(text: str | None) -> float | None:
    """Return the epoch seconds of a time as events have it."""
    return datetime.fromisoformat(text).timestamp() if text else None
