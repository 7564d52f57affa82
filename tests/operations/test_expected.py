"""Lists of expected sensors as anybody may write them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from autoingest.operations.expected import expected_sensors
from autoingest.store.listing import LARGEST_CONTENT
from testing.exposures import DAY_OBS, obs_id

from .conftest import Site


def of(value: Any) -> bytes:
    return json.dumps({"expectedSensors": value}).encode()


GOOD = {
    "object": of({"R22_S11": "SCIENCE", "R00_SG0": "GUIDER"}),
    "list": of(["R22_S11", "R00_SG0"]),
    "twice": of(["R22_S11", "R00_SG0", "R22_S11"]),
    "byte order mark": b"\xef\xbb\xbf" + of(["R22_S11", "R00_SG0"]),
}
BAD = {
    "mixed": of(["R22_S11", 7, None]),
    "nested": of([["R22_S11"]]),
    "objects": of([{"R22_S11": "SCIENCE"}]),
    "object of numbers": of({"R22_S11": 1}),
    "object of mixed": of({"R22_S11": "SCIENCE", "R00_SG0": None}),
    "text": of("R22_S11"),
    "number": of(205),
    "true": of(True),
    "null": of(None),
    "no names": of([]),
    "no object": of({}),
    "absent": b"{}",
    "empty": b"",
    "array": b'["R22_S11"]',
    "null alone": b"null",
    "no JSON": b"R22_S11",
    "cut": of(["R22_S11"])[:-3],
    "no UTF-8": b'{"expectedSensors": ["R22_S11\xff"]}',
    "half a surrogate pair": b'{"expectedSensors": ["R22_S11\\ud800"]}',
    "UTF-16": '{"expectedSensors": ["R22_S11"]}'.encode("utf-16"),
    "deep": b'{"expectedSensors": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "NaN": b'{"expectedSensors": [NaN]}',
}
BELIEVED_BY_NOBODY = {
    "unknown name": of(["R22_S11", "R99_S99"]),
    "one text of many": of(["R22_S11", "\x1b[31m"]),
    "huge": of(["R22_S11"] * (LARGEST_CONTENT // 10)),
}


@pytest.mark.parametrize("content", GOOD.values(), ids=GOOD)
def test_list(content: bytes) -> None:
    assert expected_sensors(content) == {"R22_S11", "R00_SG0"}


@pytest.mark.parametrize("content", BAD.values(), ids=BAD)
def test_no_list(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        expected_sensors(content)


def test_all_are_expected_where_a_list_is_none(site: Site) -> None:
    """One bad list stops no other exposure, and nobody counts letters."""
    contents = {**GOOD, **BAD, **BELIEVED_BY_NOBODY}
    site.put(site.files(1, [94]))
    for number, content in enumerate(contents.values(), 1):
        (file,) = site.files(number, [94])
        site.put([file])
        key = f"LSSTCam/{DAY_OBS}/{obs_id(number)}/{obs_id(number)}_expectedSensors.json"
        site.s3.put_object(Bucket=site.bucket, Key=key, Body=content)
    report = site.json("reconcile", "--day", str(DAY_OBS), "--grace", "0s", code=1)
    found = {exposure["obs_id"]: exposure["expected"] for exposure in report["exposures"]}
    assert found == {obs_id(number): 2 if name in GOOD else 205 for number, name in enumerate(contents, 1)}
