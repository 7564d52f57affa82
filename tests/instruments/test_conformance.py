"""Real headers and visits must give the records that the Science Pipelines make of them."""

from __future__ import annotations

import dataclasses
import json
import math
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from astro_metadata_translator import ObservationInfo
from astropy.io import fits
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lsst.daf.butler import Timespan
from lsst.sphgeom import ConvexPolygon, LonLat, UnitVector3d

from autoingest import instruments
from autoingest.errors import MetadataError
from autoingest.instruments.geometry import visit_regions

from . import rules
from .conftest import Compare

HEADERS = {
    "LSSTCam": [
        "MC_C_20240918_000013_R42_S11",
        "lsstCam-MC_C_20190319_000001_R10_S02",
        "lsstCam-MC_C_20190319_000001_R22_S21",
        "lsstCam-MC_C_20190406_000643_R10_S00",
        "lsstCam-MC_C_20231107_000078_R01_S01",
        "lsstCam-MC_H_20100217_000032_R22_S00",
        "lsstCam-MC_O_20250415_000060_R01_S01",
        "lsstCam-MC_O_20250415_000228_R10_S20",
        "lsstCam-MC_O_20250609_000578_R01_S01",
        "lsstCam-MC_O_20251121_000156_R44_SW0",
        "lsstCam_MC_C_20231125_000600_R12_S10",
    ],
    "LATISS": [
        "latiss-2018-09-20-05700065-det000",
        "latiss-AT_C_20220426_000004_R00_S00",
        "latiss-AT_O_20190306_000014",
        "latiss-AT_O_20190329_000022-ats-wfs_ccd",
        "latiss-AT_O_20190915_000037",
        "latiss-AT_O_20191031_000004",
        "latiss-AT_O_20191104_000003",
        "latiss-AT_O_20191113_000061",
        "latiss-AT_O_20191118_000011",
        "latiss-AT_O_20200121_000045",
        "latiss-AT_O_20200128_000335",
        "latiss-AT_O_20210210_000011",
        "latiss-AT_O_20210212_000006",
        "latiss-AT_O_20220405_000348",
        "latiss-AT_O_20230705_000379_R00_S00",
        "latiss-AT_O_20240624_000106_R00_S00",
        "latiss-AT_O_20240624_000106_R00_S00-patched",
    ],
    "LSSTComCam": [
        "comCam-CC_C_20190526_000223_R22_S01",
        "comCam-CC_H_20100217_006001_R22_S00",
        "comCam-CC_O_20241108_000266_R22_S00",
    ],
    "LSSTComCamSim": ["comCamSim-CC_S_20240321_000093_R22_S22"],
    "LSST-TS8": [
        "ts8-E2V-CCD250-179_lambda_bias_024_6006D_20180724104156",
        "ts8-E2V-CCD250-200-Dev_lambda_flat_0700_6006D_20180724102845",
        "ts8-E2V-CCD250-220_fe55_fe55_094_6288_20171215114006",
        "ts8-TS_C_20230512_000021_R22_S02",
        "ts8-TS_C_20230512_000021_R22_S02-fixed",
        "ts8-TS_C_20230525_000041_R22_S00",
    ],
    "FiberSpec": ["lfa-Broad_fiberSpecBroad_2024-01-09T174134.996"],
    "StarTrackerWide": ["lfa-GC101_O_20221208_000211"],
    "StarTrackerNarrow": ["lfa-GC102_O_20221208_000211"],
    "StarTrackerFast": ["lfa-GC103_O_20221208_000211"],
}
CASES = [(camera, name) for camera, names in HEADERS.items() for name in names]
GUIDER = "MC_C_20240918_000013_R00_SG0_guider"


def load(folder: Path, name: str) -> Any:
    return json.loads((folder / f"{name}.json").read_text())


def test_no_header_is_left_out(shared_data: Path) -> None:
    stems = {path.stem for path in (shared_data / "headers").glob("*.json")}
    assert stems == {name for _, name in CASES} | {GUIDER}


