"""What every engine must do.

``stack with test double`` is our engine `stack` on a double of the Science Pipelines' tasks, see
``testing/official_tasks``; where the genuine ones are installed, ``stack`` runs instead.
"""

from __future__ import annotations

import shutil
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from lsst.daf.butler import Butler, Timespan

from autoingest import instruments
from autoingest.butler.compare import compare
from autoingest.butler.native import NativeEngine
from autoingest.butler.records import rows
from autoingest.errors import ConfigurationError, TransientError
from autoingest.instruments import exposure_record
from testing import exposures
from testing.engines import EngineHost, HostedEngine, kinds

from .conftest import Repository
from .contents import OpenButler, outcomes, stored

OpenEngine = Callable[..., HostedEngine]
NAMESPACE = uuid.UUID("840b31d9-05cd-5161-b2c8-00d32b280d0f")
only_sqlite = pytest.mark.parametrize("repository", ["sqlite"], indirect=True)
only_postgres = pytest.mark.parametrize("repository", ["postgres"], indirect=True)


@pytest.fixture(scope="module", params=kinds())
def host(request: pytest.FixtureRequest) -> Iterator[EngineHost]:
    with closing(EngineHost(request.param)) as host:
        yield host


@pytest.fixture
def open_engine(host: EngineHost, repository: Repository) -> Iterator[OpenEngine]:
    opened = []

    def open_one(*args: str) -> HostedEngine:
        opened.append(host.open(repository.root, *args))
        return opened[-1]

    yield open_one
    for engine in opened:
        engine.close()


@pytest.fixture
def engine(open_engine: OpenEngine) -> HostedEngine:
    return open_engine()


@pytest.mark.parametrize(
    ("repository", "guiders"), [("sqlite", "first"), ("postgres", "last")], indirect=["repository"]
)
def test_whole_exposure(engine: HostedEngine, open_butler: OpenButler, guiders: str) -> None:
    files = sorted(exposures.files(1), key=lambda file: file.is_guider == (guiders == "last"))
    result = engine.ingest(files)
    assert [item.path for item in result.files] == [file.path for file in files]
    assert outcomes(result) == {"ingested": 205}
    assert (result.visits, result.owed) == ([("LSSTCam", exposures.exposure_id(1))], [])
    assert {(item.instrument, item.exposure_id, item.obs_id, item.day_obs) for item in result.files} == {
        ("LSSTCam", exposures.exposure_id(1), exposures.obs_id(1), exposures.DAY_OBS)
    }

    found = stored(open_butler(), 1)
    assert set(found) == {file.url for file in files}
    ids = instruments.get("LSSTCam").detector_ids
    for file in files:
        name, run, dataset_id, detector, info = found[file.url]
        expected = ("guider_raw", "LSSTCam/raw/guider") if file.is_guider else ("raw", "LSSTCam/raw/all")
        assert (name, run) == expected
        assert detector == ids[f"{file.header['RAFTBAY']}_{file.header['CCDSLOT']}"]
        text = (
            f"dataset_type={name},run={run},detector={detector},exposure={exposures.exposure_id(1)},instrument=LSSTCam"
        )
        assert dataset_id == uuid.uuid5(NAMESPACE, text)
        assert info.formatter == (
            "lsst.obs.base.formatters.fitsGeneric.FitsGenericFormatter"
            if file.is_guider
            else "lsst.obs.lsst.rawFormatter.LsstCamRawFormatter"
        )
        assert info.storageClass.name == ("Stamps" if file.is_guider else "Exposure")
        assert (info.file_size, info.checksum, info.component) == (file.size, None, None)
    assert sum(name == "guider_raw" for name, *_ in found.values()) == 8


@only_sqlite
def test_records_of_the_exposure(engine: HostedEngine, open_butler: OpenButler) -> None:
    [file] = exposures.files(1, [94])
    engine.ingest([file])
    butler = open_butler()
    expected = rows(exposure_record(file.header, file.url))
    for element, row in expected.items():
        [record] = butler.query_dimension_records(element, instrument="LSSTCam", exposure=exposures.exposure_id(1))
        assert record.toDict() == row
    assert expected["exposure"]["group"] == file.header["GROUPID"]
    assert expected["day_obs"]["timespan"] == Timespan(
        *(_tai(text) for text in ("2025-07-14T12:00:00", "2025-07-15T12:00:00"))
    )


def _tai(text: str) -> Any:
    from astropy.time import Time

    return Time(text, scale="tai")


