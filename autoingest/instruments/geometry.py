"""Where a visit's detectors lie on the sky."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
from lsst.sphgeom import ConvexPolygon, UnitVector3d

from .camera import Camera, Detector

PADDING = 250
"""Pixels by which a detector's bounding box grows on every side, as the Science Pipelines do by default."""

Points = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class VisitRegions:
    """Regions of a visit, as `lsst.sphgeom.ConvexPolygon`."""

    visit: ConvexPolygon
    detectors: Mapping[int, ConvexPolygon]
    """By detector number, every detector of the camera."""


def visit_regions(camera: Camera, tracking_ra: float, tracking_dec: float, sky_angle: float) -> VisitRegions:
    """Compute the regions of a visit and of all the camera's detectors.

    The corners' field angles are projected by a TAN projection about the boresight whose axes are turned by
    the sky angle. At angle zero the field angle's x axis points west.

    Parameters
    ----------
    camera
        The camera.
    tracking_ra, tracking_dec
        Boresight, ICRS degrees.
    sky_angle
        Angle of the focal plane to the sky, degrees.
    """
    ra, dec, angle = np.radians((tracking_ra, tracking_dec, sky_angle))
    boresight = np.array((np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)))
    east = np.array((-np.sin(ra), np.cos(ra), 0.0))
    north = np.array((-np.sin(dec) * np.cos(ra), -np.sin(dec) * np.sin(ra), np.cos(dec)))
    x_axis = np.sin(angle) * north - np.cos(angle) * east
    y_axis = np.sin(angle) * east + np.cos(angle) * north
    directions = boresight + _corner_angles(camera) @ np.stack((x_axis, y_axis))
    vectors = [UnitVector3d(*direction) for direction in directions.tolist()]
    return VisitRegions(
        visit=ConvexPolygon(vectors),
        detectors={
            detector.id: ConvexPolygon(vectors[4 * index : 4 * index + 4])
            for index, detector in enumerate(camera.detectors)
        },
    )


def separation(a: ConvexPolygon, b: ConvexPolygon) -> float:
    """Return the largest distance, arcseconds, from a corner of either polygon to the nearest one of the other."""
    corners_a, corners_b = (np.array([tuple(vertex) for vertex in region.getVertices()]) for region in (a, b))
    distances = np.linalg.norm(corners_a[:, None] - corners_b[None], axis=-1)
    return float(np.degrees(max(distances.min(axis=0).max(), distances.min(axis=1).max())) * 3600)


@cache
def _corner_angles(camera: Camera) -> Points:
    """Return the field angles, radians, of every detector's four corners in turn."""
    plane = np.concatenate([_corners(detector) for detector in camera.detectors])
    radius = np.hypot(plane[:, 0], plane[:, 1])
    angle = np.radians(camera.plate_scale / 3600) * np.polynomial.polynomial.polyval(radius, camera.radial_coefficients)
    scale = np.divide(angle, radius, out=np.zeros_like(radius), where=radius > 0)
    angles: Points = plane * scale[:, None]
    if camera.flip_x:
        angles[:, 0] *= -1
    return angles


def _corners(detector: Detector) -> Points:
    """Return the focal plane positions, millimetres, of a detector's padded corners."""
    x0, y0, x1, y1 = np.array(detector.bbox) + (PADDING + 0.5) * np.array((-1, -1, 1, 1))
    pixels = np.array(((x0, y0), (x1, y0), (x1, y1), (x0, y1)))
    yaw = np.radians(detector.yaw)
    rotation = np.array(((np.cos(yaw), -np.sin(yaw)), (np.sin(yaw), np.cos(yaw))))
    corners: Points = (pixels - detector.ref_pixel) * detector.pixel_size @ rotation.T + detector.offset
    return corners
