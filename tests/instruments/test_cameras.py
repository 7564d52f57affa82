"""What is odd about the headers of the cameras other than LSSTCam."""

from __future__ import annotations

import math
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import autoingest
from autoingest import instruments
from autoingest.errors import MetadataError
from autoingest.instruments.geometry import visit_regions
from testing.headers import comcam, comcamsim, latiss, latiss_at, science, ts8, ts8_2018

URL = "s3://bucket/file.fits"


def record(header: dict[str, Any]) -> instruments.ExposureRecord:
    return instruments.exposure_record(header, URL)


@pytest.mark.parametrize(
    ("date", "changes", "field", "expected"),
    [
        ("2019-11-06T12:00", {"IMGTYPE": None, "GROUPID": "dark_0002_0005"}, "observation_type", "dark"),
        ("2019-11-06T12:00", {"IMGTYPE": None, "GROUPID": "dark_0002_0005"}, "group", "dark_0002_0005"),
        ("2019-11-06T12:00", {"IMGTYPE": None, "GROUPID": "bias"}, "observation_type", "bias"),
        ("2019-11-06T12:00", {"IMGTYPE": None, "GROUPID": "bias"}, "group", "2019110600379"),
        ("2019-11-06T12:00", {"IMGTYPE": None, "GROUPID": "FOCUS12"}, "observation_type", "focus"),
        ("2019-11-06T12:00", {"IMGTYPE": "BIAS", "GROUPID": "BIAS"}, "group", "2019110600379"),
        ("2019-11-06T12:00", {"IMGTYPE": None, "GROUPID": "test"}, "observation_type", "unknown"),
        ("2019-11-08T12:00", {"IMGTYPE": None, "GROUPID": "bias"}, "group", "bias"),
        ("2019-12-31T12:00", {"IMGTYPE": "SKYEXP"}, "azimuth", None),
        ("2020-01-02T12:00", {"RA": 1.0, "DEC": -0.5}, "observation_type", "engtest"),
        ("2020-01-28T12:00", {"RA": 1.0, "DEC": -0.5}, "observation_type", "science"),
        ("2020-01-28T12:00", {"RA": 1.0, "DEC": -0.5}, "tracking_ra", 57.29577951308232),
        ("2020-01-29T12:00", {}, "tracking_ra", 272.1186),  # RASTART is wrong
        ("2020-01-29T12:00", {"DATE-END": "2020-01-01T00:00:00"}, "exposure_time", 30.0),
        ("2020-06-01T12:00", {"RASTART": 10.0}, "tracking_ra", 150.0 + 37 / 240),  # hours
        ("2021-02-11T20:00", {"RASTART": 10.0}, "tracking_ra", 10.0 + 37 / 240),
        ("2021-02-12T12:00", {"RASTART": 10.0}, "tracking_ra", 10.0),
        ("2020-11-18T12:00", {"ROTPA": 10.0}, "sky_angle", 10.0),
        ("2020-11-20T12:00", {"ROTPA": 10.0}, "sky_angle", -170.0),
        ("2021-10-29T12:00", {"ROTPA": 10.0}, "sky_angle", 10.0),
        ("2022-07-09T12:00", {"OBJECT": "spec:HD1"}, "target_name", "HD1"),
        ("2022-07-10T12:00", {"OBJECT": "spec:HD1"}, "target_name", "spec:HD1"),
    ],
)
def test_latiss_through_the_years(date: str, changes: dict[str, Any], field: str, expected: object) -> None:
    header = latiss_at(date, **{"DATE-END": None} | changes)
    found = record(header)
    assert getattr(found, field) == (pytest.approx(expected, abs=1e-9) if isinstance(expected, float) else expected)
    assert instruments.identify(header, URL).group == found.group


