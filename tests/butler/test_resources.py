from __future__ import annotations

import json

import pytest
from astro_metadata_translator.indexing import process_sidecar_data
from lsst.resources import ResourcePath

from autoingest.butler.formatters import named_formatter
from autoingest.butler.resources import KnownImage, KnownObject


def test_known_object_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("S3_ENDPOINT_URL", "http://127.0.0.1:9")
    url = "s3://embargo@rubin-summit/LSSTCam/20250714/MC_O_20250714_000001/MC_O_20250714_000001_R22_S11.fits"
    known = KnownObject.of(url, 123)
    assert (str(known), known.exists(), known.size()) == (url, True, 123)
    assert ResourcePath(known, forceAbsolute=False, forceDirectory=False) is known


def test_header_is_found_as_a_sidecar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("S3_ENDPOINT_URL", "http://127.0.0.1:9")
    image = KnownImage.of("s3://profile@bucket/a 1.fits", 123)
    image.header = {"INSTRUME": "LSSTCam", "EXPTIME": 30.0, "ROTPA": None}
    [found] = ResourcePath.findFileResources([image])
    sidecar = found.abspath().updatedExtension(".json")
    assert (str(sidecar), sidecar.exists()) == ("s3://profile@bucket/a%201.json", True)
    assert process_sidecar_data(json.loads(sidecar.read())) == image.header
    assert sidecar.size() == len(sidecar.read())


@pytest.mark.parametrize("key", ["a b.fits", "50%.fits", "a%2Bb.fits", "a?b#c.fits", "µ.fits", "a+b=c.fits"])
def test_any_key_is_found_again(key: str) -> None:
    read_again = ResourcePath(str(KnownObject.of(f"s3://bucket/{key}", 1)))
    assert read_again.relativeToPathRoot == key
    assert not read_again.fragment


def test_formatter_is_known_by_its_name() -> None:
    name = "lsst.obs.lsst.rawFormatter.LsstCamRawFormatter"
    assert named_formatter(name).name() == name
