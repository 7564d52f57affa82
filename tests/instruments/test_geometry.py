from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lsst.sphgeom import ConvexPolygon, LonLat, UnitVector3d

from autoingest import instruments
from autoingest.instruments.geometry import VisitRegions, visit_regions

CAMERA = instruments.get("LSSTCam")
CENTRE = CAMERA.detector_ids["R22_S11"]
ARCSEC = math.radians(1 / 3600)


def separations(polygon: ConvexPolygon) -> list[float]:
    vertices = [(v.x(), v.y(), v.z()) for v in polygon.getVertices()]
    return sorted(math.dist(a, b) for a, b in pairwise([*vertices, vertices[0]]))


def shapes(regions: VisitRegions) -> list[float]:
    return [side for number in sorted(regions.detectors) for side in separations(regions.detectors[number])]


def at(ra: float, dec: float) -> UnitVector3d:
    return UnitVector3d(LonLat.fromDegrees(ra, dec))


def test_data_of_the_camera() -> None:
    assert [detector.id for detector in CAMERA.detectors] == list(range(205))
    assert (CAMERA.class_name, CAMERA.visit_system) == ("lsst.obs.lsst.LsstCam", 2)
    assert (CAMERA.visit_max, CAMERA.exposure_max, CAMERA.detector_max) == (7050123199999, 7050123199999, 1000)
    corner = CAMERA.detectors[189]
    assert (corner.name, corner.raft, corner.name_in_raft, corner.purpose) == ("R00_SG0", "R00", "SG0", "GUIDER")
    assert len(CAMERA.guiders) == 8
    assert {item.name: item.band for item in CAMERA.physical_filters}["i_39"] == "i"


def test_orientation_on_the_sky() -> None:
    regions = visit_regions(CAMERA, 40.0, 0.0, 0.0)
    west, north = (regions.detectors[CAMERA.detector_ids[name]] for name in ("R24_S11", "R42_S11"))
    assert LonLat(west.getCentroid()).getLon().asDegrees() < 39
    assert LonLat(north.getCentroid()).getLat().asDegrees() > 1
    turned = visit_regions(CAMERA, 40.0, 0.0, 90.0).detectors[CAMERA.detector_ids["R24_S11"]]
    assert LonLat(turned.getCentroid()).getLat().asDegrees() > 1


def test_size_of_a_detector() -> None:
    pixel = CAMERA.plate_scale * 0.01 * ARCSEC  # at the centre
    width, height = (side / pixel for side in separations(visit_regions(CAMERA, 0, 0, 0).detectors[CENTRE])[::2])
    assert sorted((width, height)) == pytest.approx([4004 + 500, 4096 + 500], rel=1e-4)


directions = st.tuples(
    st.floats(-360, 720),
    st.one_of(st.sampled_from([90.0, -90.0, 89.9999999, -89.9999999]), st.floats(-90, 90)),
    st.floats(-720, 720),
)


@settings(max_examples=60, deadline=None)
@given(directions)
def test_regions_are_the_same_everywhere_and_at_the_poles(direction: tuple[float, float, float]) -> None:
    regions = visit_regions(CAMERA, *direction)
    boresight = at(*direction[:2])
    assert regions.detectors[CENTRE].contains(boresight)
    assert regions.visit.contains(boresight)
    assert shapes(regions) == pytest.approx(shapes(visit_regions(CAMERA, 10, 0, 0)), abs=1e-6 * ARCSEC)


@settings(max_examples=20, deadline=None)
@given(directions)
def test_a_visit_holds_its_detectors(direction: tuple[float, float, float]) -> None:
    regions = visit_regions(CAMERA, *direction)
    assert all(regions.visit.contains(region.getCentroid()) for region in regions.detectors.values())
    assert set(regions.detectors) == set(range(205))