@pytest.mark.parametrize(
    ("changes", "field", "expected"),
    [
        ({"TRACKSYS": "SIDEREAL"}, "tracking_ra", 272.081),
        ({"TRACKSYS": ""}, "tracking_ra", 272.081),
        ({"TRACKSYS": "LOCAL"}, "tracking_ra", None),
        ({"ROTPA": None, "IMGTYPE": "ENGTEST"}, "sky_angle", pytest.approx(math.nan, nan_ok=True)),
        ({"GRATING": "Empty_1"}, "physical_filter", "empty~empty"),
        ({"FILTER": "EMPTY2"}, "physical_filter", "empty~holo4_003"),
        ({"FILTER": ""}, "physical_filter", "~holo4_003"),
        ({"GRATING": None}, "physical_filter", "empty~unknown"),
        ({"GRATING": ""}, "physical_filter", "empty~empty"),
        ({"FILTER": "disperser"}, "physical_filter", "disperser~holo4_003"),
        ({"DARKTIME": 29.0}, "dark_time", 30.0),
        ({"DARKTIME": math.nan}, "dark_time", 30.0),
        ({"OBJECT": None}, "target_name", None),
        ({"OBJECT": None, "IMGTYPE": "FLAT"}, "target_name", "UNKNOWN"),
        ({"RUNNUM": "7", "PROGRAM": None}, "science_program", "unknown"),
        ({"OBSTYPE": "", "IMGTYPE": "FLAT"}, "observation_type", ""),
        ({"DATE": "2023-07-06T04:56:01.913", "AZSTART": None}, "tracking_ra", None),
        ({"EXPTIME": None, "IMGTYPE": "FLAT"}, "exposure_time", -1.0),
        ({"EXPTIME": 0.0, "IMGTYPE": None}, "observation_type", "bias"),
        ({"OBSTYPE": "DARK"}, "observation_type", "dark"),
        ({"SHUTTIME": 0.0}, "can_see_sky", False),
        ({"IMGTYPE": "ENGTEST"}, "can_see_sky", None),
    ],
)
def test_rules_of_latiss(changes: dict[str, Any], field: str, expected: object) -> None:
    assert getattr(record(latiss(**changes)), field) == expected


def test_first_headers_of_latiss() -> None:
    header = latiss(IMGNAME="AT_O_20230705_000379", RAFTBAY=None, CCDSLOT=None)
    for card in ("OBSID", "DAYOBS", "SEQNUM", "CONTRLLR"):
        del header[card]
    found = instruments.identify(header, URL)
    assert (found.exposure_id, found.obs_id, found.detector) == (2023070500379, "AT_O_20230705_000379", 0)
    assert record(header).id == found.exposure_id


def test_pointing_where_the_time_of_begin_is_unknown() -> None:
    """Right ascension and declination were computed for that time; azimuth and altitude are measured."""
    header = latiss(**{"DATE-OBS": "1970-01-01T00:00:08", "DATE": "2023-07-06T04:56:01.913"})
    found = record(header)
    assert found.begin.tai.mjd == header["MJD"]
    assert found.zenith_angle == pytest.approx(90 - header["ELSTART"])
    assert found.tracking_ra == pytest.approx(header["RASTART"], abs=0.5)
    assert found.tracking_ra not in (header["RASTART"], header["RA"])
    assert record(header | {"AZSTART": None}).tracking_ra is None


@pytest.mark.parametrize(
    ("changes", "field", "expected"),
    [
        ({"FILTER": None}, "physical_filter", "unknown"),
        ({"FILTER": "r"}, "physical_filter", "empty"),
        ({"FILTER": "", "ROTPA": math.nan}, "physical_filter", "empty"),
        ({"FILTER": " "}, "physical_filter", " "),
        ({"ROTPA": "x"}, "sky_angle", 0.0),
        ({"ROTPA": math.nan}, "sky_angle", 0.0),
        ({"FILTER": "r", "MJD-BEG": 58800.0, "DATE-END": None, "IMGTYPE": "FLAT"}, "physical_filter", "r_03"),
        ({"ROTPA": None}, "sky_angle", 0.0),
        ({"MJD-BEG": 60545.9, "DATE-END": None}, "can_see_sky", False),
        ({"MJD-BEG": 60546.1, "DATE-END": None}, "can_see_sky", True),
        ({"MJD-BEG": 58908.9, "DATE-END": None}, "day_obs_offset", 28800),
        ({"MJD-BEG": 58909.1, "DATE-END": None}, "day_obs_offset", 43200),
    ],
)
def test_rules_of_comcam(changes: dict[str, Any], field: str, expected: object) -> None:
    assert getattr(record(comcam(**changes)), field) == expected


