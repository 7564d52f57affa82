"""What is the native engine's own; what every engine must do is in ``test_contract.py``."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import sqlalchemy
from astropy.time import Time
from lsst.daf.butler import Butler, Timespan
from lsst.daf.butler.direct_butler import DirectButler
from lsst.sphgeom import LonLat, UnitVector3d

from autoingest.butler.datasets import Datasets
from autoingest.butler.engine import IngestFile
from autoingest.butler.exposures import Exposure, Exposures
from autoingest.butler.native import NativeEngine
from autoingest.instruments import ExposureRecord
from testing import exposures

from .conftest import Repository
from .contents import OpenButler, outcomes, stored


def _tai(text: str) -> Any:
    from astropy.time import Time

    return Time(text, scale="tai")


def test_header_that_can_not_be_translated(engine: NativeEngine) -> None:
    first, good, bad, later, other = [
        file if file.path.endswith("R22_S11.fits")
        else replace(file, header={card: value for card, value in file.header.items()
                                   if not card.startswith(("DATE", "MJD"))})
        for file in exposures.files(1, [93, 94, 95, 96, 97])
    ]  # fmt: skip
    other = replace(other, header={**other.header, "OBJECT": "another"})
    alone = engine.ingest([bad])
    assert [(item.outcome, item.reason) for item in alone.files] == [("failed", "metadata")]
    assert outcomes(engine.ingest([first, bad, good])) == {"ingested": 3}
    assert outcomes(engine.ingest([later])) == {"ingested": 1}
    assert [(item.outcome, item.reason) for item in engine.ingest([other]).files] == [("failed", "metadata")]


def test_visit_is_what_the_official_tools_write(
    engine: NativeEngine, open_butler: OpenButler, shared_data: Path
) -> None:
    expected = json.loads((shared_data / "visits" / "LSSTCam_2025052100138.json").read_text())
    exposure = dict(expected["exposure"])
    span = Timespan(None, None, _nsec=(exposure.pop("timespan_begin"), exposure.pop("timespan_end")))
    begin, end = cast(Time, span.begin), cast(Time, span.end)
    exposure |= {"timespan": span, "has_simulated": False, "can_see_sky": True}
    butler = engine.connect().butler
    noon = _tai("2025-05-21T12:00:00")
    day = {"instrument": "LSSTCam", "id": 20250521, "timespan": Timespan(noon, _tai("2025-05-22T12:00:00"))}
    insert = butler.registry.insertDimensionData
    insert("group", {"instrument": "LSSTCam", "name": exposure["group"]})
    insert("day_obs", day)
    insert("exposure", exposure)
    changes = {
        "OBSID": exposure["obs_id"], "DAYOBS": "20250521", "SEQNUM": 138, "GROUPID": exposure["group"],
        "FILTER": "g_6", "OBJECT": exposure["target_name"], "PROGRAM": "BLOCK-365", "DATE-BEG": begin.isot,
        "DATE": end.isot, "DATE-END": end.isot, "DATE-OBS": begin.isot,
    }  # fmt: skip
    [file] = exposures.files(138, [94], **changes)
    result = engine.ingest([replace(file, obs_id=exposure["obs_id"])])
    assert outcomes(result) == {"ingested": 1}
    assert result.visits == [("LSSTCam", 2025052100138)]

    butler = open_butler()
    key: dict[str, Any] = {"instrument": "LSSTCam", "visit": 2025052100138}
    [visit] = butler.query_dimension_records("visit", **key)
    row = {name: value for name, value in visit.toDict().items() if name not in ("region", "timespan")}
    begin, end = expected["visit"].pop("timespan_begin"), expected["visit"].pop("timespan_end")
    assert row == expected["visit"]
    assert visit.timespan == Timespan(None, None, _nsec=(begin, end))
    assert [record.toDict() for record in butler.query_dimension_records("visit_definition", **key)] == expected[
        "visit_definition"
    ]
    for element in ("visit_system", "visit_system_membership"):
        records = [record.toDict() for record in butler.query_dimension_records(element, instrument="LSSTCam")]
        assert records == [row for row in expected[element] if row.get("visit_system", row.get("id")) == 0]
    assert _separation(visit.region, expected["visit_region_deg"]) < 1e-6
    regions = {
        record.detector: record.region for record in butler.query_dimension_records("visit_detector_region", **key)
    }
    assert len(regions) == 205
    for detector, corners in expected["visit_detector_region_deg"].items():
        assert _separation(regions[int(detector)], corners) < 1e-6


def _separation(region: Any, corners: list[list[float]]) -> float:
    """Return the largest distance, arcseconds, from a corner of either polygon to the nearest one of the other."""
    import numpy as np

    ours = np.array([list(vertex) for vertex in region.getVertices()])
    theirs = np.array([list(UnitVector3d(LonLat.fromDegrees(*corner))) for corner in corners])
    distances = np.linalg.norm(ours[:, None] - theirs[None], axis=-1)
    return float(np.degrees(max(distances.min(0).max(), distances.min(1).max())) * 3600)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(1), MemoryError("no memory"), RecursionError()])
def test_batch_is_all_or_nothing(
    engine: NativeEngine, open_butler: OpenButler, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    """Whatever a library raises, nothing is half written, and the file that it comes with is told."""
    genuine = Datasets.ingest

    def crash(self: Datasets, prepared: Any) -> set[str]:
        genuine(self, prepared)
        raise error

    monkeypatch.setattr(Datasets, "ingest", crash)
    [failed] = engine.ingest(exposures.files(1, [94])).files
    assert (failed.outcome, failed.exception.partition(":")[0]) == ("failed", type(error).__name__)
    monkeypatch.undo()
    assert not open_butler().query_dimension_records("exposure", instrument="LSSTCam", explain=False)
    assert stored(open_butler(), 1) == {}
    result = engine.ingest(exposures.files(1, [94]))
    assert (outcomes(result), len(result.visits)) == ({"ingested": 1}, 1)


def test_exposure_that_somebody_removes_comes_back(engine: NativeEngine, repository: Repository) -> None:
    engine.ingest(exposures.files(1, [94]))
    butler = Butler.from_config(repository.root, writeable=True)
    butler.pruneDatasets(
        butler.query_datasets("raw", collections="LSSTCam/raw/all"), disassociate=True, unstore=True, purge=True
    )
    butler.close()
    database = sqlalchemy.create_engine(repository.registry_url or f"sqlite:///{repository.root}/gen3.sqlite3")
    ordered = [name for name, _ in sqlalchemy.inspect(database).get_sorted_table_and_fkc_names() if name]
    with database.begin() as connection:
        for table in reversed(ordered):
            if table == "exposure" or (table.startswith("visit") and table != "visit_system"):
                connection.execute(sqlalchemy.text(f"DELETE FROM {table}"))
    database.dispose()
    assert outcomes(engine.ingest(exposures.files(1, [95]))) == {"failed": 1}
    assert outcomes(engine.ingest(exposures.files(1, [95]))) == {"ingested": 1}


def test_dataset_that_the_datastore_has_lost_comes_back(
    engine: NativeEngine, repository: Repository, open_butler: OpenButler
) -> None:
    lost, new = exposures.files(1, [94, 95])
    engine.ingest([lost])
    with Butler.from_config(repository.root, writeable=True) as butler:
        butler.pruneDatasets(
            butler.query_datasets("raw", collections="LSSTCam/raw/all"), disassociate=False, unstore=True
        )
    assert outcomes(engine.ingest([lost, new])) == {"ingested": 2}
    assert set(stored(open_butler(), 1)) == {lost.url, new.url}


@pytest.mark.parametrize("repository", ["postgres"], indirect=True)  # SQLite has one writer at a time
def test_datasets_that_another_writer_has_just_committed(
    engine: NativeEngine, repository: Repository, open_butler: OpenButler, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = exposures.files(1, [94, 95, 96])
    engine.ingest(files[:1])
    other = NativeEngine(repository.root)
    genuine = DirectButler.get_many_datasets

    def late(self: DirectButler, ids: Any) -> Any:
        found = genuine(self, ids)
        monkeypatch.undo()
        assert outcomes(other.ingest(files[1:2])) == {"ingested": 1}
        return found

    monkeypatch.setattr(DirectButler, "get_many_datasets", late)
    result = engine.ingest(files[1:])
    other.close()
    assert outcomes(result) == {"ingested again": 1, "ingested": 1}
    assert set(stored(open_butler(), 1)) == {file.url for file in files}


@pytest.mark.parametrize(
    "changes",
    [{"OBSID": "MC_O_20250714_" + "0" * 300 + "1"}, {"OBSID": "x" * 100_000}, {"OBSID": "../../../etc/passwd"},
     {"OBSID": "MC_O_20250714_000001\0"}, {"GROUPID": "a\0b"}, {"OBJECT": "a\0b"}, {"OBSID": {"a": [1]}},
     {"MJD-BEG": 40587.0, "DATE-BEG": None}, {"MJD-BEG": 40586.999999999, "DATE-BEG": None}, {"SEQNUM": 2**62},
     {"OBJECT": "x" * 3_000_000}, {"EXPTIME": 1e308}, {"GROUPID": "x" * 10_000}, {"RA": 1e300},
     {"DAYOBS": "20250714\n"}, {"ROTPA": float("inf")}],
    ids=lambda changes: "-".join(changes),
)  # fmt: skip
def test_odd_values_harm_only_their_file(engine: NativeEngine, changes: dict[str, Any]) -> None:
    """Whatever one exposure's headers hold, it is ingested or fails, and other exposures are in."""
    odd = exposures.files(1, [94], **changes)
    result = engine.ingest([*exposures.files(2, [93, 95]), *odd, *exposures.files(3, [93])])
    assert [item.outcome for item in result.files if item.path != odd[0].path] == ["ingested"] * 3
    [told] = [item for item in result.files if item.path == odd[0].path]
    assert told.outcome in ("ingested", "failed")
    assert told.outcome == "ingested" or (told.reason and told.exception)


