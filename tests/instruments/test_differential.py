"""Thousands of derived headers must give the records that the Science Pipelines make of them."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest

BASES = ("MC_C_", "lsstCam-MC_C", "lsstCam-MC_H", "lsstCam-MC_O", "lsstCam_MC_C", "latiss-2018", "latiss-AT_C",
         "latiss-AT_O_2019", "latiss-AT_O_2020", "latiss-AT_O_2021", "latiss-AT_O_2022", "latiss-AT_O_2023",
         "latiss-AT_O_2024", "comCam-", "comCamSim-", "ts8-", "lfa-")  # fmt: skip
"""What the names of the real headers begin with from which cases are derived: a run of the script for each."""


def check(shared_data: Path, *options: str) -> None:
    folder = shared_data / "differential"
    command = [
        sys.executable,
        str(folder / "check_cases.py"),
        str(folder / "cases.json.gz"),
        "--headers",
        str(shared_data / "headers"),
    ]
    done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 of 0 equal" not in done.stdout


@pytest.mark.parametrize("base", BASES)
def test_derived_headers(shared_data: Path, base: str) -> None:
    check(shared_data, "--list", "cases", "--only", base)


@pytest.mark.parametrize("folder", [False, True], ids=["ours", "of a site"])
def test_corrected_headers(shared_data: Path, folder: bool) -> None:
    check(shared_data, "--list", "with_corrections", *(["--corrections", str(shared_data / "corrections")] * folder))


def test_no_case_is_left_out(shared_data: Path) -> None:
    document = json.loads(gzip.decompress((shared_data / "differential/cases.json.gz").read_bytes()))
    assert len(document["cases"]) == 3553
    assert all(case["base"].startswith(BASES) for case in document["cases"])
