"""What is known of a camera: its place in the Butler, its detectors and its filters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, Literal

from ..errors import MetadataError
from ..model.cameras import CAMERAS, read


@dataclass(frozen=True, slots=True)
class Detector:
    """One detector of a camera, where it should be."""

    id: int
    name: str
    """Full name, ``R22_S11``."""
    raft: str | None
    """``R22``; None in a camera without rafts."""
    name_in_raft: str | None
    """None, with `raft`, where the name is all there is."""
    purpose: Literal["SCIENCE", "WAVEFRONT", "GUIDER"]
    bbox: tuple[int, int, int, int]
    """First and last pixel, inclusive: x0, y0, x1, y1."""
    pixel_size: tuple[float, float]
    """Millimetres, x and y."""
    ref_pixel: tuple[float, float]
    """The pixel position that lies at `offset`."""
    offset: tuple[float, float]
    """Position in the focal plane, millimetres."""
    yaw: float
    """Rotation about the optical axis, degrees."""
    serial: str | None = None
    """The observatory's serial number of the sensor, where headers tell the detector by it."""


@dataclass(frozen=True, slots=True)
class PhysicalFilter:
    """A filter, or filters in a row, as the Butler knows it."""

    name: str
    band: str
    """The filter's own name where it stands for no band."""


@dataclass(frozen=True, eq=False)
class Camera:
    """A camera as the Butler and the geometry need it."""

    name: str
    """Canonical instrument name."""
    class_name: str
    """Its class in the Science Pipelines, fully qualified."""
    raw_formatter: str
    """The formatter of its raw images, fully qualified."""
    visit_system: int
    visit_max: int
    exposure_max: int
    detector_max: int
    plate_scale: float
    """Arcseconds for each millimetre at the centre."""
    radial_coefficients: tuple[float, ...]
    """Powers of the distance from the centre in millimetres; the polynomial times `plate_scale` is the field angle."""
    detectors: tuple[Detector, ...]
    physical_filters: tuple[PhysicalFilter, ...]
    flip_x: bool = False
    """Whether the focal plane is seen from the other side, so that the field angle's x has the opposite sign."""
    raw_type: str = "raw"
    """Dataset type of its images."""
    raw_storage_class: str = "Exposure"
    raw_run_template: str = "{instrument}/raw/all"
    has_visits: bool = True
    """Whether its exposures of the sky become visits; else its geometry means nothing."""
    decisive_cards: tuple[str, ...] = ()
    """Cards, beyond those that all cameras have, from which its records come."""

    @property
    def raw_run(self) -> str:
        """Run that holds its images."""
        return self.raw_run_template.format(instrument=self.name)

    @cached_property
    def detector_ids(self) -> dict[str, int]:
        """Detector id by full name."""
        return {detector.name: detector.id for detector in self.detectors}

    def detector_named(self, raft_sensor: str | None) -> Detector | None:
        """Return the detector that keys and lists of expected sensors call ``R22_S11``, None if there is none.

        A camera's only detector is meant by any name: keys call that of LATISS ``R00_S00``.
        """
        if len(self.detectors) == 1:
            return self.detectors[0] if raft_sensor else None
        number = self.detector_ids.get(raft_sensor or "")
        return None if number is None else next(each for each in self.detectors if each.id == number)

    @cached_property
    def by_serial(self) -> dict[str, Detector]:
        """Detector by the sensor's serial number."""
        return {detector.serial: detector for detector in self.detectors if detector.serial}

    @cached_property
    def guiders(self) -> frozenset[int]:
        """Ids of the guide detectors."""
        return frozenset(detector.id for detector in self.detectors if detector.purpose == "GUIDER")


def names() -> tuple[str, ...]:
    """Return the canonical names of all known instruments."""
    return tuple(CAMERAS)


@cache
def load(name: str) -> Camera:
    """Return a camera, read once from its data file.

    Parameters
    ----------
    name
        Canonical instrument name, ``LSSTCam``.

    Raises
    ------
    MetadataError
        If there is no such instrument.
    """
    if name not in CAMERAS:
        raise MetadataError(f"unknown instrument {name!r}", value=name)
    data = read(CAMERAS[name].stem)
    return Camera(
        name=data["name"],
        class_name=data["class_name"],
        raw_formatter=data["raw_formatter"],
        visit_system=data["visit_system"],
        visit_max=data["visit_max"],
        exposure_max=data["exposure_max"],
        detector_max=data["detector_max"],
        plate_scale=data["plate_scale_arcsec_per_mm"],
        radial_coefficients=tuple(data["radial_coefficients"]),
        detectors=tuple(_detector(row, data["sensor_types"]) for row in data["detectors"]),
        physical_filters=tuple(PhysicalFilter(*item) for item in data["physical_filters"].items()),
        flip_x=data.get("flip_x", False),
        decisive_cards=tuple(data.get("decisive_cards", ())),
    )


def _detector(row: Sequence[Any], sensor_types: Mapping[str, Any]) -> Detector:
    number, raft, name_in_raft, purpose, sensor_type, offset, yaw, *serial = row
    sensor = sensor_types[sensor_type]
    return Detector(
        id=number,
        name=f"{raft}_{name_in_raft}" if raft else name_in_raft,
        raft=raft,
        name_in_raft=name_in_raft,
        purpose=purpose,
        bbox=tuple(sensor["bbox"]),
        pixel_size=tuple(sensor["pixel_size_mm"]),
        ref_pixel=tuple(sensor["ref_pixel"]),
        offset=tuple(offset),
        yaw=yaw,
        serial=serial[0] if serial else None,
    )
