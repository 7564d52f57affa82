"""Header translation of the commissioning camera, LSSTComCam."""

from __future__ import annotations

from collections.abc import Mapping

from . import cards
from .simonyi import SimonyiTranslator

_LABORATORY = ("lsst_camera", "CC")
"""INSTRUME, in lower case, and TELCODE in headers of 2019."""

_LEFT_TUCSON = 58921.0
"""MJD (TAI) of 2020-03-13: until then a blank filter was filter r, from then on there was none."""


class ComCamTranslator(SimonyiTranslator, instrument="LSSTComCam"):
    """Translates the headers of LSSTComCam."""

    on_telescope = 60546.0  # 2024-08-24
    in_chile = 58909.0  # 2020-03-01

    @classmethod
    def recognises(cls, header: Mapping[str, object], url: str | None) -> bool:
        """Tell whether a header is of the laboratory's first images, which name another camera."""
        return (str(cards.defined(header, "INSTRUME")).lower(), cards.defined(header, "TELCODE")) == _LABORATORY

    @classmethod
    def repairs(cls, header: Mapping[str, object]) -> dict[str, object]:
        """Return the cards that stand in for filter, rotation and sensor where they are missing."""
        repairs: dict[str, object] = {}
        name = header.get("FILTER")
        if name is None:
            repairs["FILTER"] = "unknown"
        elif isinstance(name, str) and name.strip() in ("", "r"):
            begin = cards.moment(header, *cards.BEGIN)
            repairs["FILTER"] = "empty" if begin is not None and begin > _LEFT_TUCSON else "r_03"
        if not isinstance(header.get("ROTPA"), (int, float)):
            repairs["ROTPA"] = 0.0
        if cards.defined(header, "LSST_NUM") is None:
            slot = cards.defined(header, "CCDSLOT")
            serial = next((item.serial for item in cls.camera.detectors if item.name_in_raft == slot), None)
            if serial is not None:
                repairs["LSST_NUM"] = serial
        return repairs