def test_comcam_that_calls_itself_another_camera() -> None:
    header = comcam(INSTRUME="LSST_CAMERA", TELCODE="CC")
    assert instruments.identify(header, URL).instrument == "LSSTComCam"
    for changes in ({"TELCODE": "MC"}, {"INSTRUME": "LSSTComCam"}, {"INSTRUME": "ComCam", "TELESCOP": None}):
        with pytest.raises(MetadataError, match="INSTRUME = "):
            instruments.identify(header | changes, URL)


def test_simulated_pointing() -> None:
    found = record(comcamsim())
    assert (found.instrument, found.tracking_ra, found.tracking_dec) == ("LSSTComCamSim", 124.8, -14.9)
    assert [found.azimuth, found.zenith_angle] == [0.0, pytest.approx(18.132797903871065)]
    told = record(comcamsim(ELSTART=50.0, AZSTART=20.0))
    assert (told.azimuth, told.zenith_angle) == pytest.approx((20.0, 40.0))
    assert record(comcamsim(AMSTART=None)).azimuth is None
    assert record(comcamsim(AMSTART=0.9)).azimuth is None
    unknown = record(comcamsim(AMSTART=math.nan))
    assert [unknown.azimuth, unknown.zenith_angle] == [0.0, pytest.approx(math.nan, nan_ok=True)]
    assert record(comcamsim(AMSTART=None, IMGTYPE="BIAS")).zenith_angle == 45.0
    assert record(comcamsim(VIGN_MIN=None)).can_see_sky is True


@pytest.mark.parametrize("telescope", ["Simonyi Survey Telescope", "LSST"])
def test_simulated_lsstcam(telescope: str) -> None:
    header = science(INSTRUME="LSSTCamSim", TELESCOP=telescope, DAYOBS="20250609", SEQNUM=100)
    found = record(header)
    assert (found.instrument, found.id, found.has_simulated) == ("LSSTCamSim", 2025060900100, True)
    assert (found.physical_filter, found.day_obs_offset) == ("g_6", 43200)  # no repairs
    assert instruments.identify(header, URL).detector == 94
    assert len(visit_regions(instruments.get("LSSTCamSim"), 10, 0, 0).detectors) == 205
    assert record(header | {"MJD-BEG": 58552.415, "DATE-END": None}).day_obs_offset == 43200
    with pytest.raises(MetadataError, match="INSTRUME"):
        record(header | {"TELESCOP": "other"})


def test_repair_of_the_test_stand_that_ends_early() -> None:
    """The time of the trigger is the end by then, in UTC, and the begin not yet another."""
    header = ts8()
    del header["MJD-OBS"]
    found = record(header)
    assert found.begin.tai.isot == "2023-05-12T19:17:59.150"
    assert (found.end - found.begin).sec == pytest.approx(37.0)
    assert found.id == 202305121917591


def test_begin_is_before_the_trigger() -> None:
    found = record(ts8())
    assert found.begin.tai.mjd == pytest.approx(60076.80415682867 - 15 / 86400, abs=1e-11)
    assert found.end.utc.isot == "2023-05-12T19:17:59.150"
    repaired = record(ts8(**{"HIERARCH ASTRO METADATA FIX MODIFIED": True}))
    assert repaired.begin.tai.mjd == 60076.80415682867
    assert repaired.id == found.id == 202305121917591
    for prefix in ("", "HIERARCH "):  # readers differ in whether they keep it
        marks = {f"{prefix}ASTRO METADATA FIX MODIFIED": True, f"{prefix}LSST-TS8 DATE-OBS": "2023-05-12T19:17:59.150"}
        header = ts8(**marks, **{"DATE-OBS": "2023-05-12T19:17:44.150", "MJD-OBS": 60076.804})
        assert record(header).id == instruments.identify(header, URL).exposure_id == 202305121917591


