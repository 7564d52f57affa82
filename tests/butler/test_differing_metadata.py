from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest
from lsst.daf.butler import Butler
from lsst.sphgeom import LonLat, UnitVector3d
from structlog.testing import capture_logs

from autoingest.app.config import DifferingMetadata
from autoingest.butler.native import NativeEngine
from testing import exposures

from .conftest import Repository

OpenButler = Callable[[], Butler]
REFINED = {"RASTART": 215.3, "DECSTART": -12.7, "ROTPA": 30.0, "DARKTIME": 31.5}
KEY: dict[str, Any] = {"instrument": "LSSTCam", "exposure": exposures.exposure_id(1)}


@pytest.fixture(params=["keep", "update", "fail"])
def policy(request: pytest.FixtureRequest) -> DifferingMetadata:
    chosen: DifferingMetadata = request.param
    return chosen


@pytest.fixture
def site(repository: Repository, policy: DifferingMetadata) -> Iterator[NativeEngine]:
    with closing(NativeEngine(repository.root, differing=policy)) as engine:
        yield engine


def ingest(engine: NativeEngine, detector: int, **changes: Any) -> Any:
    [result] = engine.ingest(exposures.files(1, [detector], **changes)).files
    return result


def exposure(butler: Butler) -> Any:
    [record] = butler.query_dimension_records("exposure", **KEY)
    return record


def holds(butler: Butler, ra: float, dec: float) -> bool:
    """Tell whether the regions of the visit and of its central detector hold a place."""
    place = UnitVector3d(LonLat.fromDegrees(ra, dec))
    [visit] = butler.query_dimension_records("visit", instrument="LSSTCam", visit=KEY["exposure"])
    [detector] = butler.query_dimension_records(
        "visit_detector_region", instrument="LSSTCam", visit=KEY["exposure"], detector=94
    )
    assert visit.region.contains(detector.region.getCentroid())
    return bool(detector.region.contains(place))


@pytest.mark.parametrize("policy", ["update"], indirect=True)
def test_update_writes_exposure_and_visit_anew(site: NativeEngine, open_butler: OpenButler) -> None:
    ingest(site, 94)
    assert holds(open_butler(), 215.0, -12.5)
    assert ingest(site, 95, **REFINED, OBJECT="renamed").outcome == "ingested"
    butler = open_butler()
    record = exposure(butler)
    assert (record.tracking_ra, record.tracking_dec, record.dark_time) == (215.3, -12.7, 31.5)
    assert record.sky_angle == pytest.approx(30.0)
    assert record.target_name == "renamed"
    assert holds(butler, 215.3, -12.7)
    assert not holds(butler, 215.0, -12.5)
    assert len(butler.query_dimension_records("visit_detector_region", instrument="LSSTCam", limit=None)) == 205
    [visit] = butler.query_dimension_records("visit", instrument="LSSTCam")
    assert visit.target_name == "renamed"
    # The overlaps that queries by sky use have moved along.
    refs = butler.query_datasets(
        "raw", "LSSTCam/raw/all", where="visit_detector_region.region OVERLAPS POINT(215.3, -12.7) AND visit = v",
        bind={"v": KEY["exposure"]}, instrument="LSSTCam", explain=False,
    )  # fmt: skip
    assert [ref.dataId["detector"] for ref in refs] == [94]


@pytest.mark.parametrize("policy", ["update"], indirect=True)
@pytest.mark.parametrize("repository", ["sqlite"], indirect=True)
def test_update_undoes_a_refinement_that_was_made_meanwhile(site: NativeEngine, open_butler: OpenButler) -> None:
    ingest(site, 94)
    butler = site.connect().butler
    butler.registry.syncDimensionData("exposure", exposure(butler).toDict() | {"tracking_ra": 215.2}, update=True)
    ingest(site, 95)
    assert exposure(open_butler()).tracking_ra == 215.0


@pytest.mark.parametrize("policy", ["fail"], indirect=True)
def test_fail_names_field_stored_and_new_value(site: NativeEngine, open_butler: OpenButler) -> None:
    ingest(site, 94)
    assert ingest(site, 95).outcome == "ingested"
    together = exposures.files(1, [97], **REFINED) + exposures.files(1, [96])
    refused, good = site.ingest(together).files
    assert (good.outcome, refused.outcome, refused.reason) == ("ingested", "failed", "conflict")
    assert "tracking_ra is 215.0, not 215.3" in refused.exception
    assert "dark_time is 30.9, not 31.5" in refused.exception
    assert exposure(open_butler()).tracking_ra == 215.0


