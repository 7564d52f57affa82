"""Header translation of the commissioning camera, LSSTComCam."""

from __future__ import annotations

import math
from collections.abc import Mapping, MutableMapping
from typing import Any

from .. import cards
from ..dates import tai, utc
from .simonyi import TELESCOPES, SimonyiTranslator

_LABORATORY = ("lsst_camera", "CC")
"""INSTRUME, in lower case, and TELCODE in headers of 2019."""

_LEFT_TUCSON = utc("2020-03-13")
"""Until then a blank filter was filter r, after that there was none."""


class ComCamTranslator(SimonyiTranslator, instrument="LSSTComCam"):
    """Translates the headers of LSSTComCam."""

    on_telescope_after = utc("2024-08-24")
    in_chile_since = tai("2020-03-01")

    @classmethod
    def accepts(cls, header: Mapping[str, object]) -> bool:
        """Tell whether a header is this camera's; the laboratory's first images name another camera."""
        if "TELESCOP" not in header:
            return False
        if super().accepts(header):
            return header["TELESCOP"] in TELESCOPES
        return (str(header.get("INSTRUME")).lower(), header.get("TELCODE")) == _LABORATORY

    @classmethod
    def repair(cls, header: MutableMapping[str, Any]) -> None:
        """Repair filter, rotation and sensor where they are missing."""
        if header.get("FILTER") is None:
            header["FILTER"] = "unknown"
        elif header["FILTER"] in ("", "r"):
            begin = cards.moment(header, *cards.BEGIN)
            if begin is None:
                raise cards.unusable(header, cards.first(header, *cards.BEGIN) or "MJD-BEG", None, "is not a time")
            header["FILTER"] = "empty" if begin > _LEFT_TUCSON else "r_03"
        if header.get("INSTRUME") == "LSST_CAMERA":
            header["INSTRUME"] = "ComCam"
        if "LSST_NUM" not in header:
            slot = header.get("CCDSLOT")
            serial = next((item.serial for item in cls.camera.detectors if item.name_in_raft == slot), None)
            if serial is not None:
                header["LSST_NUM"] = serial
        try:
            is_number = header.get("ROTPA") is not None and not math.isnan(float(header["ROTPA"]))
        except (TypeError, ValueError):
            is_number = False
        if not is_number:
            header["ROTPA"] = 0.0
