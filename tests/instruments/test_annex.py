"""Instruments that files describe: those of the program against real headers, and a site's own."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from astro_metadata_translator import ObservationInfo
from lsst.daf.butler import Timespan

from autoingest import instruments
from autoingest.errors import ConfigurationError, MetadataError
from testing.annex import CARDS, DESCRIPTION, description_file
from testing.headers import TRACKER

HEADERS = {
    "lfa-Broad_fiberSpecBroad_2024-01-09T174134.996": "FiberSpec",
    "lfa-GC101_O_20221208_000211": "StarTrackerWide",
    "lfa-GC102_O_20221208_000211": "StarTrackerNarrow",
    "lfa-GC103_O_20221208_000211": "StarTrackerFast",
}
URL = "s3://rubinobs-lfa-cp/GenericCamera/101/2022/12/08/x.fits"


def same(found: object, expected: object) -> bool:
    if isinstance(expected, list) and isinstance(found, list | tuple):
        return all(same(a, b) for a, b in zip(found, expected, strict=True))
    if isinstance(expected, float) and isinstance(found, float):
        return math.isclose(found, expected, rel_tol=1e-9, abs_tol=1e-12)
    return found == expected


@pytest.mark.parametrize("name", HEADERS)
def test_real_headers(shared_data: Path, name: str) -> None:
    example = json.loads((shared_data / f"headers/{name}.json").read_text())
    header, expected = example["header"], example["exposure_record"]
    record = instruments.exposure_record(header, URL)
    timespan = expected.pop("timespan")
    assert Timespan(record.begin, record.end).nsec == (timespan["begin_nsec"], timespan["end_nsec"])
    assert not {key: (getattr(record, key), value) for key, value in expected.items()
                if not same(getattr(record, key), value)}  # fmt: skip
    assert instruments.identify(header, URL) == instruments.Identity(
        instrument=HEADERS[name], exposure_id=record.id, obs_id=record.obs_id, detector=0, group=record.group,
        day_obs=record.day_obs,
    )  # fmt: skip

    instruments.register_translators()
    info = ObservationInfo(dict(header), pedantic=True)
    found = info.to_simple()
    assert info._translator is not None
    assert info._translator.name == example["obsinfo"].pop("_translator")
    assert not {key: (found.get(key), value) for key, value in example["obsinfo"].items()
                if not same(found.get(key), value)}  # fmt: skip


def test_no_header_is_left_out(shared_data: Path) -> None:
    assert {path.stem for path in (shared_data / "headers").glob("lfa-*.json")} == set(HEADERS)


@pytest.mark.parametrize(
    ("obs_id", "instrument"),
    [
        ("GC101_O_20221208_000211", "StarTrackerWide"),
        ("GC102_O_20221208_000211", "StarTrackerNarrow"),
        ("GC103_O_20221208_000211", "StarTrackerFast"),
        ("ST1021", "StarTrackerNarrow"),
        ("GC104_O_20221208_000211", None),
        ("101_O_20221208_000211", None),
    ],
)
def test_star_trackers_are_told_by_their_index(obs_id: str, instrument: str | None) -> None:
    header = TRACKER | {"OBSID": obs_id}
    if instrument is None:
        with pytest.raises(MetadataError, match="OBSID"):
            instruments.identify(header, URL)
    else:
        assert instruments.identify(header, URL).instrument == instruments.exposure_record(header, URL).instrument
        assert instruments.identify(header, URL).instrument == instrument


def test_what_the_butler_needs_to_know() -> None:
    names = {"FiberSpec", "StarTrackerWide", "StarTrackerNarrow", "StarTrackerFast"}
    assert set(instruments.generators()) == names
    for name in names:
        camera = instruments.get(name)
        assert (camera.name, camera.visit_system, camera.detector_max, camera.has_visits) == (name, 2, 1, False)
        assert camera.raw_run == f"{name}/raw/all"
        assert [(item.name, item.band) for item in camera.physical_filters] == [("empty", "white")]
        [detector] = camera.detectors
        assert (detector.id, detector.purpose, detector.raft, detector.name_in_raft) == (0, "SCIENCE", None, None)
        if name == "FiberSpec":
            assert (camera.raw_type, camera.raw_storage_class, detector.name) == (
                "rawSpectrum",
                "FiberSpectrum",
                "ccd0",
            )
            assert camera.class_name == "lsst.obs.fiberspectrograph.FiberSpectrograph"
            assert camera.raw_formatter == "lsst.obs.fiberspectrograph.rawFormatter.FiberSpectrographRawFormatter"
            assert camera.exposure_max == 2050123199999
        else:
            assert (camera.raw_type, camera.raw_storage_class, detector.name) == ("raw", "Exposure", "CCD0")
            assert camera.class_name == f"lsst.obs.rubinGenericCamera.{name}"
            assert camera.raw_formatter == f"lsst.obs.rubinGenericCamera.rawFormatter.{name}RawFormatter"
            assert camera.exposure_max == 7050123199999


def tracker(**changes: Any) -> instruments.ExposureRecord:
    header = {key: value for key, value in (TRACKER | changes).items() if value is not ...}
    return instruments.exposure_record(header, URL)


def test_altitude_is_known_where_no_test_stand_is_named() -> None:
    record = tracker(TSTAND=...)
    assert [record.azimuth, record.zenith_angle] == [180.0, pytest.approx(30.5)]
    assert tracker().azimuth is None


def test_missing_cards_of_a_star_tracker() -> None:
    record = tracker(EXPTIME=..., PROGRAM=..., REASON=..., GROUPID=..., RASTART=..., ROTPA=...)
    assert (record.exposure_time, record.dark_time) == (-1.0, -1.0)
    assert (record.science_program, record.observation_reason) == ("unknown", "unknown")
    assert (record.group, record.sky_angle) == ("2022120800211", None)
    record = tracker(**{"DATE-END": ..., "EXPTIME": 2.5})
    assert (record.end - record.begin).sec == pytest.approx(2.5)
    assert tracker(IMGTYPE="BIAS").can_see_sky is False


@pytest.mark.parametrize(
    ("changes", "card"),
    [
        ({"INSTRUME": "AllSky"}, "INSTRUME"),
        ({"INSTRUME": ...}, "INSTRUME"),
        ({"INSTRUME": "FiberSpectrograph.Red"}, "INSTRUME"),
        ({"OBSID": "GC104_O_20221208_000211"}, "OBSID"),
        ({"OBSID": ...}, "OBSID"),
        ({"DAYOBS": "2022-12-08"}, "DAYOBS"),
        ({"SEQNUM": -1}, "SEQNUM"),
        ({"CONTRLLR": "X"}, "CONTRLLR"),
        ({"EXPTIME": "long"}, "EXPTIME"),
        ({"MJD-BEG": "2022"}, "MJD-BEG"),
        ({"DATE-END": "today"}, "DATE-END"),
        ({"IMGTYPE": ...}, "IMGTYPE"),
        ({"ROTPA": None}, "ROTPA"),
        ({"CALIB_ID": "x"}, "CALIB_ID"),
        ({"TIMESYS": "GPS"}, "TIMESYS"),
        ({"MJD-BEG": 1e30}, "MJD-BEG"),
    ],
)
def test_a_header_that_fits_nothing_names_the_card(changes: dict[str, Any], card: str) -> None:
    with pytest.raises(MetadataError, match=rf"^{card} .*\(s3:.*\)$") as caught:
        tracker(**changes)
    assert caught.value.context["card"] == card


@pytest.fixture
def all_sky(tmp_path: Path) -> Iterator[None]:
    """The site's all-sky camera is described."""
    instruments.describe([description_file(tmp_path)])
    yield
    instruments.describe([])


