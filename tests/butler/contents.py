"""What became of files: results, and what the repository holds afterwards."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lsst.daf.butler import Butler

from autoingest.butler.private import file_records
from testing import exposures

OpenButler = Callable[[], Butler]


def outcomes(result: Any) -> dict[str, int]:
    found = [item.outcome + (" again" if item.duplicate else "") for item in result.files]
    return {outcome: found.count(outcome) for outcome in found}


def stored(butler: Butler, seq_num: int) -> dict[str, Any]:
    """Return the datastore's records of an exposure's datasets, by path, with dataset type, run, id and detector."""
    found = {}
    for name in ("raw", "guider_raw"):
        refs = butler.query_datasets(
            name,
            collections=["LSSTCam/raw/all", "LSSTCam/raw/guider"],
            instrument="LSSTCam",
            exposure=exposures.exposure_id(seq_num),
            explain=False,
        )
        records = {dataset_id: record for _, dataset_id, record in file_records(butler, refs)}
        for ref in refs:
            record = records[ref.id]
            found[record.path] = (name, ref.run, ref.id, ref.dataId["detector"], record)
    return found