@pytest.mark.parametrize("change", [{"FILTER": "r_57"}, {"DAYOBS": "20250713"}, {"GROUPID": "2025-07-15T09:00:00.000"}])
@pytest.mark.parametrize("repository", ["sqlite"], indirect=True)
def test_another_filter_day_or_group_always_fails(site: NativeEngine, change: dict[str, str]) -> None:
    ingest(site, 94)
    result = ingest(site, 95, **change)
    assert (result.outcome, result.reason) == ("failed", "conflict" if "DAYOBS" not in change else result.reason)


OTHER: dict[str, tuple[dict[str, Any], str]] = {
    "can_see_sky": ({"VIGN_MIN": "FULLY"}, "False"),
    "science_program": ({"PROGRAM": "BLOCK-2"}, "BLOCK-2"),
    "target_name": ({"OBJECT": "other"}, "other"),
    "observation_reason": ({"REASON": "other"}, "other"),
    "observation_type": ({"IMGTYPE": "ACQ"}, "acq"),
    "seq_start": ({"CURINDEX": 2, "MAXINDEX": 2}, "0"),
}


@pytest.mark.parametrize("policy", ["keep"], indirect=True)
@pytest.mark.parametrize("repository", ["sqlite"], indirect=True)
@pytest.mark.parametrize("name", OTHER)
def test_whatever_is_not_identity_may_differ(site: NativeEngine, open_butler: OpenButler, name: str) -> None:
    """A record that others wrote, or that was refined, stays; each of its fields is told of once."""
    changes, header = OTHER[name]
    ingest(site, 94)
    stored = exposure(open_butler())
    with capture_logs() as logs:
        first = site.ingest(exposures.files(1, [95], **changes))
        second = site.ingest(exposures.files(1, [96], **changes))
        third = site.ingest(exposures.files(1, [97], **changes, **{"RUNNUM": "another header"}))
    for result in (first, second, third):
        assert [file.outcome for file in result.files] == ["ingested"]
    told = {entry["field"]: entry for entry in logs if entry["event"] == "stored exposure record kept"}
    assert sorted(told) == sorted(field for _, field in first.kept)
    assert {**told[name], "stored": str(getattr(stored, name)), "header": header} == told[name]
    assert len(logs) == len(told)
    assert not second.kept
    assert not third.kept
    assert exposure(open_butler()) == stored


@pytest.mark.parametrize("policy", ["keep"], indirect=True)
@pytest.mark.parametrize("repository", ["sqlite"], indirect=True)
@pytest.mark.parametrize("together", [False, True])
def test_pointing_and_times_that_differ_are_told_once(
    site: NativeEngine, open_butler: OpenButler, together: bool
) -> None:
    later = {"DATE-OBS": "2025-07-15T01:00:41.000", "DATE-BEG": "2025-07-15T01:00:41.000"}
    batches = [exposures.files(1, [94]), exposures.files(1, [95], **REFINED), exposures.files(1, [96], **later)]
    if together:
        batches = [[file for batch in batches for file in batch]]
    batches += [exposures.files(1, [97], **REFINED), exposures.files(1, [98], **later)]
    kept: list[tuple[str, str]] = []
    for batch in batches:
        result = site.ingest(batch)
        assert {file.outcome for file in result.files} == {"ingested"}
        kept += result.kept
    fields = ["dark_time", "sky_angle", "timespan", "tracking_dec", "tracking_ra"]
    assert sorted(kept) == [("LSSTCam", name) for name in fields]
    assert exposure(open_butler()).tracking_ra == 215.0


@pytest.mark.parametrize("repository", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("name", "value"), [("FILTER", "r_57"), ("GROUPID", "other"), ("OBSID", "MC_S_20250714_000001")]
)
def test_another_identity_is_named(site: NativeEngine, name: str, value: str, open_butler: OpenButler) -> None:
    ingest(site, 94)
    [file] = exposures.files(1, [95], **{name: value})
    if name == "OBSID":  # else the file is not what its key says
        file = replace(file, obs_id=value)
    [result] = site.ingest([file]).files
    assert (result.outcome, result.reason) == ("failed", "conflict")
    field = {"FILTER": "physical_filter", "GROUPID": "group", "OBSID": "obs_id"}[name]
    assert f"{field} is {getattr(exposure(open_butler()), field)!r}, not {value!r}" in result.exception


@pytest.mark.parametrize("policy", ["keep", "update"], indirect=True)
def test_what_is_no_number_is_no_difference(site: NativeEngine, open_butler: OpenButler) -> None:
    nothing = {"DARKTIME": "nan"}
    for detector in (94, 95):
        result = site.ingest(exposures.files(1, [detector], **nothing))
        assert [file.outcome for file in result.files] == ["ingested"]
        assert not result.kept
    assert exposure(open_butler()).dark_time in (None, pytest.approx(math.nan, nan_ok=True))
