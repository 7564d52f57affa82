from __future__ import annotations

import json
import shutil
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from lsst.daf.butler import Butler, Timespan

from autoingest import instruments
from autoingest.butler.compare import KINDS, Comparison, Tolerance, compare
from autoingest.butler.native import NativeEngine
from autoingest.errors import ConfigurationError, TransientError
from autoingest.instruments.geometry import visit_regions
from testing import exposures
from testing.command import run

from .conftest import Repository

EXPOSURE: dict[str, Any] = {"instrument": "LSSTCam", "exposure": exposures.exposure_id(1)}
FILES = [*exposures.files(1, [93, 94, 95, *exposures.GUIDERS]), *exposures.files(2, [94], IMGTYPE="DARK")]


@pytest.fixture
def pair(repository: Repository, made_sqlite: Path, tmp_path: Path) -> tuple[str, str]:
    """A repository on either database and one on SQLite, with the same two exposures."""
    other = str(tmp_path / "other")
    shutil.copytree(made_sqlite, other)
    for root, order in ((repository.root, 1), (other, -1)):
        with closing(NativeEngine(root)) as engine:
            assert {item.outcome for item in engine.ingest(FILES[::order]).files} == {"ingested"}
    return repository.root, other


def change(repo: str, **values: Any) -> None:
    """Change fields of the first exposure."""
    with Butler.from_config(repo, writeable=True) as butler:
        [record] = butler.query_dimension_records("exposure", **EXPOSURE)
        butler.registry.syncDimensionData("exposure", record.toDict() | values, update=True)


def stored(repo: str, name: str) -> Any:
    with Butler.from_config(repo) as butler:
        [record] = butler.query_dimension_records("exposure", **EXPOSURE)
        return getattr(record, name)


def differing(result: Comparison) -> list[tuple[str, str | None]]:
    return [(item.kind, item.field) for item in result.differences]


def test_same_exposures_on_any_database(pair: tuple[str, str]) -> None:
    result = compare(*pair)
    assert result.equal
    assert result.differences == []
    counts = {count.kind: count.equal for count in result.counts}
    assert tuple(counts) == KINDS
    assert (counts["exposure"], counts["visit"], counts["visit_detector_region"]) == (2, 1, 205)
    assert counts["dataset"] == counts["datastore record"] == len(FILES)


@pytest.mark.parametrize("repository", ["sqlite"], indirect=True)
def test_tolerances(pair: tuple[str, str]) -> None:
    a, b = pair
    span, angle = stored(b, "timespan"), stored(b, "sky_angle")
    shifted = Timespan(None, None, _nsec=(span.nsec[0] + 1, span.nsec[1]))
    change(b, tracking_ra=215.0 * (1 + 1e-11), sky_angle=angle - 360.0)
    assert compare(a, b).equal
    change(b, tracking_ra=215.0 * (1 + 1e-8), timespan=shifted)
    assert differing(compare(a, b)) == [("exposure", "tracking_ra"), ("exposure", "timespan")]
    assert differing(compare(a, b, tolerance=Tolerance(timespan=1e-8))) == [("exposure", "tracking_ra")]
    assert compare(a, b, tolerance=Tolerance(relative=1e-7, timespan=1e-8)).equal


@pytest.mark.parametrize("repository", ["sqlite"], indirect=True)
@pytest.mark.parametrize(("arcsec", "equal"), [(1e-7, True), (1e-5, False)])
def test_regions_may_be_a_little_apart(pair: tuple[str, str], arcsec: float, equal: bool) -> None:
    a, b = pair
    with Butler.from_config(b, writeable=True) as butler:
        [record] = butler.query_dimension_records("exposure", **EXPOSURE)
        [visit] = butler.query_dimension_records("visit", instrument="LSSTCam", visit=record.id)
        camera = instruments.get("LSSTCam")
        regions = visit_regions(camera, record.tracking_ra, record.tracking_dec + arcsec / 3600, record.sky_angle)
        butler.registry.syncDimensionData("visit", visit.toDict() | {"region": regions.visit}, update=True)
    result = compare(a, b)
    assert result.equal is equal
    assert differing(result) == ([] if equal else [("visit", "region")])


@pytest.mark.parametrize("repository", ["sqlite"], indirect=True)
def test_what_is_missing_or_differs_is_named(pair: tuple[str, str]) -> None:
    a, b = pair
    with closing(NativeEngine(b)) as engine:
        engine.ingest(exposures.files(3, [94]))
    [file] = exposures.files(1, [94])
    moved = file.path.replace("fits", "fits.fz")
    with Butler.from_config(b, writeable=True) as butler:
        refs = butler.query_datasets("raw", "LSSTCam/raw/all", **EXPOSURE, detector=94)
        butler.pruneDatasets(refs, disassociate=True, unstore=True, purge=True)
    with closing(NativeEngine(b)) as engine:
        engine.ingest([replace(file, path=moved, url="s3://" + moved, size=7)])
    result = compare(a, b, show=1)
    assert not result.equal
    counts = {count.kind: (count.differing, count.only_a, count.only_b) for count in result.counts}
    assert counts["exposure"] == counts["visit"] == counts["group"] == (0, 0, 1)
    assert counts["visit_detector_region"] == (0, 0, 205)
    assert counts["dataset"] == (0, 0, 1)
    assert counts["datastore record"] == (1, 0, 1)
    shown = {item.kind: item for item in result.differences}
    assert (shown["exposure"].a, shown["exposure"].b, shown["exposure"].field) == (None, "there", None)
    assert str(exposures.exposure_id(3)) in shown["exposure"].key
    fields = {item.field: (item.a, item.b) for item in compare(a, b).differences if item.kind == "datastore record"}
    assert fields["path"] == (file.url, "s3://" + moved)
    assert fields["file size"] == (str(file.size), "7")
    assert not compare(a, b, day_obs=exposures.DAY_OBS).equal
    assert compare(a, b, day_obs=20200101).equal


@pytest.mark.parametrize("repository", ["sqlite"], indirect=True)
def test_command(pair: tuple[str, str]) -> None:
    a, b = pair
    same = run("repo", "compare", a, b, "--instrument", "LSSTCam", "--json")
    assert same.exit_code == 0
    assert json.loads(same.stdout)["equal"] is True
    change(b, target_name="elsewhere")
    other = run("repo", "compare", a, b)
    assert other.exit_code == 1
    line = f"exposure instrument=LSSTCam exposure={EXPOSURE['exposure']}: target_name is field-1 in A, elsewhere in B"
    assert line in other.stdout
    told = json.loads(run("repo", "compare", a, b, "--json").stdout)["differences"]
    assert [(item["kind"], item["field"], item["b"]) for item in told] == [("exposure", "target_name", "elsewhere")]


@pytest.mark.parametrize("repository", ["sqlite"], indirect=True)
def test_what_can_not_be_compared(repository: Repository, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="nowhere"):
        compare(repository.root, str(tmp_path / "nowhere"))
    with pytest.raises(ConfigurationError, match="Unknown"):
        compare(repository.root, repository.root, instrument="Unknown")
    (Path(repository.root) / "gen3.sqlite3").write_bytes(b"no database at all" * 100)
    with pytest.raises(TransientError, match="can't be opened now: DatabaseError: file is not a database"):
        compare(repository.root, repository.root)
