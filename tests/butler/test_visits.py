from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any, cast

import pytest
import sqlalchemy
from astropy.time import Time
from lsst.daf.butler import Butler, Timespan

from autoingest.app.config import DifferingMetadata
from autoingest.butler import visits as visits_module
from autoingest.butler.native import NativeEngine
from testing import exposures

from .conftest import Repository

OpenButler = Callable[[], Butler]
FIRST, SECOND, THIRD = (exposures.exposure_id(number) for number in (11, 12, 13))


@pytest.fixture
def by_counter(repository: Repository) -> Iterator[NativeEngine]:
    with closing(NativeEngine(repository.root, "one-to-one-and-by-counter")) as engine:
        yield engine


def snap(number: int, of: int = 3, **changes: Any) -> list[Any]:
    """Return a file of one of the snaps 11, 12, ... of a group."""
    shared = {"CURINDEX": number - 10, "MAXINDEX": of, "GROUPID": "2025-07-15T02:00:00.000", **changes}
    return exposures.files(number, [94], **shared)


def systems(butler: Butler) -> dict[int, set[int]]:
    found: dict[int, set[int]] = {}
    for record in butler.query_dimension_records("visit_system_membership", instrument="LSSTCam", explain=False):
        found.setdefault(record.visit, set()).add(record.visit_system)
    return found


def members(butler: Butler) -> dict[int, set[int]]:
    found: dict[int, set[int]] = {}
    for record in butler.query_dimension_records("visit_definition", instrument="LSSTCam", explain=False):
        found.setdefault(record.visit, set()).add(record.exposure)
    return found


def one(butler: Butler, element: str, **data_id: Any) -> Any:
    [record] = butler.query_dimension_records(element, instrument="LSSTCam", **data_id)
    return record


def test_single_exposure_is_also_the_groups_visit(
    by_counter: NativeEngine, open_butler: OpenButler, shared_data: Path
) -> None:
    expected = json.loads((shared_data / "visits" / "LSSTCam_2025052100138.json").read_text())
    exposure = expected["exposure"]
    span = Timespan(None, None, _nsec=(exposure["timespan_begin"], exposure["timespan_end"]))
    begin, end = cast(Time, span.begin), cast(Time, span.end)
    changes = {
        "OBSID": exposure["obs_id"], "DAYOBS": "20250521", "SEQNUM": 138, "GROUPID": exposure["group"],
        "FILTER": "g_6", "OBJECT": exposure["target_name"], "PROGRAM": "BLOCK-365", "DATE-BEG": begin.isot,
        "DATE": end.isot, "DATE-END": end.isot, "DATE-OBS": begin.isot,
    }  # fmt: skip
    [file] = exposures.files(138, [94], **changes)
    path = file.path.replace(exposures.obs_id(138), exposure["obs_id"]).replace("/20250714/", "/20250521/")
    file = replace(file, path=path, url=f"s3://{path}", obs_id=exposure["obs_id"])
    assert len(by_counter.ingest([file]).visits) == 1
    butler = open_butler()
    for element in ("visit_system", "visit_definition", "visit_system_membership"):
        records = butler.query_dimension_records(element, instrument="LSSTCam")
        key = expected[element][0].keys()
        assert sorted(map(_items, (record.toDict() for record in records))) == sorted(map(_items, expected[element]))
        assert all(record.toDict().keys() == key for record in records)


def _items(row: dict[str, Any]) -> list[tuple[str, Any]]:
    return sorted(row.items())


@pytest.mark.parametrize("repository", ["sqlite"], indirect=True)
@pytest.mark.parametrize("order", [*permutations((11, 12, 13)), ((11, 12, 13),)], ids=str)
def test_snaps_in_any_order(by_counter: NativeEngine, open_butler: OpenButler, order: Iterable[Any]) -> None:
    pointings: dict[int, dict[str, Any]] = {11: {"AZSTART": 359.0}, 12: {"AZSTART": 1.0}, 13: {"AZSTART": 3.0}}
    defined = []
    for numbers in order:
        batch = [
            file
            for number in (numbers if isinstance(numbers, tuple) else (numbers,))
            for file in snap(number, **pointings[number])
        ]
        result = by_counter.ingest(batch)
        assert result.owed == []
        defined += [visit for _, visit in result.visits]
    group_first = int(f"9{FIRST}")
    assert sorted(defined) == [FIRST, SECOND, THIRD, group_first]
    butler = open_butler()
    assert members(butler) == {
        FIRST: {FIRST, SECOND, THIRD}, group_first: {FIRST}, SECOND: {SECOND}, THIRD: {THIRD},
    }  # fmt: skip
    assert systems(butler) == {FIRST: {2}, group_first: {0}, SECOND: {0}, THIRD: {0}}
    group, first = one(butler, "visit", visit=FIRST), one(butler, "visit", visit=group_first)
    assert (group.name, first.name) == (exposures.obs_id(11), exposures.obs_id(11) + "_first")
    assert (group.exposure_time, first.exposure_time, group.seq_num) == (90.0, 30.0, 11)
    assert group.azimuth == pytest.approx(1.0)
    begin, end = (one(butler, "exposure", exposure=number).timespan for number in (FIRST, THIRD))
    assert group.timespan == Timespan(begin.begin, end.end)
    assert group.region == first.region
    assert len(butler.query_dimension_records("visit_detector_region", instrument="LSSTCam", visit=FIRST)) == 205