def test_what_is_in_stays_as_it_is(engine: HostedEngine, open_engine: OpenEngine, open_butler: OpenButler) -> None:
    files = exposures.files(1, [*range(90, 100), *exposures.GUIDERS])
    engine.ingest(files)
    before = stored(open_butler(), 1)
    assert outcomes(engine.ingest(files)) == {"ingested again": 18}
    result = open_engine().ingest(files + exposures.files(1, [100]))
    assert outcomes(result) == {"ingested again": 18, "ingested": 1}
    assert result.visits == []
    after = stored(open_butler(), 1)
    assert {path: after[path] for path in before} == before
    assert len(after) == 19


@only_sqlite
def test_new_size_of_a_replaced_object_is_recorded(engine: HostedEngine, open_butler: OpenButler) -> None:
    files = exposures.files(1, [94, 95])
    engine.ingest(files)
    grown = replace(files[0], size=5555)
    result = engine.ingest([grown, files[1]])
    assert outcomes(result) == {"ingested again": 2}
    assert [file.replaced for file in result.files] == [True, False]
    found = stored(open_butler(), 1)
    assert [found[file.url][-1].file_size for file in files] == [5555, files[1].size]


@only_sqlite
def test_two_objects_of_one_dataset(engine: HostedEngine, open_butler: OpenButler) -> None:
    [file] = exposures.files(1, [94])
    twin = replace(file, path=file.path + ".fz", url=file.url + ".fz")
    assert outcomes(engine.ingest([file, file, twin])) == {"ingested": 2, "ingested again": 1}
    assert set(stored(open_butler(), 1)) == {file.url}


def test_bad_files_fail_alone(engine: HostedEngine, open_butler: OpenButler) -> None:
    files = exposures.files(1, range(40)) + exposures.files(2, range(40)) + exposures.files(1, exposures.GUIDERS)
    for index in (7, 60, 83):
        files[index] = replace(files[index], size=2**70)  # more than the database's column holds
    files[20] = replace(files[20], header=dict(files[20].header, RAFTBAY="R99"))
    result = engine.ingest(files)
    assert [index for index, item in enumerate(result.files) if item.outcome == "failed"] == [7, 20, 60, 83]
    assert outcomes(result) == {"ingested": 84, "failed": 4}
    assert [result.files[index].reason for index in (7, 20, 60, 83)] == ["failed", "metadata", "failed", "failed"]
    assert all(result.files[index].exception for index in (7, 20, 60, 83))
    assert len(result.visits) == 2
    assert (len(stored(open_butler(), 1)), len(stored(open_butler(), 2))) == (45, 39)


@only_sqlite
def test_exposure_that_can_not_be_written_fails_alone(engine: HostedEngine, open_butler: OpenButler) -> None:
    bad = exposures.files(2, range(20), FILTER="none such")
    result = engine.ingest(exposures.files(1, range(20)) + bad + exposures.files(3, range(20)))
    assert {item.exposure_id for item in result.files if item.outcome == "failed"} == {exposures.exposure_id(2)}
    assert outcomes(result) == {"ingested": 40, "failed": 20}
    assert not open_butler().query_dimension_records(
        "exposure", instrument="LSSTCam", exposure=exposures.exposure_id(2), explain=False
    )


@only_sqlite
def test_first_file_does_not_spoil_its_exposure(engine: HostedEngine) -> None:
    files = exposures.files(1, range(9))
    files[0] = replace(files[0], header=dict(files[0].header, FILTER="none such"))
    result = engine.ingest(files)
    assert [item.outcome for item in result.files] == ["failed"] + 8 * ["ingested"]


@only_sqlite
def test_header_that_can_not_be_translated(engine: HostedEngine) -> None:
    bad, good = exposures.files(1, [94]) + exposures.files(2, [94])
    header = {card: value for card, value in bad.header.items() if not card.startswith(("DATE", "MJD"))}
    result = engine.ingest([replace(bad, header=header), replace(bad, path="no/fits.fits", header={}), good])
    assert [(item.outcome, item.reason) for item in result.files] == [
        ("failed", "metadata"), ("failed", "metadata"), ("ingested", ""),
    ]  # fmt: skip


def test_guiders_wait_for_their_exposure(engine: HostedEngine, open_engine: OpenEngine) -> None:
    guiders = exposures.files(1, exposures.GUIDERS)
    early = engine.ingest(guiders)
    assert outcomes(early) == {"waiting": 8}
    assert {(item.instrument, item.obs_id) for item in early.files} == {("LSSTCam", exposures.obs_id(1))}
    open_engine().ingest(exposures.files(1, [94]))
    late = engine.ingest(guiders + exposures.files(2, exposures.GUIDERS))
    assert outcomes(late) == {"ingested": 8, "waiting": 8}


