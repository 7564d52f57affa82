"""Where the official tools fail because of a mistake in them and the right record is plain: see docs/fidelity.md."""

from __future__ import annotations

import math
from typing import Any

import pytest

from autoingest import instruments
from autoingest.errors import MetadataError
from testing.headers import TRACKER, URL, latiss, science

SPECTROGRAPH = TRACKER | {"INSTRUME": "FiberSpectrograph.Broad", "DATE-BEG": "2022-12-09T05:20:48.853"}
ANNEX = pytest.mark.parametrize("header", [TRACKER, SPECTROGRAPH], ids=["StarTracker", "FiberSpec"])


@ANNEX
def test_an_annex_header_without_exposure_time(header: dict[str, Any]) -> None:
    found = instruments.exposure_record({card: value for card, value in header.items() if card != "EXPTIME"}, URL)
    assert (found.exposure_time, found.dark_time) == (-1.0, -1.0)
    assert instruments.exposure_record(header | {"EXPTIME": None}, URL).exposure_time == -1.0


@ANNEX
def test_an_annex_header_with_dark_time(header: dict[str, Any]) -> None:
    assert instruments.exposure_record(header | {"DARKTIME": 7.5}, URL).dark_time == 7.5
    assert instruments.exposure_record(header | {"DARKTIME": None}, URL).dark_time == header["EXPTIME"]


@pytest.mark.parametrize("kind", [float, str])
def test_whole_numbers_written_otherwise(kind: type) -> None:
    plain = science(CURINDEX=1, MAXINDEX=2)
    written = plain | {card: kind(plain[card]) for card in ("SEQNUM", "CURINDEX", "MAXINDEX")}
    assert instruments.identify(written, URL) == instruments.identify(plain, URL)
    found, expected = (instruments.exposure_record(header, URL) for header in (written, plain))
    for field in ("id", "seq_num", "seq_start", "seq_end"):
        assert getattr(found, field) == getattr(expected, field)
        assert type(getattr(found, field)) is int


def test_science_without_rotation_fails_alone() -> None:
    with pytest.raises(MetadataError, match="ROTPA is missing"):
        instruments.exposure_record(science(ROTPA=None), URL)
    assert instruments.exposure_record(science(ROTPA=None, RASTART=None), URL).sky_angle is None


def test_rotation_that_is_no_number_is_kept() -> None:
    found = instruments.exposure_record(latiss(IMGTYPE="ACQ", ROTPA=None), URL)
    assert math.isnan(found.sky_angle or 0.0)


@pytest.mark.parametrize("begin", [40587.0, 88069.0, 1e6, -5.0])
def test_times_that_the_butler_does_not_know(begin: float) -> None:
    with pytest.raises(MetadataError, match="no time from 1970 to 2099"):
        instruments.exposure_record(science(**{"MJD-BEG": begin}), URL)