@pytest.mark.parametrize(
    ("begin", "obs_id", "day", "expected"),
    [
        ("2023-05-24T23:00:00.0", "TS_C_20230524_000906", "20230524", 202305242300000),
        ("2023-05-24T23:00:00.001", "TS_C_20230524_000905", "20230524", 3023052400905),
        ("2023-10-05T01:00:00.0", "TS_C_20231004_000001", "20231004", 3023100400001),
        ("2023-10-06T01:00:00.0", "TS_C_20231005_000001", "20231005", 2023100500001),
        ("2023-10-06T01:00:00.0", "TS_O_20231005_000001", "20231005", 202310060100000),
    ],
)
def test_exposure_id_of_the_test_stand(begin: str, obs_id: str, day: str, expected: int) -> None:
    times = {"DATE-OBS": begin, "DATE-BEG": begin, "DATE-TRG": None, "MJD-OBS": None}
    header = ts8(OBSID=obs_id, DAYOBS=day, SEQNUM=int(obs_id[-6:]), **times)
    assert instruments.identify(header, URL).exposure_id == record(header).id == expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [({}, "y"), ({"FILTPOS": 9}, "unknown"), ({"FILTPOS": 2.0}, "g"), ({"FILTPOS": None, "FILTER": "g_6"}, "unknown")],
)
def test_filter_of_the_test_stand(changes: dict[str, Any], expected: str) -> None:
    assert record(ts8_2018(**changes)).physical_filter == expected


@pytest.mark.parametrize(
    ("name", "expected"), [("unspecified", "unknown"), ("g_6~empty", "g_6~empty"), ("NONE", "none"), ("", "unknown")]
)
def test_filter_of_the_test_stand_by_name(name: str, expected: str) -> None:
    header = ts8_2018(FILTER=name)
    del header["FILTPOS"]
    assert record(header).physical_filter == expected


def test_programme_of_the_test_stand() -> None:
    assert [record(ts8(RUNNUM=run)).science_program for run in (None, "", 7)] == [None, "", "7"]


FIRST = {"REBNAME": "R00.Reb0", "CONTNUM": "000018910e0c"}


@pytest.mark.parametrize(
    ("changes", "recognised"),
    [
        ({}, True),
        ({"TSTAND": "missing"}, False),
        ({"TSTAND": "missing"} | FIRST, True),
        ({"TSTAND": None} | FIRST, False),
        ({"TSTAND": "BOT"} | FIRST, False),
        ({"TSTAND": "missing", "CONTNUM": "000018910e0c"}, False),
        ({"TSTAND": "missing", "LSST_NUM": "missing"} | FIRST, False),
        ({"TSTAND": "missing"} | FIRST | {"CONTNUM": "0"}, False),
        ({"INSTRUME": "other"}, True),
        ({"INSTRUME": "LATISS"}, True),
        ({"OBSID": "MC_O_20190319_000001"}, True),
    ],
)
def test_headers_without_an_instrument(changes: dict[str, Any], recognised: bool) -> None:
    header = {card: value for card, value in ts8_2018(**changes).items() if value != "missing"}
    if recognised:
        found = instruments.identify(header, URL)
        assert (found.instrument, found.exposure_id, found.detector) == ("LSST-TS8", 201807241041568, 67)
        assert instruments.exposure_record(header, URL).id == found.exposure_id
    else:
        with pytest.raises(MetadataError, match="INSTRUME"):
            instruments.identify(header, URL)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"INSTRUME": "LSSTCAM"}, "LSSTCam"),
        ({"INSTRUME": "lsstcam", "TSTAND": "TS8", "DETNAME": "RXX_S00"}, "LSSTCam"),
        ({"INSTRUME": "LATISS"}, "LATISS"),
        ({"INSTRUME": "LSST_ATISS"}, "LATISS"),
        ({"INSTRUME": "ComCam", "DETNAME": "RXX_S00"}, "LATISS"),
        ({"INSTRUME": "COMCAM", "TELESCOP": "LSST"}, "LSSTComCam"),
        ({"INSTRUME": "Lsst_Camera", "TELCODE": "CC"}, "LSSTComCam"),
        ({"INSTRUME": "ComCamSim"}, "LSSTComCamSim"),
        ({"INSTRUME": "latiss"}, None),
        ({"INSTRUME": "lsstCam "}, None),
        ({"INSTRUME": "LSSTComCam"}, None),
        ({"INSTRUME": "LSSTComCamSim"}, None),
        ({"INSTRUME": "ComCam", "TELESCOP": "Other"}, None),
        ({"INSTRUME": 7}, None),
    ],
)
def test_whose_header_it_is(changes: dict[str, Any], expected: str | None) -> None:
    header = comcam(**changes)
    if expected is not None:
        assert instruments.identify(header, URL).instrument == expected
    else:
        with pytest.raises(MetadataError, match="INSTRUME"):
            instruments.identify(header, URL)


