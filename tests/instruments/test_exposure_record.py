from __future__ import annotations

import math
import subprocess
import sys
from importlib.metadata import entry_points
from typing import Any

import pytest
from astro_metadata_translator import ObservationInfo
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from autoingest import instruments
from autoingest.errors import MetadataError
from testing.headers import URL, bench, comcam, comcamsim, latiss, latiss_2018, numbered, science, ts8, ts8_2018


def record(header: dict[str, Any]) -> instruments.ExposureRecord:
    return instruments.exposure_record(header, URL)


def test_science_exposure() -> None:
    header = science()
    result = record(header)
    assert (result.id, result.obs_id, result.day_obs) == (2025052100138, "MC_O_20250521_000138", 20250521)
    assert (result.seq_num, result.seq_start, result.seq_end) == (138, 138, 138)
    assert result.group == "2025-05-22T05:18:32.763"
    assert (result.observation_type, result.observation_reason) == ("science", "field_survey_science")
    assert (result.exposure_time, result.dark_time) == (30.0, 30.9415)
    assert (result.tracking_ra, result.tracking_dec) == pytest.approx((225.85827927603876, -38.6275010948895))
    assert (result.azimuth, result.zenith_angle) == pytest.approx((239.68824087604298, 20.7564315050746))
    assert result.sky_angle == pytest.approx(357.9606420320256)
    assert (result.has_simulated, result.can_see_sky) == (False, True)
    assert result.begin.tai.mjd == pytest.approx(60817.22044984951, abs=1e-11)
    assert result.end.isot == "2025-05-22T05:17:57.808"
    assert result.day_obs_offset == 43200
    assert header == science()  # repairs are made to a copy


def test_bias_in_the_laboratory() -> None:
    result = record(bench())
    assert result.id == 3019031900001
    assert (result.group, result.target_name, result.science_program) == ("3019031900001", "UNKNOWN", "unknown")
    assert (result.physical_filter, result.can_see_sky, result.dark_time) == ("unknown", False, 0.0)
    assert (result.tracking_ra, result.sky_angle, result.azimuth) == (None, None, None)
    assert result.begin == result.end
    assert result.day_obs_offset == 25200  # Californian summer


@pytest.mark.parametrize(
    ("mjd", "expected"),
    [
        (58552.415, 28800),  # 2019-03-10 before 10 h UTC
        (58552.418, 25200),
        (58790.374, 25200),  # 2019-11-03 before 9 h UTC
        (58790.376, 28800),
        (60430.999, 25200),
        (60431.001, 43200),  # 2024-05-01
    ],
)
def test_begin_of_the_observing_day(mjd: float, expected: int) -> None:
    assert record(bench(**{"MJD-OBS": mjd})).day_obs_offset == expected


@pytest.mark.parametrize(
    ("changes", "field", "expected"),
    [
        ({"DAYOBS": "20250415", "ROTPA": 46.0}, "sky_angle", -44.0),
        ({**numbered("20250422", 250), "ROTPA": 318.5}, "sky_angle", 138.5),
        ({**numbered("20250422", 251), "ROTPA": 318.5}, "sky_angle", 318.5),
        ({"DAYOBS": "20250518"}, "can_see_sky", False),
        (numbered("20250707", 784), "can_see_sky", False),
        (numbered("20250707", 824), "can_see_sky", True),
        ({"DAYOBS": "20250609", "FILTER": "y_10"}, "physical_filter", "z_20"),
        ({"DAYOBS": "20250610", "FILTER": "y_10"}, "physical_filter", "y_10"),
        ({"DAYOBS": "20250609", "SEQNUM": 75, "FILTER": "y_10"}, "physical_filter", "y_10"),
        ({"DAYOBS": "20250609", "SEQNUM": 76, "FILTER": "r_57"}, "physical_filter", "z_20"),
        ({"DAYOBS": "20260315", "SEQNUM": 109, "FILTER": None}, "physical_filter", "i_39"),
        ({"DAYOBS": "20260315", "SEQNUM": 110, "FILTER": "r_57"}, "physical_filter", "r_57"),
        ({"DAYOBS": "20250415", "PROGRAM": "BLOCK-417"}, "science_program", "BLOCK-T417"),
        ({"DAYOBS": "20250828", "PROGRAM": "BLOCK-417"}, "science_program", "BLOCK-T417"),
        ({"DAYOBS": "20250829", "PROGRAM": "BLOCK-417"}, "science_program", "BLOCK-417"),
        ({"DAYOBS": "20241015", "FILTER": "ph_05"}, "physical_filter", "ph_5"),
        ({"DAYOBS": 20241015, "FILTER": "ph_05"}, "physical_filter", "ph_05"),
        ({"FILTER": "ph_05"}, "physical_filter", "ph_05"),
    ],
)
def test_repairs_of_certain_days(changes: dict[str, Any], field: str, expected: object) -> None:
    assert getattr(record(science(**changes)), field) == expected


