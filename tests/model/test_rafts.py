"""Names of detectors in short form."""

from __future__ import annotations

import pytest

from autoingest.model.rafts import SCIENCE_SENSORS, by_raft


@pytest.mark.parametrize(
    ("names", "text"),
    [
        ([], ""),
        (["R22_S11"], "R22: S11"),
        ([f"R22_{sensor}" for sensor in SCIENCE_SENSORS], "R22: S00-S22"),
        ([f"R22_{sensor}" for sensor in SCIENCE_SENSORS[:8]], "R22: S00 S01 S02 S10 S11 S12 S20 S21"),
        (["R44_SW1", "R44_SG0", "R01_S00", "R01_S00"], "R01: S00; R44: SG0 SW1"),
        (["RXX_S00", "plain"], "RXX: S00; plain"),
    ],
)
def test_detectors_by_raft(names: list[str], text: str) -> None:
    assert by_raft(names) == text


def test_no_more_rafts_than_wanted() -> None:
    assert by_raft(["R01_S00", "R02_S00", "R03_S00"], 1) == "R01: S00; and 2 more rafts"