@only_sqlite
def test_refined_pointing_is_kept(engine: HostedEngine, open_butler: OpenButler) -> None:
    engine.ingest(exposures.files(1, [94]))
    differing = {"RASTART": 215.3, "DECSTART": -12.7, "ROTPA": 30.0, "DARKTIME": 31.5}
    assert outcomes(engine.ingest(exposures.files(1, [95], **differing))) == {"ingested": 1}
    [record] = open_butler().query_dimension_records(
        "exposure", instrument="LSSTCam", exposure=exposures.exposure_id(1)
    )
    assert (record.tracking_ra, record.tracking_dec, record.dark_time) == (215.0, -12.5, 30.9)


@only_sqlite
def test_refined_pointing_is_updated(open_engine: OpenEngine, open_butler: OpenButler) -> None:
    engine = open_engine("one-to-one", "update")
    engine.ingest(exposures.files(1, [94]))
    [before] = open_butler().query_dimension_records("visit", instrument="LSSTCam")
    assert outcomes(engine.ingest(exposures.files(1, [95], RASTART=215.3))) == {"ingested": 1}
    assert outcomes(engine.ingest(exposures.files(1, [96], RASTART=215.3, FILTER="r_57"))) == {"failed": 1}
    [exposure] = open_butler().query_dimension_records("exposure", instrument="LSSTCam")
    [after] = open_butler().query_dimension_records("visit", instrument="LSSTCam")
    assert (exposure.tracking_ra, exposure.physical_filter) == (215.3, "i_39")
    assert after.region != before.region


@only_sqlite
def test_refined_pointing_fails(open_engine: OpenEngine) -> None:
    engine = open_engine("one-to-one", "fail")
    files = exposures.files(1, [94]) + exposures.files(1, [95], RASTART=215.3) + exposures.files(1, [96])
    result = engine.ingest(files)
    assert [(item.outcome, item.reason) for item in result.files] == [
        ("ingested", ""), ("failed", "conflict"), ("ingested", ""),
    ]  # fmt: skip


@only_sqlite
@pytest.mark.parametrize("known", [True, False], ids=["same engine", "new engine"])
def test_contradicting_header_fails(engine: HostedEngine, open_engine: OpenEngine, known: bool) -> None:
    engine.ingest(exposures.files(1, [94]))
    other = engine if known else open_engine()
    files = exposures.files(1, [95])
    for detector, change in enumerate(
        [{"FILTER": "r_57"}, {"OBSID": "elsewhere"}, {"GROUPID": "2025-07-15T09:00:00.000"}], start=96
    ):
        files += exposures.files(1, [detector], **change)
    result = other.ingest(files)
    assert [item.outcome for item in result.files] == ["ingested"] + 3 * ["failed"]
    assert [item.reason for item in result.files[1:]] == ["conflict", "metadata", "conflict"]
    assert "r_57" in result.files[1].exception


@only_sqlite
def test_exposure_off_the_sky_is_no_visit(engine: HostedEngine, open_butler: OpenButler) -> None:
    files = []
    for seq_num, change in enumerate([{"IMGTYPE": "DARK"}, {"VIGN_MIN": "FULLY"}, {"ROTCOORD": "mount"}], start=1):
        files += exposures.files(seq_num, [94], **change)
    result = engine.ingest(files)
    assert (outcomes(result), result.visits, result.owed) == ({"ingested": 3}, [], [])
    assert not open_butler().query_dimension_records("visit", instrument="LSSTCam", explain=False)


@pytest.mark.parametrize(
    ("repository", "by"), [("sqlite", "the exposure"), ("postgres", "the batch")], indirect=["repository"]
)
def test_visit_that_a_crash_has_prevented_is_made_up_for(
    open_engine: OpenEngine, open_butler: OpenButler, by: str
) -> None:
    key = ("LSSTCam", exposures.exposure_id(1))
    files = exposures.files(1, [94])
    assert open_engine("none").ingest(files).visits == []
    engine = open_engine()
    if by == "the batch":
        result = engine.ingest(files)
        assert outcomes(result) == {"ingested again": 1}
    else:
        result = engine.define_visits([key, ("LSSTCam", 1), ("Unknown", 1)])
    assert (result.visits, result.owed) == ([key], [])
    regions = open_butler().query_dimension_records("visit_detector_region", instrument="LSSTCam", visit=key[1])
    assert len(regions) == 205
    assert engine.define_visits([key]).visits == []


@only_sqlite
def test_refined_visit_stays(engine: HostedEngine, open_engine: OpenEngine, repository: Repository) -> None:
    engine.ingest(exposures.files(1, [94]))
    with Butler.from_config(repository.root, writeable=True) as butler:
        [visit] = butler.query_dimension_records("visit", instrument="LSSTCam")
        butler.registry.syncDimensionData("visit", visit.toDict() | {"exposure_time": 29.0}, update=True)
    assert outcomes(open_engine().ingest(exposures.files(1, [94, 95]))) == {"ingested again": 1, "ingested": 1}
    with Butler.from_config(repository.root) as butler:
        [visit] = butler.query_dimension_records("visit", instrument="LSSTCam")
    assert visit.exposure_time == 29.0


