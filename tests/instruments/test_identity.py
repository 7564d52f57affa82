from __future__ import annotations

import json
import math
import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from astro_metadata_translator import ObservationInfo

from autoingest import instruments
from autoingest.errors import MetadataError
from autoingest.instruments import corrections
from testing.headers import URL, bench, numbered, science


def test_identify_science() -> None:
    assert instruments.identify(science(), URL) == instruments.Identity(
        instrument="LSSTCam",
        exposure_id=2025052100138,
        obs_id="MC_O_20250521_000138",
        detector=94,
        group="2025-05-22T05:18:32.763",
        day_obs=20250521,
    )


@pytest.mark.parametrize(
    ("controller", "day", "expected"),
    [
        ("O", "20190319", 2019031900001),
        ("C", "20190319", 3019031900001),
        ("C", "20231004", 3023100400001),
        ("C", "20231005", 2023100500001),
        ("H", "20100217", 4010021700001),
        ("H", "20260101", 4026010100001),
        ("P", "20250417", 5025041700001),
        ("P", "20250418", 2025041800001),
        ("Q", "20250417", 6025041700001),
        ("S", "20250417", 7025041700001),
        ("S", "20250418", 2025041800001),
    ],
)
def test_exposure_id_by_controller_and_day(controller: str, day: str, expected: int) -> None:
    header = science(**numbered(day, 1, controller))
    assert instruments.identify(header, URL).exposure_id == expected
    for missing in ({"CONTRLLR": None}, {"CONTRLLR": ""}):
        assert instruments.identify(header | missing, URL).exposure_id == int(f"{day}00001")


@pytest.mark.parametrize("value", ["20190319", 20190319, 20190319.0])
def test_day_obs_spellings(value: object) -> None:
    found = instruments.identify(bench(DAYOBS=value), URL)
    assert (found.day_obs, found.exposure_id) == (20190319, 3019031900001)


@pytest.mark.parametrize("value", [138, 138.0, "138", "000138"])
def test_seq_num_spellings(value: object) -> None:
    assert instruments.identify(science(SEQNUM=value), URL).exposure_id == 2025052100138


@pytest.mark.parametrize("changes", [{"SEQNUM": 139}, {"OBSID": "MC_O_20250521_000139"}, {"OBSID": "anything"}])
def test_day_and_number_make_the_exposure_whatever_its_name(changes: dict[str, object]) -> None:
    header = science(**changes)
    found = instruments.identify(header, URL)
    assert (found.exposure_id, found.obs_id) == (2025052100000 + header["SEQNUM"], header["OBSID"])


@pytest.mark.parametrize(("value", "expected"), [(None, "2025052100138"), ("", ""), ("  ", "  ")])
def test_group_is_the_exposure_where_there_is_none(value: str | None, expected: str) -> None:
    assert instruments.identify(science(GROUPID=value), URL).group == expected


@pytest.mark.parametrize(
    ("card", "value"),
    [
        ("INSTRUME", "OtherCam"),
        ("INSTRUME", None),
        ("OBSID", None),
        ("DAYOBS", None),
        ("DAYOBS", "2025-05-21"),
        ("DAYOBS", "20250521T"),
        ("DAYOBS", "today"),
        ("DAYOBS", 2025.5),
        ("SEQNUM", None),
        ("SEQNUM", -1),
        ("SEQNUM", 100_000),
        ("SEQNUM", 1.5),
        ("SEQNUM", True),
        ("SEQNUM", "1.0"),
        ("SEQNUM", math.nan),
        ("SEQNUM", math.inf),
        ("SEQNUM", 10**30),
        ("CONTRLLR", "X"),
        ("CONTRLLR", "OC"),
        ("GROUPID", 7),
        ("RAFTBAY", None),
        ("CALIB_ID", "x"),
        ("CALIB_ID", None),
    ],
)
def test_unusable_cards_are_named(card: str, value: object) -> None:
    with pytest.raises(MetadataError) as caught:
        instruments.identify(science(**{card: value}), URL)
    assert card in str(caught.value)
    assert repr(value) in str(caught.value) or value is None
    assert URL in str(caught.value)
    assert caught.value.context == {"card": card, "value": pytest.approx(value, nan_ok=True), "path": URL}


def test_unknown_detector_is_named() -> None:
    with pytest.raises(MetadataError, match="R22_S33"):
        instruments.identify(science(CCDSLOT="S33"), URL)


def test_guider() -> None:
    header = {"INSTRUME": "lsstCam", "OBSID": "MC_O_20250521_000138", "RAFTBAY": "R00", "CCDSLOT": "SG0"}
    assert instruments.identify_guider(header, URL) == instruments.GuiderIdentity(
        "LSSTCam", "MC_O_20250521_000138", 189
    )