@pytest.mark.usefixtures("all_sky")
def test_another_generator_by_a_file() -> None:
    identity = instruments.identify(CARDS, URL)
    assert identity == instruments.Identity(
        "AllSky", 2025071400042, "AS_20250714_00042", 0, "2025071400042", 20250714
    )  # fmt: skip
    record = instruments.exposure_record(CARDS, URL)
    assert record.begin.utc.isot == "2025-07-15T03:04:05.250"
    assert (record.end - record.begin).sec == pytest.approx(20.0)
    assert (record.exposure_time, record.dark_time, record.seq_num, record.seq_start) == (20.0, 20.0, 42, 42)
    assert (record.observation_type, record.observation_reason, record.target_name) == ("object", "survey", "zenith")
    assert (record.physical_filter, record.can_see_sky, record.tracking_ra) == ("clear", True, None)
    camera = instruments.get("AllSky")
    assert (camera.class_name, camera.raw_type, camera.raw_run) == (
        "org.example.allsky.AllSky", "allSkyRaw", "AllSky/night",
    )  # fmt: skip
    with pytest.raises(MetadataError, match=r"IMAGE = 'AS_x_1' does not match"):
        instruments.identify(CARDS | {"IMAGE": "AS_x_1"}, URL)
    assert instruments.identify(TRACKER, URL).instrument == "StarTrackerWide"