@pytest.mark.parametrize(
    "changes",
    [{"OBSID": "elsewhere"}, {"OBSID": 12345}, {"OBSID": "MC_O_20250714_000001\n\0"}, {"OBSID": "../../etc/passwd"},
     {"OBSID": exposures.obs_id(3)}, {"OBSID": "é\U0001f600"}, {"SEQNUM": 2}, {"SEQNUM": 99_999}, {"SEQNUM": "2"},
     {"DAYOBS": "20250713"}, {"DAYOBS": "99991231"}],
    ids=repr,
)  # fmt: skip
def test_header_of_another_exposure_than_the_key_names(engine: NativeEngine, changes: dict[str, Any]) -> None:
    """Though it comes first, neither the others of its exposure nor those of the one that it claims are harmed."""
    odd, *others = exposures.files(1, [0, 94, 95, exposures.GUIDERS[0]])
    odd = replace(odd, header={**odd.header, **changes})
    [first] = engine.ingest([odd]).files
    assert (first.outcome, first.reason) == ("failed", "metadata")
    assert next(iter(changes)) in first.exception
    assert odd.url in first.exception
    later = [*others, *exposures.files(2, [94, exposures.GUIDERS[0]]), *exposures.files(3, [94, exposures.GUIDERS[0]])]
    assert {(item.outcome, item.duplicate) for item in engine.ingest(later).files} == {("ingested", False)}