@only_sqlite
def test_visit_that_can_not_be_defined_is_owed(
    engine: HostedEngine, open_engine: OpenEngine, repository: Repository
) -> None:
    open_engine("none").ingest(files := exposures.files(1, [94]))
    with Butler.from_config(repository.root, writeable=True) as butler:
        [record] = butler.query_dimension_records("exposure", instrument="LSSTCam")
        butler.registry.syncDimensionData("exposure", record.toDict() | {"sky_angle": float("inf")}, update=True)
    result = engine.ingest(files)
    assert outcomes(result) == {"ingested again": 1}
    assert [(visit.instrument, visit.exposure_id) for visit in result.owed] == [("LSSTCam", exposures.exposure_id(1))]


@only_sqlite
def test_snaps_are_a_visit(open_engine: OpenEngine, open_butler: OpenButler) -> None:
    engine = open_engine("one-to-one-and-by-counter")
    visits = []
    for number in (11, 12):
        cards = {"CURINDEX": number - 10, "MAXINDEX": 2, "GROUPID": "2025-07-15T02:00:00.000"}
        visits += engine.ingest(exposures.files(number, [94], **cards)).visits
    first, second = exposures.exposure_id(11), exposures.exposure_id(12)
    assert sorted(visit for _, visit in visits) == [first, second, int(f"9{first}")]
    records = open_butler().query_dimension_records("visit_definition", instrument="LSSTCam", visit=first)
    assert {record.exposure for record in records} == {first, second}


@only_sqlite
def test_repository_is_the_same_whichever_engine_wrote_it(
    engine: HostedEngine, repository: Repository, tmp_path: Path, made_sqlite: Path
) -> None:
    files = exposures.files(1) + exposures.files(2, [94, 95], IMGTYPE="DARK") + exposures.files(3, [1, 2], OBJECT="b")
    shutil.copytree(made_sqlite, native := tmp_path / "native")
    with closing(NativeEngine(str(native))) as reference:
        reference.ingest(files)
    engine.ingest(files)
    result = compare(str(native), repository.root)
    assert result.differences == []
    equal = {count.kind: count.equal for count in result.counts}
    assert (equal["exposure"], equal["visit_detector_region"], equal["datastore record"]) == (3, 2 * 205, 209)


@only_postgres
@pytest.mark.parametrize("table", ["exposure", "file_datastore_records", "visit_detector_region"])
def test_lost_database_connection(
    engine: HostedEngine, repository: Repository, open_butler: OpenButler, table: str
) -> None:
    assert repository.registry_url
    files = exposures.files(2, [*range(40), *exposures.GUIDERS])
    engine.ingest(exposures.files(1, [94]))
    database = sqlalchemy.create_engine(repository.registry_url, poolclass=sqlalchemy.NullPool)
    errors: list[Exception] = []

    def ingest() -> None:
        try:
            engine.ingest(files)
        except Exception as err:
            errors.append(err)

    with database.connect() as holder:
        holder.execute(sqlalchemy.text(f"LOCK TABLE {table} IN EXCLUSIVE MODE"))
        batch = threading.Thread(target=ingest)
        batch.start()
        # The batch stops at this table; there its connection is cut.
        cut = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE NOT granted"
        deadline = threading.Event()
        timer = threading.Timer(20, deadline.set)
        timer.start()
        while batch.is_alive() and not deadline.is_set():
            holder.execute(sqlalchemy.text(cut))
            batch.join(0.02)
        timer.cancel()
    batch.join(20)
    assert [type(error) for error in errors] == [TransientError]
    # Each file is in or not; which was done cannot be seen from a second try.
    result = engine.ingest(files)
    assert {item.outcome for item in result.files} == {"ingested"}
    assert len(stored(open_butler(), 2)) == 48
    assert len(open_butler().query_dimension_records("visit", instrument="LSSTCam")) == 2


def test_camera_that_is_not_registered(host: EngineHost, bare: Repository) -> None:
    from autoingest.butler.create import create_repository

    create_repository(bare.root, registry_url=bare.registry_url, schema=bare.schema, cameras=[])
    with closing(host.open(bare.root)) as engine:
        result = engine.ingest(exposures.files(1, range(3)))
        assert [(item.outcome, item.reason) for item in result.files] == [("failed", "metadata")] * 3
        bare.create()
        assert outcomes(engine.ingest(exposures.files(1, range(3)))) == {"ingested": 3}


def test_no_repository(host: EngineHost) -> None:
    with pytest.raises(ConfigurationError, match="nowhere"):
        host.open("nowhere")
