from datetime import UTC, datetime

import pytest

from autoingest.errors import UnknownObjectError
from autoingest.model.objects import ExposureObject, LfaObject, observing_day, parse

FOLDER = "embargo@rubin-summit/LSSTCam/20251231/MC_O_20251231_000010/"


def test_science_image() -> None:
    obj = parse(FOLDER + "MC_O_20251231_000010_R22_S11.fits")
    assert isinstance(obj, ExposureObject)
    assert (obj.bucket, obj.instrument, obj.day_obs) == ("embargo@rubin-summit", "LSSTCam", "20251231")
    assert (obj.obs_id, obj.seq_num, obj.raft_sensor) == ("MC_O_20251231_000010", 10, "R22_S11")
    assert not obj.is_guider
    assert obj.sidecar == FOLDER + "MC_O_20251231_000010_R22_S11.json"
    assert obj.url == "s3://" + obj.path


@pytest.mark.parametrize(
    ("filename", "raft_sensor", "is_guider", "sidecar"),
    [
        ("MC_O_20251231_000010_R00_SG0_guider.fits", "R00_SG0", True, "MC_O_20251231_000010_R00_SG0_guider.json"),
        ("MC_O_20251231_000010_R00_SW1.fits.fz", "R00_SW1", False, "MC_O_20251231_000010_R00_SW1.json"),
        ("MC_O_20251231_000010_expectedSensors.json", None, False, "MC_O_20251231_000010_expectedSensors.json"),
    ],
)
def test_other_files(filename: str, raft_sensor: str | None, is_guider: bool, sidecar: str) -> None:
    obj = parse(FOLDER + filename)
    assert isinstance(obj, ExposureObject)
    assert (obj.raft_sensor, obj.is_guider, obj.sidecar) == (raft_sensor, is_guider, FOLDER + sidecar)


@pytest.mark.parametrize(
    ("folder", "code", "instrument"),
    [
        ("ComCam", "CC", "LSSTComCam"),
        ("TS8", "TS", "LSST-TS8"),
        ("LSST-TS8", "TS", "LSST-TS8"),
        ("LATISS", "AT", "LATISS"),
    ],
)
def test_cameras(folder: str, code: str, instrument: str) -> None:
    obj = parse(f"b/{folder}/20241108/{code}_C_20241108_000266/{code}_C_20241108_000266_R22_S00.fits")
    assert isinstance(obj, ExposureObject)
    assert (obj.instrument, obj.raft_sensor) == (instrument, "R22_S00")


@pytest.mark.parametrize(
    ("key", "instrument"),
    [
        ("GenericCamera:101/file/2022/12/08/GC101_O_20221208_000211.fits", "GenericCamera:101/file"),
        ("FiberSpectrograph:3/rd/2024/01/09/dir/f.fits", "FiberSpectrograph:3/rd"),
        ("AllSky/2024/01/09/f.fits", "AllSky"),
    ],
)
def test_large_file_annex(key: str, instrument: str) -> None:
    obj = parse("rubinobs-lfa-cp/" + key)
    assert isinstance(obj, LfaObject)
    assert obj.instrument == instrument
    assert len(obj.obs_day) == 8


@pytest.mark.parametrize(
    "path",
    [
        "",
        "bucket",
        "bucket/LSSTCam/20251231/MC_O_20251231_000010",
        "bucket/LSSTCam/20251231/MC_O_20251231_000010/",
        "bucket/LSSTCam/20251231/MC_O_20251231_000010/deeper/x.fits",
        "bucket/HSC/20251231/MC_O_20251231_000010/x.fits",
        "bucket/LSSTCam/2025123/MC_O_20251231_000010/x.fits",
        "bucket/LSSTCam/20251231/MC_O_20251231_00001x/x.fits",
        "bucket/LSSTCam/20251231/AT_O_20251231_000010/x.fits",
        "bucket/TS8/20180724/lambda_bias_024/E2V-CCD250-179_lambda_bias_024_6006D_20180724104156.fits",
        "rubinobs-lfa-cp/a/b.fits",
        "rubinobs-lfa-cp/a/b/c/d/f.fits",
    ],
)
def test_unknown_shapes_say_why(path: str) -> None:
    with pytest.raises(UnknownObjectError, match=r"\w"):
        parse(path)


def test_observing_day_begins_at_noon() -> None:
    assert observing_day(datetime(2030, 1, 2, 11, 59, tzinfo=UTC)) == 20300101
    assert observing_day(datetime(2030, 1, 2, 12, 0, tzinfo=UTC)) == 20300102
