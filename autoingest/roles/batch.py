"""The files of a batch, from the claim to the result."""

from __future__ import annotations

from dataclasses import dataclass

from ..butler.engine import FileResult, IngestFile
from ..errors import TransientError
from ..model.objects import ExposureObject, LfaObject
from ..queue.presence import Arrival
from ..queue.work import Claimed
from ..store.reader import ObjectHeader


@dataclass(slots=True)
class BatchFile:
    """A claimed file, filled in step by step while a worker reads it, records its presence and writes it."""

    claim: Claimed
    obj: ExposureObject | LfaObject
    """What its path says."""
    header: ObjectHeader | None = None
    """None until it has been read; kept for further attempts to write the file."""
    arrival: Arrival | None = None
    """Its presence, from the time when the header is read until it is recorded; None for a file that has none."""
    result: FileResult | None = None
    """The Butler's result; None until the file has been written."""
    error: TransientError | None = None
    """What was unavailable when this attempt tried to read or write it."""

    @property
    def path(self) -> str:
        """Bucket and key."""
        return self.claim.path

    def to_ingest(self) -> IngestFile:
        """Return what the Butler needs of a file whose header has been read."""
        assert self.header is not None
        return IngestFile(
            path=self.path,
            url=self.obj.url,
            obs_id=getattr(self.obj, "obs_id", None),
            is_guider=getattr(self.obj, "is_guider", False),
            header=self.header.header,
            size=self.header.size,
        )


Batch = dict[str, BatchFile]
"""The files in hand, by path."""