@pytest.mark.parametrize("changes", [{"FILTER": "r_57"}, {"GROUPID": "elsewhere"}, {"GROUPID": "x" * 10_000}], ids=repr)
def test_most_files_of_a_batch_make_the_exposures_record(engine: NativeEngine, changes: dict[str, Any]) -> None:
    """The one that contradicts the others fails alone, though it comes first."""
    odd, *others = exposures.files(1, [0, 94, 95, exposures.GUIDERS[0]])
    odd = replace(odd, header={**odd.header, **changes})
    result = engine.ingest([odd, *others])
    assert [(item.outcome, item.reason) for item in result.files] == [("failed", "conflict")] + 3 * [("ingested", "")]


def test_exposures_that_can_not_be_written_cost_the_others_no_second_try(
    engine: NativeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many there are, each other file is prepared twice at the most."""
    genuine, prepared = Datasets.file_to_ingest, list[str]()

    def file_to_ingest(self: Datasets, file: IngestFile, *more: Any) -> Any:
        prepared.append(file.path)
        return genuine(self, file, *more)

    monkeypatch.setattr(Datasets, "file_to_ingest", file_to_ingest)
    ensure = Exposures.ensure

    def refuse(self: Exposures, wanted: ExposureRecord) -> Exposure:
        if wanted.target_name == "odd":
            raise ValueError("can't be written")
        return ensure(self, wanted)

    monkeypatch.setattr(Exposures, "ensure", refuse)
    files = []
    for number in range(1, 20, 2):
        files += [*exposures.files(number, [94, 95]), *exposures.files(number + 1, [94], OBJECT="odd")]
    result = engine.ingest(files)
    assert outcomes(result) == {"ingested": 20, "failed": 10}
    assert max(Counter(prepared).values()) <= 2