@pytest.mark.parametrize("repository", ["sqlite"], indirect=True)
def test_what_snaps_do_not_share(by_counter: NativeEngine, open_butler: OpenButler) -> None:
    by_counter.ingest(snap(11, 2) + snap(12, 2, OBJECT="other", REASON="other", PROGRAM="other"))
    visit = one(open_butler(), "visit", visit=FIRST)
    assert (visit.target_name, visit.science_program, visit.physical_filter) == (None, None, "i_39")
    assert visit.observation_reason == "various"


@pytest.mark.parametrize("repository", ["postgres"], indirect=True)
def test_writers_of_one_group_take_turns(
    by_counter: NativeEngine, repository: Repository, open_butler: OpenButler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who has seen fewer snaps does not overwrite what another has written of more."""
    by_counter.ingest(snap(11))
    paused, released = threading.Event(), threading.Event()
    genuine = visits_module._row

    def row(definition: visits_module.Definition) -> dict[str, Any]:
        if threading.current_thread().name == "slow" and definition.id == FIRST:
            paused.set()
            assert released.wait(20)
        return genuine(definition)

    monkeypatch.setattr(visits_module, "_row", row)

    def ingest(files: Any, policy: DifferingMetadata) -> None:
        with closing(NativeEngine(repository.root, "one-to-one-and-by-counter", policy)) as engine:
            assert engine.ingest(files).owed == []

    slow = threading.Thread(target=ingest, args=(snap(11, ROTPA=40.0), "update"), name="slow")
    quick = threading.Thread(target=ingest, args=(snap(12), "keep"))
    assert repository.registry_url
    database = sqlalchemy.create_engine(repository.registry_url, poolclass=sqlalchemy.NullPool)
    blocked = sqlalchemy.text("SELECT count(*) FROM pg_locks WHERE NOT granted")
    slow.start()
    assert paused.wait(20)
    quick.start()
    with database.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        while quick.is_alive() and not connection.scalar(blocked):
            quick.join(0.01)
    released.set()
    slow.join(20)
    quick.join(20)
    butler = open_butler()
    assert members(butler)[FIRST] == {FIRST, SECOND}
    assert one(butler, "visit", visit=FIRST).exposure_time == 60.0


@pytest.mark.parametrize("seq_num", [1, 11], ids=["own visit", "group's visit"])
def test_visit_that_can_not_be_defined_is_owed(
    by_counter: NativeEngine, open_butler: OpenButler, monkeypatch: pytest.MonkeyPatch, seq_num: int
) -> None:
    files = snap(11) if seq_num == 11 else exposures.files(1, [94])
    key = ("LSSTCam", exposures.exposure_id(seq_num))

    def fail(*_: Any) -> None:
        raise ValueError("pointing makes no sense")

    monkeypatch.setattr(visits_module, "visit_regions", fail)
    for _ in range(2):  # an acknowledgement may have been lost: it is told again
        result = by_counter.ingest(files)
        assert [item.outcome for item in result.files] == ["ingested"]
        assert [(visit.instrument, visit.exposure_id) for visit in result.owed] == [key]
        assert "pointing makes no sense" in result.owed[0].exception
    assert not members(open_butler())
    assert [visit.exposure_id for visit in by_counter.define_visits([key]).owed] == [key[1]]
    monkeypatch.undo()

    result = by_counter.define_visits([key, ("LSSTCam", 1), ("Unknown", 1)])
    assert (result.owed, len(result.visits)) == ([], 1 if seq_num == 1 else 2)
    assert members(open_butler())[key[1]] == {key[1]}
    assert by_counter.define_visits([key]).visits == []
    assert by_counter.ingest(files).owed == []


def test_pointing_that_is_no_number_keeps_no_file_from_the_repository(by_counter: NativeEngine) -> None:
    result = by_counter.ingest(exposures.files(1, [94]))
    butler = by_counter.connect().butler
    record = one(butler, "exposure", exposure=exposures.exposure_id(1)).toDict()
    butler.registry.insertDimensionData(
        "exposure", record | {"id": exposures.exposure_id(2), "obs_id": exposures.obs_id(2), "sky_angle": float("inf")}
    )
    result = by_counter.define_visits([("LSSTCam", exposures.exposure_id(2))])
    assert [visit.exposure_id for visit in result.owed] == [exposures.exposure_id(2)]