@pytest.mark.parametrize("slot", ["SW0", "S00"])
def test_only_guide_detectors_guide(slot: str) -> None:
    raft = "R00" if slot == "SW0" else "R22"
    with pytest.raises(MetadataError, match="not a guide detector"):
        instruments.identify_guider(science(RAFTBAY=raft, CCDSLOT=slot), URL)


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Two folders of corrections, of which the first counts before the second."""
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    monkeypatch.setenv(corrections.ENVIRONMENT, f"{first}{os.pathsep}{tmp_path}/missing{os.pathsep}{second}")
    return first, second


def corrected(obs_id: str) -> str:
    header = science(OBSID=obs_id)
    group = instruments.identify(header, URL).group
    assert instruments.exposure_record(header, URL).group == group
    return group


def test_a_sites_correction_counts_before_ours(folders: tuple[Path, Path]) -> None:
    first, second = folders
    obs_id, ours = "MC_O_20250522_000138", "2025-05-23T00:28:42.492"
    assert corrections.shipped("LSSTCam", obs_id) == {"GROUPID": ours}
    (second / f"LSSTCam-{obs_id}.yaml").write_text("GROUPID: second\n")
    assert corrected(obs_id) == "second"
    corrections._of_site.cache_clear()
    (first / f"LSSTCam-{obs_id}.yaml").write_text("GROUPID: first\n")
    assert corrected(obs_id) == "first"
    corrections._of_site.cache_clear()
    (first / f"LSSTCam-{obs_id}.yaml").write_text("OBJECT: other\n")
    assert corrected(obs_id) == science()["GROUPID"]  # files don't add up
    assert instruments.exposure_record(science(OBSID=obs_id), URL).target_name == "other"


@pytest.mark.parametrize("content", ["", "- a list", "{broken", "text", "\x00"])
def test_a_file_without_corrections_is_passed_over(folders: tuple[Path, Path], content: str) -> None:
    obs_id = "MC_O_20250521_000777"
    (folders[0] / f"LSSTCam-{obs_id}.yaml").write_text(content)
    (folders[1] / f"LSSTCam-{obs_id}.yaml").write_text("GROUPID: 2025-05-22 05:18:32.763\n")
    assert corrected(obs_id) == "2025-05-22 05:18:32.763000"


NO_ACCESS = """
import sys
from autoingest import instruments
from testing.headers import URL, science

names = [f"MC_O_20250522_{number:06}" for number in range(138, 157)]
instruments.identify(science(OBSID=names[0]), URL)
sys.addaudithook(lambda event, args: sys.exit(f"{event}{args}") if event.startswith(("open", "os.")) else None)
groups = {instruments.identify(science(OBSID=name), URL).group for name in names}
assert len(groups) > 10, groups
print("corrected")
"""


def test_our_corrections_cost_no_access_to_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(corrections.ENVIRONMENT, raising=False)
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", NO_ACCESS], cwd=root, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("corrected\n", "")


SITE = """
import sys, types
from astro_metadata_translator import FitsTranslator
for name in ("lsst.obs", "lsst.obs.lsst", "lsst.obs.lsst.translators"):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = []

class Site(FitsTranslator):
    name = supported_instrument = "LSSTCam"
    default_search_path = [sys.argv[1]]
    _const_map = {"instrument": "LSSTCam"}
    _trivial_map = {"observation_id": "OBSID"}

from autoingest import instruments
from testing.headers import URL, science

for obs_id in ("MC_O_20250522_000138", "MC_O_20250522_000139", "x" * 300):
    print(instruments.identify(science(OBSID=obs_id), URL).group)
"""


def test_corrections_are_the_sites_where_its_translator_is(tmp_path: Path) -> None:
    (tmp_path / "LSSTCam-MC_O_20250522_000138.yaml").write_text("GROUPID: site\n")
    command = [sys.executable, "-c", SITE, str(tmp_path)]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["site", science()["GROUPID"], science()["GROUPID"]]


@pytest.mark.parametrize(
    "obs_id",
    ["MC_O_" + "1" * 238, "x" * 100_000, "../LSSTCam-x", "/etc/passwd", "..", "a/../b", "a\x00b", "", "\udcff", "é"],
)
def test_an_odd_name_never_names_a_file(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, obs_id: str
) -> None:
    (folders[0].parent / "LSSTCam-x.yaml").write_text("GROUPID: wrong\n")
    monkeypatch.setattr(Path, "read_bytes", lambda path: pytest.fail(f"{path} was read"))
    assert instruments.identify(science(OBSID=obs_id), URL).obs_id == obs_id
    assert instruments.exposure_record(science(OBSID=obs_id), URL).obs_id == obs_id


def test_the_library_corrects_headers_as_we_do(folders: tuple[Path, Path]) -> None:
    instruments.register_translators()
    obs_id = "MC_O_20250522_000138"

    def group(**options: Any) -> object:
        return ObservationInfo(science(OBSID=obs_id), quiet=True, **options).exposure_group

    assert group() == "2025-05-23T00:28:42.492"
    (folders[1] / f"LSSTCam-{obs_id}.yaml").write_text("GROUPID: site\n")
    assert group() == "site"
    (folders[0].parent / f"LSSTCam-{obs_id}.yaml").write_text("GROUPID: caller\n")
    assert group(search_path=[str(folders[0].parent)]) == "caller"


def test_the_files_of_corrections_are_made_by_their_script(tmp_path: Path, shared_data: Path) -> None:
    script = runpy.run_path(str(Path(__file__).parents[2] / "tools/corrections.py"))
    found = script["read"](shared_data / "corrections")
    assert sum(map(len, found.values())) == 5296
    for instrument, expected in found.items():
        assert (script["TARGET"] / f"{instrument}.json").read_text() == script["packed"](expected)
        assert {obs_id: corrections.shipped(instrument, obs_id) for obs_id in expected} == expected
    name = "AT_O_20190308_000139"
    (tmp_path / f"LATISS-{name}.yaml").write_text(json.dumps(found["LATISS"][name]))
    assert script["read"](tmp_path) == {"LATISS": {name: found["LATISS"][name]}}
