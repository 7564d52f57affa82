"""The translators as the metadata library wants them: every real header passes its own assertions."""

from __future__ import annotations

import json
import pickle
import unittest
import warnings
from pathlib import Path
from typing import Any

import pytest
from astro_metadata_translator import ObservationInfo
from astro_metadata_translator.tests import MetadataAssertHelper
from astropy.io.fits import Header
from astropy.io.fits.verify import VerifyWarning

from autoingest import instruments
from testing.headers import science

from .test_conformance import CASES

PHOSIM = ("comCam-CC_H_20100217_006001_R22_S00", "lsstCam-MC_H_20100217_000032_R22_S00")
"""Simulated headers that tell no altitude, or no pointing at all."""

SEPARATION = {
    "comCam-CC_O_20241108_000266_R22_S00": 2.5,
    "comCamSim-CC_S_20240321_000093_R22_S22": 3000,
    "latiss-AT_O_20220405_000348": 3.5,
    "lsstCam-MC_O_20251121_000156_R44_SW0": 2,
}
"""Arcminutes by which the header's own altitude and boresight are apart, where that is more than one."""


class Assertions(MetadataAssertHelper, unittest.TestCase):  # type: ignore[misc]
    pass


@pytest.mark.filterwarnings("ignore:ERFA function")
@pytest.mark.parametrize("name", [name for _, name in CASES])
def test_every_real_header(shared_data: Path, name: str) -> None:
    instruments.register_translators()
    header = json.loads((shared_data / f"headers/{name}.json").read_text())["header"]
    Assertions().assertObservationInfo(
        header, check_wcs=name not in PHOSIM, wcs_params={"max_sep": SEPARATION.get(name, 1)}
    )


@pytest.mark.filterwarnings("ignore:ERFA function")
@pytest.mark.parametrize("name", [name for _, name in CASES])
def test_headers_as_astropy_reads_them(shared_data: Path, name: str) -> None:
    """Undefined cards are no None there."""
    instruments.register_translators()
    cards = json.loads((shared_data / f"headers/{name}.json").read_text())["header"]
    header = Header()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", VerifyWarning)
        for card, value in cards.items():
            for each in value if isinstance(value, list) else [value]:
                header.append((card, each))
    found, expected = (ObservationInfo(each, pedantic=True) for each in (header, dict(cards)))
    assert found == expected


@pytest.mark.parametrize("name", SEPARATION)
def test_separations_are_the_headers_own(shared_data: Path, name: str) -> None:
    header = json.loads((shared_data / f"headers/{name}.json").read_text())["header"]
    with pytest.raises(AssertionError, match="AltAz inconsistent"):
        Assertions().assertObservationInfo(header, wcs_params={"max_sep": 1})


def info(**changes: Any) -> ObservationInfo:
    instruments.register_translators()
    return ObservationInfo(science(ELEND=69.2, AZEND=239.7, **changes), pedantic=True)


@pytest.mark.parametrize("frame", ["ICRS", "FK5", "FK4", "galactic", None])
def test_boresight_is_in_the_headers_own_frame_at_its_time_and_place(frame: str | None) -> None:
    boresight = info(RADESYS=frame).tracking_radec
    assert boresight is not None
    assert boresight.frame.name == (frame or "icrs").lower()
    assert boresight.obstime.tai.mjd == pytest.approx(60817.22044984951)
    assert boresight.location.geodetic.height.to_value("m") == pytest.approx(2663)
    assert boresight.altaz.alt.degree == boresight.altaz.alt.degree
    assert pickle.loads(pickle.dumps(boresight)).icrs.ra == boresight.icrs.ra


def test_airmass_falls_back_to_the_altitude() -> None:
    assert info(AMSTART=1.5).boresight_airmass == 1.5
    assert info().boresight_airmass == pytest.approx(1.069, abs=1e-3)
    assert info(IMGTYPE="DARK").boresight_airmass is None


@pytest.mark.parametrize("card", ["RASTART", "ROTPA", "AZSTART", "DATE"])
def test_pedantic_translation_refuses_science_without_pointing(card: str) -> None:
    with pytest.raises(KeyError):
        info(**{card: None} if card != "DATE" else {"DATE": science()["DATE-OBS"], "ELSTART": None})
