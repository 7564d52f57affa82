from __future__ import annotations

import io
import json
from collections import Counter
from datetime import UTC, datetime

import pytest
from astropy.io import fits

from autoingest import instruments
from autoingest.dev.simulator import IMAGE_TYPES, Exposure, sensors
from autoingest.model.objects import ExposureObject, parse
from autoingest.store.fits import parse_headers

BEGIN = datetime(2030, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)
EXPOSURE = Exposure(20300101, 12, BEGIN)


def test_205_files_with_names_that_parse() -> None:
    objects = [parse(f"rubin-summit/{EXPOSURE.key(sensor)}") for sensor in sensors()]
    assert len({obj.path for obj in objects}) == 205
    for obj, sensor in zip(objects, sensors(), strict=True):
        assert isinstance(obj, ExposureObject)
        assert (obj.instrument, obj.obs_id, obj.seq_num) == ("LSSTCam", EXPOSURE.obs_id, 12)
        assert (obj.raft_sensor, obj.is_guider) == (sensor.name, sensor.purpose == "GUIDER")
        assert obj.sidecar == f"rubin-summit/{EXPOSURE.sidecar_key(sensor)}"
    expected = json.loads(EXPOSURE.expected_sensors())
    assert Counter(expected["expectedSensors"].values()) == {"SCIENCE": 189, "WAVEFRONT": 8, "GUIDER": 8}
    assert expected["obsId"] == EXPOSURE.obs_id


def test_fits_files_are_valid_and_agree_with_sidecars() -> None:
    for sensor in sensors():
        data = EXPOSURE.image(sensor)
        with fits.open(io.BytesIO(data)) as file:
            file.verify("exception")
            assert file[1].data.shape == (32, 32)
            primary = {
                name: None if isinstance(value, fits.card.Undefined) else value
                for name, value in file[0].header.items()
            }
        sidecar = json.loads(EXPOSURE.sidecar(sensor))
        assert sidecar.pop("__CONTENT__") == "metadata"
        assert {name.removeprefix("HIERARCH.").replace(".", " "): value for name, value in sidecar.items()} == primary
        ours = parse_headers(data, complete=True)
        assert ours is not None
        assert ours.items() >= primary.items() - {("NAXIS", 0), ("BITPIX", 8)}


def test_headers_translate_to_one_exposure_and_all_detectors() -> None:
    detectors = set()
    for sensor in sensors():
        header, url = EXPOSURE.header(sensor), f"s3://rubin-summit/{EXPOSURE.key(sensor)}"
        assert ("GROUPID" in header) == (sensor.purpose != "GUIDER")
        if sensor.purpose == "GUIDER":
            guider = instruments.identify_guider(header, url)
            assert guider.obs_id == EXPOSURE.obs_id
            detectors.add(guider.detector)
        else:
            identity = instruments.identify(header, url)
            assert (identity.exposure_id, identity.obs_id) == (EXPOSURE.exposure_id, EXPOSURE.obs_id)
            detectors.add(identity.detector)
    assert detectors == {detector.id for detector in instruments.get("LSSTCam").detectors}


@pytest.mark.parametrize("image_type", IMAGE_TYPES)
def test_visit_for_images_of_the_sky_only(image_type: str) -> None:
    exposure = Exposure(20300101, 12, BEGIN, image_type)
    first, other = (
        instruments.exposure_record(exposure.header(sensor), f"s3://b/{exposure.key(sensor)}")
        for sensor in (sensors()[0], sensors()[195])
    )
    assert (first.id, first.day_obs, first.seq_num) == (2030010100012, 20300101, 12)
    assert (first.tracking_ra, first.sky_angle, first.physical_filter) == (
        other.tracking_ra, other.sky_angle, other.physical_filter,
    )  # fmt: skip
    sky = image_type in ("OBJECT", "ACQ", "ENGTEST")
    assert (first.can_see_sky, first.sky_angle is not None) == (sky, sky)


def test_pointing_agrees_with_the_sky() -> None:
    """Horizontal coordinates follow from the equatorial ones, place and time, to the precession since 2000."""
    from astropy.coordinates import AltAz, EarthLocation, SkyCoord
    from astropy.time import Time
    from astropy.utils import iers

    for seq_num in (1, 12, 33):
        header = Exposure(20260101, seq_num, BEGIN.replace(year=2026)).header(sensors()[0])
        place = EarthLocation.from_geodetic(header["OBS-LONG"], header["OBS-LAT"], header["OBS-ELEV"])
        with iers.conf.set_temp("auto_download", False):
            frame = AltAz(obstime=Time(header["MJD-BEG"], format="mjd", scale="tai"), location=place)
            there = SkyCoord(header["RASTART"], header["DECSTART"], unit="deg").transform_to(frame)
        claimed = SkyCoord(AltAz(header["AZSTART"] * there.az.unit, header["ELSTART"] * there.az.unit))
        assert claimed.separation(SkyCoord(AltAz(there.az, there.alt))).degree < 0.5
        assert float(str(header["ELSTART"])) > 50
