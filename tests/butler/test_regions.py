from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from lsst.daf.butler import Butler
from lsst.sphgeom import Angle, Circle, LonLat, UnitVector3d

from autoingest import instruments
from autoingest.butler import regions, visits
from autoingest.butler.engine import IngestFile
from autoingest.butler.native import NativeEngine
from autoingest.errors import ConfigurationError
from autoingest.instruments.geometry import VisitRegions, separation, visit_regions
from testing import command, exposures
from testing.headers import latiss

from .conftest import Repository

OpenButler = Callable[[], Butler]
DAYS = (20230705, 20230706, 20230707)
VISITS = [day * 100_000 + number for day in DAYS for number in (1, 2)]


def image(visit: int) -> IngestFile:
    day, number = divmod(visit, 100_000)
    obs_id = f"AT_O_{day}_{number:06}"
    path = f"rubin-summit/LATISS/{day}/{obs_id}/{obs_id}_R00_S00.fits"
    header = latiss(OBSID=obs_id, DAYOBS=str(day), SEQNUM=number, GROUPID=obs_id, RASTART=200.0 + number)
    return IngestFile(path, f"s3://{path}", obs_id, False, header, 2880)


@pytest.fixture
def mistaken(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> Repository:
    """A repository with visits that were written before the geometry of LATISS was mended, and one of LSSTCam."""
    with monkeypatch.context() as patch, closing(NativeEngine(repository.root)) as engine:
        patch.setattr(
            visits, "visit_regions", lambda camera, *pointing: visit_regions(replace(camera, flip_x=False), *pointing)
        )
        result = engine.ingest([*map(image, VISITS), *exposures.files(1, [94])])
    assert {file.outcome for file in result.files} == {"ingested"}
    assert len(result.visits) == len(VISITS) + 1
    return repository


def run(*arguments: str) -> Result:
    return command.run("repo", "repair-regions", *arguments)


def counts(*arguments: str, code: int) -> dict[str, Any]:
    result = run("--json", *arguments)
    assert result.exit_code == code, result.output
    found: dict[str, Any] = json.loads(result.stdout)["instruments"]
    return found


def offs(butler: Butler) -> dict[int, float]:
    """Return how far, arcseconds, the regions of each visit of LATISS are off."""
    camera, found = instruments.get("LATISS"), {}
    for visit in butler.query_dimension_records("visit", instrument="LATISS"):
        [exposure] = butler.query_dimension_records("exposure", instrument="LATISS", exposure=visit.id)
        [detector] = butler.query_dimension_records("visit_detector_region", instrument="LATISS", visit=visit.id)
        right = visit_regions(camera, exposure.tracking_ra, exposure.tracking_dec, exposure.sky_angle)
        found[visit.id] = max(separation(visit.region, right.visit), separation(detector.region, right.detectors[0]))
    return found


def test_mistaken_regions_are_told_repaired_and_then_right(mistaken: Repository, open_butler: OpenButler) -> None:
    before = offs(open_butler())
    assert list(before) == VISITS
    assert all(distance == pytest.approx(10.048, abs=0.001) for distance in before.values())
    for options in ([], ["--dry-run"]):
        found = counts(mistaken.root, *options, code=1)
        assert list(found) == ["LATISS"]
        assert (found["LATISS"]["right"], found["LATISS"]["mistaken"], found["LATISS"]["other"]) == (0, 6, 0)
        assert found["LATISS"]["mistaken_arcsec"] == pytest.approx(10.048, abs=0.001)
    assert offs(open_butler()) == before

    found = counts(mistaken.root, "--since", "20230706", "--until", "20230706", "--write", code=0)
    assert found["LATISS"]["mistaken"] == 2
    after = offs(open_butler())
    assert [visit // 100_000 for visit, distance in after.items() if distance < 1e-9] == [20230706, 20230706]

    result = run(mistaken.root, "--write")
    assert result.exit_code == 0
    assert "repaired" in result.output
    assert max(offs(open_butler()).values()) < 1e-9
    for options in ([], ["--write"]):
        found = counts(mistaken.root, *options, code=0)
        assert found["LATISS"] == {
            "right": 6, "mistaken": 0, "mistaken_arcsec": 0.0, "other": 0, "other_arcsec": 0.0
        }  # fmt: skip


def test_queries_by_sky_find_repaired_visits(mistaken: Repository, open_butler: OpenButler) -> None:
    camera, butler = instruments.get("LATISS"), open_butler()
    [exposure] = butler.query_dimension_records("exposure", instrument="LATISS", exposure=VISITS[0])
    pointing = (exposure.tracking_ra, exposure.tracking_dec, exposure.sky_angle)
    right, wrong = (visit_regions(replace(camera, flip_x=flip), *pointing).detectors[0] for flip in (True, False))
    centre = right.getCentroid()
    [*_, corner] = (vertex for vertex in right.getVertices() if not wrong.contains(vertex))
    place = LonLat(UnitVector3d(*(c + (v - c) * 0.9999 for c, v in zip(tuple(centre), tuple(corner), strict=True))))
    assert right.contains(UnitVector3d(place))
    assert not wrong.contains(UnitVector3d(place))

    def found() -> list[int]:
        refs = open_butler().query_datasets(
            "raw", "LATISS/raw/all", instrument="LATISS", visit=VISITS[0], explain=False,
            where=f"visit_detector_region.region OVERLAPS POINT({place.getLon().asDegrees()!r}, "
            f"{place.getLat().asDegrees()!r})",
        )  # fmt: skip
        return [int(ref.dataId["exposure"]) for ref in refs]

    assert found() == []
    assert run(mistaken.root, "--write").exit_code == 0
    assert found() == [VISITS[0]]


def test_refined_regions_are_left_alone(mistaken: Repository, open_butler: OpenButler) -> None:
    with closing(NativeEngine(mistaken.root)) as engine:
        registry = engine.connect().butler.registry
        [exposure] = open_butler().query_dimension_records("exposure", instrument="LATISS", exposure=VISITS[0])
        moved = {**exposure.toDict(), "tracking_dec": exposure.tracking_dec + 1 / 3600}
        registry.syncDimensionData("exposure", moved, update=True)
    found = counts(mistaken.root, "--write", code=0)["LATISS"]
    assert (found["mistaken"], found["other"]) == (5, 1)
    assert 9 < found["other_arcsec"] < 12
    [visit] = open_butler().query_dimension_records("visit", instrument="LATISS", visit=VISITS[0])
    assert offs(open_butler())[visit.id] == pytest.approx(found["other_arcsec"])


def test_regions_of_another_kind_are_left_alone(mistaken: Repository, open_butler: OpenButler) -> None:
    circle = Circle(UnitVector3d(1, 0, 0), Angle.fromDegrees(1))
    with closing(NativeEngine(mistaken.root)) as engine:
        registry = engine.connect().butler.registry
        for number, region in zip(VISITS, (circle, None), strict=False):
            [visit] = open_butler().query_dimension_records("visit", instrument="LATISS", visit=number)
            registry.syncDimensionData("visit", visit.toDict() | {"region": region}, update=True)
    found = counts(mistaken.root, "--write", code=0)["LATISS"]
    assert found == {
        "right": 0, "mistaken": 4, "mistaken_arcsec": pytest.approx(10.048, abs=0.001), "other": 2, "other_arcsec": 0.0
    }  # fmt: skip
    [visit] = open_butler().query_dimension_records("visit", instrument="LATISS", visit=VISITS[0])
    assert visit.region == circle


@pytest.mark.parametrize("chunk", [1, 2])
def test_a_repair_that_was_stopped_is_repeated(
    mistaken: Repository, open_butler: OpenButler, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(regions, "CHUNK", chunk)
    computed = []

    def stopping(camera: Any, *pointing: float) -> VisitRegions:
        computed.append(pointing)
        if len(computed) == 7:  # two for each visit: in the middle of the second day
            raise KeyboardInterrupt
        return visit_regions(camera, *pointing)

    with monkeypatch.context() as patch:
        patch.setattr(regions, "visit_regions", stopping)
        with pytest.raises(KeyboardInterrupt):
            regions.repair_regions(mistaken.root, ["LATISS"], write=True)
    assert [visit // 100_000 for visit, distance in offs(open_butler()).items() if distance < 1e-9] == [20230705] * 2
    report = regions.repair_regions(mistaken.root, ["LATISS"], write=True)
    assert (report.instruments["LATISS"].right, report.instruments["LATISS"].mistaken) == (2, 4)
    assert max(offs(open_butler()).values()) < 1e-9


def test_other_cameras_are_right(mistaken: Repository) -> None:
    found = counts(mistaken.root, "--instrument", "LSSTCam", "--write", code=0)
    assert found == {
        "LSSTCam": {"right": 1, "mistaken": 0, "mistaken_arcsec": 0.0, "other": 0, "other_arcsec": 0.0}
    }  # fmt: skip


@pytest.mark.parametrize("repository", ["sqlite"], indirect=True)
def test_what_can_not_be_told(repository: Repository, tmp_path: Path) -> None:
    assert isinstance(run(str(tmp_path / "none")).exception, ConfigurationError)  # which exits with 2
    result = run(repository.root, "--instrument", "NoCam")
    assert result.exit_code == 2
    assert "NoCam" in result.output
    assert run(repository.root, "--since", "2025").exit_code == 2
    result = run(repository.root, "--since", "20250702", "--until", "20250701")
    assert result.exit_code == 2
    assert "20250702 is after --until 20250701" in result.output
    assert counts(repository.root, code=0)["LATISS"]["right"] == 0
