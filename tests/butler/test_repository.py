from __future__ import annotations

from lsst.daf.butler import Butler
from lsst.daf.butler.registry import CollectionType  # type: ignore[attr-defined]

from autoingest.butler.create import create_repository

from .conftest import Repository


def test_repository_is_made_and_completed(bare: Repository) -> None:
    settings = {"registry_url": bare.registry_url, "schema": bare.schema}
    assert create_repository(bare.root, cameras=[], **settings).created
    first = create_repository(bare.root, cameras=["LSSTCam"], **settings)
    assert (first.created, first.added) == (False, {"LSSTCam": 1 + 205 + 276})
    again = create_repository(bare.root, cameras=["LSSTCam"], **settings)
    assert (again.created, again.added) == (False, {"LSSTCam": 0})


def test_what_a_repository_knows_of_lsstcam(repository: Repository) -> None:
    butler = Butler.from_config(repository.root)
    [instrument] = butler.query_dimension_records("instrument", instrument="LSSTCam")
    assert instrument.toDict() == {
        "name": "LSSTCam",
        "class_name": "lsst.obs.lsst.LsstCam",
        "visit_max": 7050123199999,
        "exposure_max": 7050123199999,
        "detector_max": 1000,
        "visit_system": 2,
    }
    detectors = {record.id: record for record in butler.query_dimension_records("detector", instrument="LSSTCam")}
    assert len(detectors) == 205
    assert detectors[94].toDict() == {
        "instrument": "LSSTCam",
        "id": 94,
        "full_name": "R22_S11",
        "name_in_raft": "S11",
        "raft": "R22",
        "purpose": "SCIENCE",
    }
    purposes = [record.purpose for record in detectors.values()]
    assert {name: purposes.count(name) for name in purposes} == {"SCIENCE": 189, "WAVEFRONT": 8, "GUIDER": 8}
    filters = {
        record.name: record.band for record in butler.query_dimension_records("physical_filter", instrument="LSSTCam")
    }
    assert len(filters) == 276
    assert filters["i_39"] == "i"
    types = {name: butler.get_dataset_type(name) for name in ("raw", "guider_raw")}
    assert {name: kind.storageClass_name for name, kind in types.items()} == {"raw": "Exposure", "guider_raw": "Stamps"}
    for kind in types.values():
        assert set(kind.dimensions.required) == {"instrument", "detector", "exposure"}
    assert set(butler.collections.query("LSSTCam/*", collection_types=CollectionType.RUN)) == {
        "LSSTCam/raw/all",
        "LSSTCam/raw/guider",
    }
    butler.close()