def test_the_example_of_the_documentation(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs/cameras.md").read_text()
    file = tmp_path / "allsky.yaml"
    file.write_text(text.partition("```yaml\n# allsky.yaml\n")[2].partition("```")[0])
    instruments.describe([file])
    header = {"INSTRUME": "AllSkyCamera", "OBSID": "AS_20250714_00042", "DATE-OBS": "2025-07-15T03:04:05", "EXPTIME": 9}
    record = instruments.exposure_record(header, URL)
    instruments.describe([])
    assert (record.instrument, record.id, record.physical_filter) == ("AllSky", 2025071400042, "clear")
    assert record.begin.utc.isot == "2025-07-15T03:04:05.000"


@pytest.mark.usefixtures("all_sky")
def test_a_correction_file_changes_identity_and_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "AllSky-AS_20250714_00042.yaml").write_text("EXPOSURE: 15.0\nCAMERA: ASC-1\n")
    monkeypatch.setenv("METADATA_CORRECTIONS_PATH", str(tmp_path))
    assert instruments.exposure_record(CARDS, URL).exposure_time == 15.0
    assert instruments.identify(CARDS, URL).exposure_id == 2025071400042


def test_a_site_may_replace_a_description(tmp_path: Path) -> None:
    description = {"instruments": {"FiberSpec": {**DESCRIPTION["instruments"]["AllSky"], "match": {"CAMERA": "F"}}}}
    instruments.describe([description_file(tmp_path, description)])
    assert instruments.get("FiberSpec").raw_type == "allSkyRaw"
    instruments.describe([])
    assert instruments.get("FiberSpec").raw_type == "rawSpectrum"


def test_a_header_of_two_instruments_is_refused(tmp_path: Path) -> None:
    description = copy.deepcopy(DESCRIPTION)
    description["instruments"]["Other"] = {**description["instruments"]["AllSky"], "match": {"IMAGE": "AS_.*"}}
    instruments.describe([description_file(tmp_path, description)])
    with pytest.raises(MetadataError, match=r"AllSky and of Other \(s3:.*\)"):
        instruments.identify(CARDS, URL)
    instruments.describe([])


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("match", {}, r"AllSky\.match: .*at least 1"),
        ("match", {"CAMERA": "("}, r"AllSky\.match\.CAMERA: .*not a regular expression"),
        ("className", "AllSky", r"AllSky\.className: "),
        ("formatter", ..., r"AllSky\.formatter: Field required"),
        ("detectors", 4, r"AllSky\.detectors: Extra inputs"),
        ("filters", {"red": "r"}, r"AllSky: .*'clear' is none of the filters"),
        ("header", {"obsId": None}, r"AllSky\.header\.obsId: .*a card must tell it"),
        ("header", {"dayObs": {"cards": ["A"], "pattern": r"\d+"}}, r"AllSky\.header\.dayObs\.pattern: .*no group"),
        ("header", {"timeSystem": {"default": "GPS"}}, r"AllSky\.header\.timeSystem: .*none of"),
        ("header", {"exposureTime": None}, r"AllSky\.header\.exposureTime: .*neither a card nor a default"),
        ("header", {"begin": {"cards": ["A"], "pattern": "(.*)"}}, r"AllSky\.header\.begin: .*without pattern"),
    ],
)
def test_a_bad_description_says_where(tmp_path: Path, key: str, value: object, message: str) -> None:
    description = copy.deepcopy(DESCRIPTION)
    block = description["instruments"]["AllSky"]
    block.pop(key, None)
    if value is not ...:
        block[key] = value
    file = description_file(tmp_path, description)
    with pytest.raises(ConfigurationError, match=rf"^{file}: {message}"):
        instruments.describe([file])
    assert "AllSky" not in instruments.generators()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "not YAML"),
        ("[]", "not a mapping with the keys"),
        ("instruments: {A: 1}", "A: not a mapping"),
        ("instruments: {LSSTCam: {}}", "LSSTCam is a camera"),
        ("instruments: {}\nother: 1", "not a mapping with the keys"),
    ],
)
def test_what_is_no_description(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "x.yaml"
    file.write_text(text)
    with pytest.raises(ConfigurationError, match=f"^{file}: {message}"):
        instruments.describe([tmp_path])


def test_files_that_can_not_be_used(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="can't be read"):
        instruments.describe([tmp_path / "absent.yaml"])
    with pytest.raises(ConfigurationError, match="is in the folder"):
        instruments.describe([tmp_path])
    file = description_file(tmp_path)
    with pytest.raises(ConfigurationError, match="AllSky is described twice"):
        instruments.describe([file, tmp_path])