@pytest.mark.parametrize(("camera", "name"), CASES)
def test_exposure_record(shared_data: Path, compare: Compare, camera: str, name: str) -> None:
    example = load(shared_data / "headers", name)
    url = f"s3://bucket/{name}.fits"
    record = instruments.exposure_record(example["header"], url)
    expected = example["exposure_record"]
    timespan = expected["timespan"]
    expected["timespan"] = [timespan["begin_nsec"], timespan["end_nsec"]]
    found = {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}
    compare(camera, name, "record", found | {"timespan": Timespan(record.begin, record.end).nsec}, expected)
    identity = instruments.identify(example["header"], url)
    compare(
        camera, name, "identity", dataclasses.asdict(identity),
        {"instrument": record.instrument, "exposure_id": record.id, "obs_id": record.obs_id, "group": record.group,
         "day_obs": record.day_obs, "detector": example["obsinfo"].get("detector_num", 0)},
    )  # fmt: skip


@pytest.mark.parametrize(("camera", "name"), CASES)
def test_observation_info(shared_data: Path, compare: Compare, camera: str, name: str) -> None:
    example = load(shared_data / "headers", name)
    instruments.register_translators()
    info = ObservationInfo(dict(example["header"]), pedantic=True)
    assert info._translator is not None
    told = {**info.to_simple(), "_translator": info._translator.name}
    compare(camera, name, "obsinfo", told, example["obsinfo"])


def test_guider(shared_data: Path) -> None:
    example = load(shared_data / "headers", GUIDER)
    expected = example["guider_obsinfo"]
    assert instruments.identify_guider(example["header"], "url") == instruments.GuiderIdentity(
        expected["instrument"], expected["observation_id"], expected["detector_num"]
    )
    with pytest.raises(MetadataError, match=r"(MJD-BEG|EXPTIME|IMGTYPE|DAYOBS) is missing"):
        instruments.exposure_record(example["header"], "url")


@pytest.mark.parametrize(
    ("seq_num", "kind", "sky_angle", "can_see_sky"),
    [(52, "dark", None, False), (54, "acq", -43.6246620604887, True), (55, "acq", -43.62491264470415, True)],
)
def test_headers_of_raws(
    shared_data: Path, seq_num: int, kind: str, sky_angle: float | None, can_see_sky: bool
) -> None:
    obs_id = f"MC_O_20250415_{seq_num:06}"
    path = shared_data / "raws/LSSTCam/20250415" / obs_id / f"{obs_id}_R22_S11.fits"
    header = dict(fits.getheader(path))
    identity = instruments.identify(header, str(path))
    assert (identity.exposure_id, identity.obs_id, identity.detector) == (2025041500000 + seq_num, obs_id, 94)
    record = instruments.exposure_record(header, str(path))
    assert (record.id, record.observation_type, record.can_see_sky) == (identity.exposure_id, kind, can_see_sky)
    assert record.sky_angle == pytest.approx(sky_angle)
    assert record.physical_filter == "i_39"
    assert record.tracking_ra == header["RASTART"]


def farthest(region: ConvexPolygon, expected: list[list[float]]) -> float:
    """Return the distance, arcseconds, of the vertex that lies farthest from the one expected."""
    found = [(v.x(), v.y(), v.z()) for v in region.getVertices()]
    assert len(found) == len(expected)
    points = [UnitVector3d(LonLat.fromDegrees(*point)) for point in expected]
    distances = [min(math.dist((p.x(), p.y(), p.z()), v) for v in found) for p in points]
    return math.degrees(max(distances)) * 3600


@pytest.mark.parametrize(
    ("camera", "name"),
    [
        ("LSSTCam", "LSSTCam_2025052100138"),
        ("LSSTCam", "LSSTCam_ra_wrap"),
        ("LATISS", "LATISS_pointing"),
        ("LATISS", "LATISS_2022110800230"),
        ("LATISS", "LATISS_2022110800235"),
    ],
)
def test_visit_regions(shared_data: Path, camera: str, name: str) -> None:
    visit = load(shared_data / "visits", name)
    pointing = visit.get("exposure", visit)
    regions = visit_regions(
        instruments.get(camera), pointing["tracking_ra"], pointing["tracking_dec"], pointing["sky_angle"]
    )
    assert farthest(regions.visit, visit["visit_region_deg"]) < 1e-6
    expected = {int(number): corners for number, corners in visit["visit_detector_region_deg"].items()}
    assert set(regions.detectors) == set(expected)
    assert max(farthest(regions.detectors[number], corners) for number, corners in expected.items()) < 1e-6


