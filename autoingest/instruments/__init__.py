"""Cameras: what is known of them, and what their headers say.

Importing this package imports neither the Butler nor astropy. `autoingest.instruments.geometry` has the regions.
"""

from __future__ import annotations

from .base import Camera, Detector, PhysicalFilter, names
from .exposure_records import ExposureRecord, exposure_record, register_translators
from .identity import GuiderIdentity, Identity
from .recognition import identify, identify_guider
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
