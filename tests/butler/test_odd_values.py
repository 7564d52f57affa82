"""Odd values of cards: what the rules allow goes in, what the Butler can't hold harms only its own file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from autoingest.butler.engine import IngestFile
from autoingest.butler.native import NativeEngine
from testing import exposures
from testing.headers import latiss

from .conftest import Repository
from .contents import OpenButler


@pytest.fixture
def engine(repository: Repository) -> Iterator[NativeEngine]:
    with closing(NativeEngine(repository.root)) as engine:
        yield engine


GOOD: dict[str, dict[str, Any]] = {
    "blank target": {"OBJECT": ""},
    "blank programme": {"PROGRAM": ""},
    "no pointing": {"RASTART": None, "RA": None},
    "no rotation on the ground": {"ROTPA": None, "IMGTYPE": "ACQ"},
    "whole numbers as floats": {"CURINDEX": 1.0, "MAXINDEX": "1"},
    "unknown vignetting": {"VIGN_MIN": "UNKNOWN"},
    "dark time that is no number": {"DARKTIME": "nan"},
}
BAD: dict[str, dict[str, Any]] = {
    "no rotation": {"ROTPA": None},
    "day that is none": {"DAYOBS": "20250230"},
    "huge day": {"DAYOBS": 10**12},
    "filter that is not registered": {"FILTER": "bogus"},
    "blank filter": {"FILTER": "", "FILTER2": "empty"},
    "endless exposure": {"EXPTIME": 1e300, "SHUTTIME": 0.0, "DATE-END": None},
    "exposure that is no number": {"EXPTIME": "nan", "SHUTTIME": None, "DATE-END": None},
    "first moment": {"MJD-BEG": 40587.0},
    "number as group": {"GROUPID": 7},
    "NUL in the target": {"OBJECT": "a\0b"},
    "list": {"IMGTYPE": ["OBJECT"]},
}


@pytest.mark.parametrize("name", [*GOOD, *BAD])
def test_each_file_stands_for_itself(engine: NativeEngine, repository: Repository, name: str) -> None:
    changes = GOOD.get(name) or BAD[name]
    files = exposures.files(1, [94]) + exposures.files(2, [94], **changes) + exposures.files(3, [94])
    good, odd, other = engine.ingest(files).files
    assert (good.outcome, other.outcome) == ("ingested", "ingested")
    fails = name in BAD and not ("NUL" in name and repository.registry_url is None)
    assert odd.outcome == ("failed" if fails else "ingested"), odd
    assert bool(odd.exception) == fails


@pytest.mark.parametrize("name", ["x" * 243, "../../etc/passwd", "a/b", "..", "%2e%2e", "x.yaml", " "])
def test_odd_names_of_exposures(engine: NativeEngine, name: str) -> None:
    files = exposures.files(1, [94]) + exposures.files(2, [94], OBSID=name) + exposures.files(3, [94])
    results = engine.ingest(files).files
    assert [item.outcome for item in results if item.path != files[1].path] == ["ingested", "ingested"]


def test_rotation_that_is_no_number_makes_no_visit(engine: NativeEngine, open_butler: OpenButler) -> None:
    """An acquisition image of LATISS with a boresight, and without rotation."""
    path = "rubin-summit/LATISS/20230705/AT_O_20230705_000379/AT_O_20230705_000379_R00_S00.fits"
    header = latiss(IMGTYPE="ACQ", ROTPA=None)
    result = engine.ingest([IngestFile(path, f"s3://{path}", "AT_O_20230705_000379", False, header, 2880)])
    assert ([item.outcome for item in result.files], result.visits, result.owed) == (["ingested"], [], [])
    [record] = open_butler().query_dimension_records("exposure", instrument="LATISS")
    assert record.tracking_ra == 272.081
    assert record.sky_angle is None or record.sky_angle != record.sky_angle
    assert engine.define_visits([("LATISS", record.id)]).owed == []
