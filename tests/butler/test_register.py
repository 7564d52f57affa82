from __future__ import annotations

import json
from pathlib import Path

from click.testing import Result
from lsst.daf.butler import Butler

from autoingest import instruments
from autoingest.butler.create import create_repository
from autoingest.errors import ConfigurationError
from testing.command import run

from .conftest import Repository


def register(*arguments: str) -> Result:
    return run("repo", "register-instrument", *arguments)


def added(result: Result) -> dict[str, dict[str, list[str]]]:
    assert result.exit_code == 0, result.output
    return dict(json.loads(result.stdout)["added"])


def test_registers_what_is_missing_and_says_so(bare: Repository) -> None:
    create_repository(bare.root, registry_url=bare.registry_url, schema=bare.schema, cameras=[])
    camera = instruments.get("LSSTCam")
    with Butler.from_config(bare.root, writeable=True) as butler:  # as an older version of this program left it
        insert = butler.registry.insertDimensionData
        insert("instrument", {
            "name": "LSSTCam", "class_name": camera.class_name, "visit_max": camera.visit_max,
            "exposure_max": camera.exposure_max, "detector_max": camera.detector_max, "visit_system": 2,
        })  # fmt: skip
        insert("detector", *(
            {"instrument": "LSSTCam", "id": item.id, "full_name": item.name, "raft": item.raft,
             "name_in_raft": item.name_in_raft, "purpose": item.purpose}
            for item in camera.detectors if item.name != "R22_S11"
        ))  # fmt: skip
        filters = [item for item in camera.physical_filters if item.name != "i_39"]
        insert("physical_filter", *(
            {"instrument": "LSSTCam", "name": item.name, "band": item.band} for item in filters
        ))  # fmt: skip
    everything = {"detector": ["R22_S11"], "physical_filter": ["i_39"]}
    assert added(register(bare.root, "LSSTCam", "--json")) == {"LSSTCam": everything}
    assert added(register(bare.root, "LSSTCam", "--json")) == {"LSSTCam": {}}
    assert "nothing was missing" in register(bare.root, "LSSTCam").stdout
    with Butler.from_config(bare.root) as butler:
        assert len(butler.query_dimension_records("detector", instrument="LSSTCam")) == len(camera.detectors)
        assert butler.get_dataset_type("guider_raw").storageClass_name == "Stamps"


def test_refuses_clearly(tmp_path: Path) -> None:
    root = str(tmp_path / "repo")
    create_repository(root, cameras=[])
    for arguments in ((root,), (root, "LSSTCam", "--all")):
        assert "--all" in register(*arguments).output
    unknown = register(root, "HSC")
    assert (unknown.exit_code, "'HSC'" in unknown.output, "LSSTCam" in unknown.output) == (2, True, True)
    assert isinstance(register(str(tmp_path / "nowhere"), "--all").exception, ConfigurationError)
