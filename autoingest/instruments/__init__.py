"""Cameras: what is known of them, and what their headers say.

Importing this package imports neither the Butler nor astropy. `autoingest.instruments.geometry` has the regions.
"""

from __future__ import annotations

from .camera import Camera, Detector, PhysicalFilter, names
from .exposure_records import ExposureRecord, exposure_record, register_translators
from .identification import identify, identify_guider
from .identity import GuiderIdentity, Identity
from .registry import describe, generators, get

__all__ = [
    "Camera",
    "Detector",
    "ExposureRecord",
    "GuiderIdentity",
    "Identity",
    "PhysicalFilter",
    "describe",
    "exposure_record",
    "generators",
    "get",
    "identify",
    "identify_guider",
    "names",
    "register_translators",
]
