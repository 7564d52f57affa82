"""The rules of identity, written down once more: for cameras whose repairs do not change what a file is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from autoingest import instruments

Header = Mapping[str, Any]

DECISIVE = [
    "CALIB_ID", "CCDSLOT", "CONTRLLR", "CURINDEX", "DATE", "DATE-BEG", "DATE-END", "DATE-OBS", "DATE-TRG", "DAYOBS",
    "DECSTART", "ELSTART", "EXPTIME", "FILENAME", "FILTER", "GROUPID", "IMGNAME", "IMGTYPE", "INSTRUME", "LSST_NUM",
    "MAXINDEX", "MJD", "MJD-BEG", "MJD-OBS", "OBJECT", "OBSGEO-X", "OBSID", "RADESYS", "RAFTBAY", "RAFTNAME",
    "RASTART", "ROTPA", "SEQNUM", "SHUTTIME", "TELCODE", "TELESCOP", "TIMESYS", "TRACKSYS", "TSTAND", "VIGN_MIN",
]  # fmt: skip
"""Cards on which records depend."""

WHOLLY_KNOWN = ("LSSTCam", "LSSTComCam", "LSSTComCamSim")
"""Cameras of which `identity` knows everything."""

SIMONYI = ("Simonyi Survey Telescope", "LSST")


def camera_of(header: Header) -> str | None:
    """Return whose header it is; None for the annex's and nobody's."""
    name, telescope = header.get("INSTRUME"), header.get("TELESCOP", "missing")
    lowered = name.lower() if isinstance(name, str) else None
    if lowered == "lsstcam":
        return "LSSTCam"
    if header.get("TSTAND", "missing") == "TS8":
        return "LSST-TS8"
    if name in ("LATISS", "LSST_ATISS") or header.get("DETNAME") == "RXX_S00":
        return "LATISS"
    if lowered == "comcam" and telescope in SIMONYI:
        return "LSSTComCam"
    if lowered == "lsst_camera" and header.get("TELCODE") == "CC" and telescope != "missing":
        return "LSSTComCam"
    if lowered == "comcamsim" and telescope in SIMONYI:
        return "LSSTComCamSim"
    return None


def identity(header: Header) -> dict[str, Any] | None:
    """Return what a file of `WHOLLY_KNOWN` is; None if it is refused, or another's."""
    camera = camera_of(header)
    if camera not in WHOLLY_KNOWN or "CALIB_ID" in header:
        return None
    detectors = {detector.name: detector.id for detector in instruments.get(camera).detectors}
    detector = detectors.get(f"{header.get('RAFTBAY')}_{header.get('CCDSLOT')}")
    day, number, group, obs_id = (header.get(card) for card in ("DAYOBS", "SEQNUM", "GROUPID", "OBSID"))
    if detector is None or obs_id is None or obs_id == []:
        return None
    # Digits, or a whole number however it is written; a text has eight.
    texts = [value if isinstance(value, str) else f"{value:.0f}" if _is_whole(value) else "" for value in (day, number)]
    if not all(text.isdigit() for text in texts) or (isinstance(day, str) and len(day) != 8) or int(texts[1]) > 99999:
        return None
    if isinstance(group, float | int):
        return None
    controller = header.get("CONTRLLR")
    position = 0 if controller in (None, "", [], 0) else "OCHPQS".find(str(controller))
    if position < 0 or len(str(controller)) > 4:
        return None
    until = {1: 20231004, 3: 20250417, 4: 20250417, 5: 20250417}
    if int(texts[0]) > until.get(position, 99999999):
        position = 0
    exposure = (int(texts[0]) + position * 10_000_000) * 100_000 + int(texts[1])
    return {
        "instrument": camera,
        "exposure_id": exposure,
        "obs_id": str(obs_id),
        "detector": detector,
        "group": str(exposure) if group in (None, []) else group,
        "day_obs": int(texts[0]),
    }


def _is_whole(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e18 and value == int(value)