@pytest.mark.parametrize(
    ("card", "value"),
    [("RAFTNAME", "raft 4"), ("RAFTNAME", "RTM-999"), ("LSST_NUM", "ITL-1"), ("DATE-OBS", "yesterday"), ("MJD-OBS", 0)],
)  # fmt: skip
def test_unusable_cards_of_the_test_stand_are_named(card: str, value: object) -> None:
    with pytest.raises(MetadataError) as caught:
        instruments.identify(ts8(**{card: value}), URL)
    assert caught.value.context == {"card": card, "value": value, "path": URL}


PACKAGE = Path(autoingest.__file__).parent
EXAMPLE = """
from autoingest import instruments
from autoingest.model import objects
from autoingest.instruments.geometry import visit_regions
from autoingest.queue.presence import INSTRUMENTS
from testing.headers import comcam

url = "s3://bucket/Example/20241108/EX_O_20241108_000266/EX_O_20241108_000266_R22_S01.fits"
header = comcam(INSTRUME="ExampleCam", OBSID="EX_O_20241108_000266", CCDSLOT="S01", WHEEL="clear", RASTART=2.0)
found = instruments.identify(header, url)
assert (found.instrument, found.exposure_id, found.detector) == ("ExampleCam", 2024110800266, 1)
record = instruments.exposure_record(header, url)
assert (record.instrument, record.physical_filter, record.tracking_ra) == ("ExampleCam", "clear", 30.0)
camera = instruments.get("ExampleCam")
assert len(visit_regions(camera, record.tracking_ra, record.tracking_dec, record.sky_angle).detectors) == 2
assert objects.parse(url.removeprefix("s3://")).instrument == INSTRUMENTS["examplecam"] == "ExampleCam"
assert "ExampleCam" in instruments.names() and "ExampleCam" in instruments.register_translators()
"""


def test_two_files_make_a_camera(tmp_path: Path) -> None:
    """The example of the documentation."""
    text = (PACKAGE.parent / "docs/cameras.md").read_text()
    shutil.copytree(PACKAGE, tmp_path / "autoingest", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "testing").mkdir()
    shutil.copy(PACKAGE.parent / "testing/headers.py", tmp_path / "testing")
    files = re.findall(r"<!-- (examplecam\.\w+) -->\n```\w+\n(.*?)```", text, re.DOTALL)
    assert len(files) == 2
    for name, content in files:
        folder = "translators" if name.endswith(".py") else "data"
        (tmp_path / "autoingest/instruments" / folder / name).write_text(content)
    subprocess.run([sys.executable, "-W", "error", "-c", EXAMPLE], cwd=tmp_path, check=True, timeout=60)