@pytest.mark.parametrize("name", ["LATISS", "LSST-TS8", "LSSTCam", "LSSTCamSim", "LSSTComCam", "LSSTComCamSim"])
def test_data_of_the_cameras(shared_data: Path, name: str) -> None:
    expected = load(shared_data / "cameras", name)
    camera = instruments.get(name)
    assert (camera.class_name, camera.raw_formatter) == (expected["class_name"], expected["raw_formatter"])
    assert camera.plate_scale == expected["plate_scale_arcsec_per_mm"]
    assert list(camera.radial_coefficients) == expected["field_angle_radial_coeffs"]
    assert camera.flip_x == expected["flip_x"]
    assert {item.name: item.band for item in camera.physical_filters} == {
        item["physical_filter"]: item["band"] or item["physical_filter"] for item in expected["physical_filters"]
    }
    for found, wanted in zip(camera.detectors, expected["detectors"], strict=True):
        assert (found.id, found.name, found.purpose) == (wanted["id"], wanted["name"], wanted["purpose"])
        assert (list(found.bbox), list(found.pixel_size)) == (wanted["bbox"], wanted["pixel_size_mm"])
        assert (list(found.ref_pixel), list(found.offset)) == (wanted["ref_pixel"], wanted["offset_mm"])
        assert found.yaw == wanted["yaw_deg"]
        assert found.serial in (None, wanted["serial"])


MANGLED: list[object] = [
    "missing",
    None,
    "",
    "  ",
    "mangled",
    "?",
    -1,
    0,
    7,
    7.0,
    "7",
    1e99,
    math.nan,
    math.inf,
    True,
    [],
]
"""What a card may hold that ought to hold something else."""


@pytest.mark.parametrize(("camera", "name"), CASES)
def test_identity_with_one_mangled_card(shared_data: Path, camera: str, name: str) -> None:
    whole = _header(shared_data / "headers", name)
    for card in whole:
        for value in MANGLED:
            _check_identity({**whole, card: value}, f"s3://bucket/{name}.fits")


@pytest.mark.filterwarnings("ignore:ERFA function")
@pytest.mark.filterwarnings("ignore:Tried to get polar motions")
@pytest.mark.parametrize("camera", HEADERS)
@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_record_with_mangled_cards(shared_data: Path, camera: str, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(HEADERS[camera]))
    whole = _header(shared_data / "headers", name)
    card = st.sampled_from([card for card in rules.DECISIVE if card in whole]) | st.sampled_from(sorted(whole))
    changes = data.draw(st.dictionaries(card, st.sampled_from(MANGLED), min_size=1, max_size=8))
    url = f"s3://bucket/{name}.fits"
    found = _check_identity(whole | changes, url)
    header = {card: value for card, value in (whole | changes).items() if value != "missing"}
    try:
        record = instruments.exposure_record(header, url)
    except MetadataError as err:
        error = err
    else:
        assert found is not None
        assert (record.instrument, record.id, record.obs_id, record.day_obs, record.group) == (
            found.instrument, found.exposure_id, found.obs_id, found.day_obs, found.group,
        )  # fmt: skip
        return
    assert url in str(error)


def _check_identity(changed: dict[str, Any], url: str) -> instruments.Identity | None:
    """Check that a header is identified as the rules have it, or is refused by an error that names the file."""
    header = {card: value for card, value in changed.items() if value != "missing"}
    expected = rules.identity(header)
    try:
        found = instruments.identify(header, url)
    except MetadataError as err:
        error = err
    else:
        assert expected is None or {name: getattr(found, name) for name in expected} == expected
        assert expected is not None or found.instrument not in rules.WHOLLY_KNOWN
        return found
    assert url in str(error)
    assert expected is None, (expected, error)
    return None


@cache
def _header(folder: Path, name: str) -> dict[str, Any]:
    header: dict[str, Any] = load(folder, name)["header"]
    return header
