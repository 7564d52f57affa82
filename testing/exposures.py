"""Files of made-up LSSTCam exposures, as the reader of headers hands them over."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from autoingest import instruments
from autoingest.butler.engine import IngestFile

DAY_OBS = 20250714
BUCKET = "embargo@rubin-summit"
FIRST = datetime.fromisoformat("2025-07-15T01:00:00")

CARDS: dict[str, object] = {
    "INSTRUME": "LSSTCam", "TELESCOP": "Simonyi Survey Telescope", "CAMCODE": "MC", "CONTRLLR": "O",
    "TIMESYS": "TAI", "EXPTIME": 30.0, "SHUTTIME": 30.0, "DARKTIME": 30.9, "IMGTYPE": "OBJECT",
    "REASON": "field_survey_science", "OBJECT": "field-1", "PROGRAM": "BLOCK-1", "FILTER": "i_39", "CURINDEX": 1,
    "MAXINDEX": 1, "RADESYS": "ICRS", "TRACKSYS": "RADEC", "ROTCOORD": "sky", "ROTPA": 31.5, "RA": 215.0,
    "RASTART": 215.0, "RAEND": 215.0, "DEC": -12.5, "DECSTART": -12.5, "DECEND": -12.5, "ELSTART": 65.0, "ELEND": 65.0,
    "AZSTART": 120.0, "AZEND": 120.0, "AMSTART": 1.1, "AMEND": 1.1, "HASTART": 0.5, "HAEND": 0.5, "VIGN_MIN": "NO",
    "VIGNETTE": "NO", "PRESSURE": 74000.0, "AIRTEMP": 9.0, "HUMIDITY": 15.0, "FOCUSZ": 0.0, "OBS-LONG": -70.749417,
    "OBS-LAT": -30.244639, "OBS-ELEV": 2663.0,
}  # fmt: skip


def obs_id(seq_num: int) -> str:
    return f"MC_O_{DAY_OBS}_{seq_num:06d}"


def exposure_id(seq_num: int) -> int:
    return DAY_OBS * 100_000 + seq_num


def file(seq_num: int, detector: instruments.Detector, changes: Mapping[str, Any] | None = None) -> IngestFile:
    """Return the file of one detector, with some cards changed."""
    begin = FIRST + timedelta(seconds=40 * seq_num)
    end = begin + timedelta(seconds=30.9)
    header = CARDS | {
        "OBSID": obs_id(seq_num), "DAYOBS": str(DAY_OBS), "SEQNUM": seq_num, "RAFTBAY": detector.raft,
        "CCDSLOT": detector.name_in_raft, "LSST_NUM": f"ITL-{detector.id}", "GROUPID": begin.isoformat() + ".000",
        "DATE": end.isoformat(), "DATE-OBS": begin.isoformat(), "DATE-BEG": begin.isoformat(),
        "DATE-END": end.isoformat(),
    }  # fmt: skip
    suffix = "_guider" if detector.purpose == "GUIDER" else ""
    path = f"{BUCKET}/LSSTCam/{DAY_OBS}/{obs_id(seq_num)}/{obs_id(seq_num)}_{detector.name}{suffix}.fits"
    return IngestFile(
        path=path,
        url="s3://" + path,
        obs_id=obs_id(seq_num),
        is_guider=bool(suffix),
        header=header | dict(changes or {}),
        size=1000 + detector.id,
    )


def files(seq_num: int, detectors: Iterable[int] | None = None, **changes: Any) -> list[IngestFile]:
    """Return the files of an exposure: of all 205 detectors, or of some."""
    camera = instruments.get("LSSTCam")
    wanted = None if detectors is None else set(detectors)
    return [file(seq_num, item, changes) for item in camera.detectors if wanted is None or item.id in wanted]


GUIDERS = sorted(instruments.get("LSSTCam").guiders)
