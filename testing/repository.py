"""What is in a Butler repository, for comparison with what should be."""

from __future__ import annotations

from dataclasses import dataclass

from lsst.daf.butler import Butler


@dataclass(frozen=True)
class Contents:
    """Everything of LSSTCam in a repository."""

    raws: frozenset[str]
    """URLs of the ``raw`` datasets."""
    guiders: frozenset[str]
    """URLs of the ``guider_raw`` datasets."""
    exposures: frozenset[str]
    """Their obs_ids."""
    visits: dict[str, int]
    """Name of each visit, and how many of its detectors have a region."""


def contents(repo: str) -> Contents:
    """Read a repository."""
    with Butler.from_config(repo, instrument="LSSTCam") as butler:
        urls = {
            run: frozenset(
                str(butler.getURI(ref))
                for ref in butler.query_datasets(kind, collections=f"LSSTCam/raw/{run}", limit=None, explain=False)
            )
            for kind, run in (("raw", "all"), ("guider_raw", "guider"))
        }
        exposures = butler.query_dimension_records("exposure", limit=None, explain=False)
        visits = butler.query_dimension_records("visit", limit=None, explain=False)
        regions = butler.query_dimension_records("visit_detector_region", limit=None, explain=False)
    assert all(record.region is not None for record in [*visits, *regions])
    return Contents(
        raws=urls["all"],
        guiders=urls["guider"],
        exposures=frozenset(record.obs_id for record in exposures),
        visits={visit.name: sum(region.visit == visit.id for region in regions) for visit in visits},
    )