@pytest.mark.parametrize(
    ("changes", "field", "expected"),
    [
        ({"FILTER": "SDSSi", "FILTER2": "ND_OD0.5"}, "physical_filter", "SDSSi~ND_OD0.5"),
        ({"FILTER": "950nm", "FILTER2": "empty"}, "physical_filter", "950nm"),
        ({"FILTER": "NONE"}, "physical_filter", "none"),
        ({"FILTER": " "}, "physical_filter", " "),
        ({"FILTER": ""}, "physical_filter", "unknown"),
        ({"FILTER": "", "FILTER2": "empty"}, "physical_filter", ""),
        ({"OBJECT": None}, "target_name", "UNKNOWN"),
        ({"OBJECT": ""}, "target_name", ""),
        ({"PROGRAM": ""}, "science_program", ""),
        ({"GROUPID": ""}, "group", ""),
        ({"CURINDEX": 2.0, "MAXINDEX": "3"}, "seq_end", 139),
        ({"SEQNUM": 138.0}, "seq_num", 138),
        ({"SEQNUM": "138"}, "id", 2025052100138),
        ({"REASON": 7}, "observation_reason", None),
        ({"DARKTIME": math.nan}, "dark_time", pytest.approx(math.nan, nan_ok=True)),
        ({"DARKTIME": "long"}, "dark_time", None),
        ({"RASTART": "x", "RA": None}, "tracking_ra", None),
        ({"DECSTART": 91.0}, "tracking_dec", None),
        ({"DATE": "2025-05-22T05:17:26.867", "AZSTART": None}, "tracking_ra", None),
        ({"RADESYS": "B1900"}, "tracking_ra", None),
        ({"RADESYS": ""}, "tracking_ra", None),
        ({"RADESYS": "GAPPT"}, "tracking_ra", None),
        ({"RADESYS": " ICRS "}, "tracking_ra", 225.85827927603876),
        ({"RASTART": -10.0}, "tracking_ra", 350.0),
        ({"ROTPA": math.nan}, "sky_angle", 0.0),
        ({"ROTPA": 400.0}, "sky_angle", 400.0),
        ({"ROTPA": None, "IMGTYPE": "ACQ"}, "sky_angle", 0.0),
        ({"ROTPA": None, "TRACKSYS": "LOCAL"}, "sky_angle", None),
        ({"ELSTART": None}, "azimuth", None),
        ({"AZSTART": -1000.0}, "azimuth", None),
        ({"ELSTART": -10.0}, "zenith_angle", 95.55),
        ({"AZSTART": -89.5}, "azimuth", 270.5),
        ({"ELSTART": 95.0}, "zenith_angle", 0.0),
        ({"SHUTTIME": 0.0}, "can_see_sky", False),
        ({"VIGN_MIN": "FULLY"}, "can_see_sky", False),
        ({"VIGN_MIN": None}, "can_see_sky", None),
        ({"VIGN_MIN": None, "CONTRLLR": "H"}, "can_see_sky", True),
        ({"VIGN_MIN": None, "CONTRLLR": "H", "IMGTYPE": "FLAT"}, "can_see_sky", False),
        ({"VIGN_MIN": "UNKNOWN"}, "can_see_sky", None),
        ({"VIGN_MIN": ""}, "can_see_sky", True),
        ({"VIGN_MIN": "NO", "IMGTYPE": "BIAS"}, "can_see_sky", True),
        ({"SHUTTIME": 0, "VIGN_MIN": "NO"}, "can_see_sky", False),
        ({"TRACKSYS": "AZEL"}, "tracking_ra", None),
        ({"TRACKSYS": ""}, "tracking_ra", None),
        ({"IMGTYPE": "FLAT"}, "tracking_ra", None),
        ({"IMGTYPE": "DARK"}, "sky_angle", None),
        ({"IMGTYPE": "DARK", "RASTART": "x"}, "tracking_ra", None),
        ({"ROTCOORD": "mount"}, "sky_angle", None),
        ({"CURINDEX": 2, "MAXINDEX": 3}, "seq_start", 137),
        ({"CURINDEX": 2, "MAXINDEX": 3}, "seq_end", 139),
        ({"RUNNUM": 7, "PROGRAM": None}, "science_program", "7"),
        ({"REASON": None}, "observation_reason", "object"),
        ({"SIMULATE ATMCS": 1}, "has_simulated", True),
        (numbered("20250521", 138, "S"), "has_simulated", True),
        ({"DARKTIME": None}, "dark_time", 30.001),
        ({"RADESYS": "FK5"}, "tracking_ra", pytest.approx(225.85827, abs=1e-4)),
    ],
)
def test_rules(changes: dict[str, Any], field: str, expected: object) -> None:
    assert getattr(record(science(**changes)), field) == expected


