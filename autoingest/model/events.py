"""Events: what has happened to an exposure or a file, in the form of CloudEvents 1.0."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, get_args

TYPE_PREFIX = "org.rubinobs.autoingest."

EventType = Literal[
    "exposure.known",
    "exposure.wavefront",
    "exposure.complete",
    "exposure.incomplete",
    "visit.defined",
    "file.ingested",
    "file.failed",
]
"""Types of events, without `TYPE_PREFIX`."""

FILE_TYPES: tuple[EventType, ...] = ("file.ingested", "file.failed")
"""Types of the events of single files, which are in a stream of their own."""

EXPOSURE_TYPES: tuple[EventType, ...] = tuple(name for name in get_args(EventType) if name not in FILE_TYPES)
"""Types of the events of exposures and visits."""

CONTENT_TYPE = "application/cloudevents+json"


@dataclass(frozen=True, slots=True)
class Event:
    """An event."""

    position: str
    """Id of its entry in the stream, which orders the events."""
    id: str
    """Says what has happened, so that a repetition has the same: ``LSSTCam:2026112100001:complete:1``."""
    type: str
    """Without `TYPE_PREFIX`."""
    subject: str
    """``{instrument}/{obs_id}``."""
    time: float
    """Epoch seconds."""
    data: dict[str, Any]

    @property
    def instrument(self) -> str:
        """The instrument's name."""
        return self.subject.partition("/")[0]

    @classmethod
    def of_entry(cls, position: str, fields: Mapping[str, str]) -> Event:
        """Return the event of an entry of a stream.

        Raises
        ------
        ValueError
            If the entry is malformed.
        """
        try:
            data = json.loads(fields["data"])
            if not isinstance(data, dict):
                raise TypeError("its data are no object")
            return cls(
                position, fields["id"], fields["type"], fields["subject"], float(fields["time"]), with_times(data)
            )
        except (KeyError, TypeError, ValueError) as err:
            raise ValueError(f"entry {position} is no event: {type(err).__name__}: {err}") from None

    @classmethod
    def gap(cls, position: str, time: float) -> Event:
        """Return the event that tells a reader that events after a position are lost for it."""
        data = {
            "after": position,
            "message": "events after this are lost; ask /exposures for the state of the exposures",
        }
        return cls(position, f"gap:{position}", "gap", "events", time, data)

    @classmethod
    def of_cloud_event(cls, content: Mapping[str, Any]) -> Event:
        """Return an event from what `cloud_event` made of it; its position is not known."""
        return cls(
            "", content["id"], content["type"].removeprefix(TYPE_PREFIX), content["subject"],
            datetime.fromisoformat(content["time"]).timestamp(), content["data"],
        )  # fmt: skip

    def cloud_event(self, source: str) -> dict[str, Any]:
        """Return the event as structured JSON of CloudEvents 1.0.

        Parameters
        ----------
        source
            Names the sender, ``/autoingest/summit``.
        """
        return {
            "specversion": "1.0",
            "id": self.id,
            "source": source,
            "type": TYPE_PREFIX + self.type,
            "subject": self.subject,
            "time": rfc3339(self.time),
            "datacontenttype": "application/json",
            "data": self.data,
        }


def rfc3339(seconds: float) -> str:
    """Return a time, in epoch seconds, in the form of RFC 3339 with milliseconds."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def with_times(data: dict[str, Any]) -> dict[str, Any]:
    """Return the data of an event whose ``times``, epoch seconds in Redis, have the form of RFC 3339."""
    times = data.get("times")
    if isinstance(times, dict):
        data["times"] = {name: None if value is None else rfc3339(float(value)) for name, value in times.items()}
    return data