@pytest.mark.parametrize(
    ("card", "value"),
    [
        ("IMGTYPE", None),
        ("IMGTYPE", 7),
        ("EXPTIME", None),
        ("EXPTIME", "long"),
        ("MJD_BEG", "yesterday"),
        ("MJD_BEG", 40587.0),
        ("MJD_BEG", math.nan),
        ("DATE_END", "tomorrow"),
        ("DATE_END", ""),
        ("TIMESYS", ""),
        ("TIMESYS", "TIA"),
        ("ROTPA", None),
        ("CURINDEX", 1.5),
        ("MAXINDEX", "x"),
        ("GROUPID", 7),
        ("CCDSLOT", None),
    ],
)
def test_unusable_cards_are_named(card: str, value: object) -> None:
    header = science(**{card: value})
    with pytest.raises(MetadataError) as caught:
        record(header)
    assert caught.value.context == {"card": card.replace("_", "-"), "value": value, "path": URL}


def test_an_exposure_never_ends_before_it_begins() -> None:
    with capture_logs() as logs:
        result = record(science(DATE_END="2025-05-22T05:17:00"))
    assert result.end == result.begin
    assert [(entry["event"], entry["log_level"]) for entry in logs] == [("exposure ends before it begins", "warning")]


def test_every_property_of_the_library_is_translated() -> None:
    for header in (science(ELEND=69.2, AZEND=239.7), bench()):
        info = ObservationInfo(
            header, pedantic=True, translator_class=instruments.translator_classes.translator("LSSTCam")
        )
        assert info.instrument == "LSSTCam"
    assert ObservationInfo(science(), quiet=True).detector_exposure_id == _packed(138, 94)


def _packed(seq_num: int, detector: int) -> int:
    return ((5619 << 15) + seq_num << 8) + detector  # 2025-05-21 is day 5619 from 2010 on


@pytest.mark.parametrize(
    ("group", "expected"),
    [
        ("2025-04-16T07:03:14.565#1", 3247165945650001),
        ("2025-04-16T00:53:10.143", 3246943901430000),
        ("2025052100138", 2025052100138),
    ],
)
def test_visit_id_of_a_group(group: str, expected: int) -> None:
    assert ObservationInfo(science(GROUPID=group), pedantic=True, subset={"visit_id"}).visit_id == expected


def test_the_library_finds_the_translators() -> None:
    (plugin,) = (plugin for plugin in entry_points(group="astro_metadata_translators") if plugin.name == "autoingest")
    assert set(plugin.load()()) >= {"LSSTCam", "FiberSpec"}


def run(code: str) -> None:
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=60)


def test_the_sites_own_translator_comes_first() -> None:
    run("""
import sys, types
from astro_metadata_translator import FitsTranslator
for name in ("lsst.obs", "lsst.obs.lsst"):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = []
site = sys.modules["lsst.obs.lsst.translators"] = types.ModuleType("lsst.obs.lsst.translators")
class Site(FitsTranslator):
    name = "LSSTCam"
from autoingest.instruments import translator_classes
import autoingest.instruments.translators.lsstcam
assert translator_classes.translator("LSSTCam") is Site
""")


def test_importing_the_package_is_cheap() -> None:
    run("""
import sys, autoingest.instruments
assert not {"lsst.daf.butler", "astropy", "astro_metadata_translator", "numpy", "lsst.sphgeom"} & set(sys.modules)
""")


GARBAGE = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=12))
CAMERAS = pytest.mark.parametrize("base", [science, bench, latiss, latiss_2018, comcam, comcamsim, ts8, ts8_2018])
NOWHERE = "s3://bucket/file.fits"


@pytest.mark.filterwarnings("ignore:ERFA function")
@CAMERAS
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_garbage_is_a_metadata_error_or_a_record(base: Any, data: st.DataObject) -> None:
    whole = base()
    header = whole | data.draw(st.dictionaries(st.sampled_from(sorted(whole)), GARBAGE, max_size=3))
    for read in (instruments.identify, instruments.identify_guider, instruments.exposure_record):
        try:
            read(header, NOWHERE)
        except MetadataError:
            continue
