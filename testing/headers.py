"""Headers written by hand, with the cards that LSSTCam's images have."""

from __future__ import annotations

from datetime import datetime
from typing import Any

URL = "s3://embargo@rubin-summit/LSSTCam/20250521/MC_O_20250521_000138/MC_O_20250521_000138_R22_S11.fits"

TRACKER: dict[str, Any] = {
    "INSTRUME": "StarTracker", "OBSID": "GC101_O_20221208_000211", "CONTRLLR": "O", "DAYOBS": "20221208", "SEQNUM": 211,
    "GROUPID": "2022-12-09T05:20:47.840", "IMGTYPE": "OBJECT", "REASON": "A", "PROGRAM": "", "EXPTIME": 5.0,
    "DATE": "2022-12-09T05:20:56.023",
    "TIMESYS": "TAI", "MJD-BEG": 59922.22278765589, "DATE-END": "2022-12-09T05:20:55.023", "RASTART": 82.8,
    "DECSTART": -60.5, "RADESYS": "ICRS", "TRACKSYS": "RADEC", "ROTPA": 0.0, "ELSTART": 59.5, "AZSTART": 180.0,
    "TSTAND": "", "CURINDEX": 0, "MAXINDEX": 1,
}  # fmt: skip
"""The header of an image of a star tracker in the Large File Annex."""


def science(**changes: Any) -> dict[str, Any]:
    """Return the header of an exposure of the sky; a hyphen in a card's name is written as an underscore."""
    header: dict[str, Any] = {
        "INSTRUME": "lsstCam",
        "TELESCOP": "Simonyi Survey Telescope",
        "OBSID": "MC_O_20250521_000138",
        "CONTRLLR": "O",
        "DAYOBS": "20250521",
        "SEQNUM": 138,
        "CURINDEX": 1,
        "MAXINDEX": 1,
        "GROUPID": "2025-05-22T05:18:32.763",
        "RAFTBAY": "R22",
        "CCDSLOT": "S11",
        "LSST_NUM": "E2V-CCD250-382",
        "IMGTYPE": "OBJECT",
        "TESTTYPE": "OBJECT",
        "REASON": "field_survey_science",
        "PROGRAM": "BLOCK-365",
        "OBJECT": "Rubin_SV_225_-40",
        "FILTER": "g_6",
        "EXPTIME": 30.0,
        "SHUTTIME": 30.001,
        "DARKTIME": 30.9415,
        "TIMESYS": "TAI",
        "DATE": "2025-05-22T05:17:58.808",
        "DATE-OBS": "2025-05-22T05:17:26.867",
        "MJD-BEG": 60817.22044984951,
        "DATE-BEG": "2025-05-22T05:17:26.867",
        "DATE-END": "2025-05-22T05:17:57.808",
        "RASTART": 225.85827927603876,
        "DECSTART": -38.6275010948895,
        "RADESYS": "ICRS",
        "TRACKSYS": "RADEC",
        "ROTPA": 357.9606420320256,
        "ROTCOORD": "sky",
        "ELSTART": 69.2435684949254,
        "AZSTART": 239.68824087604298,
        "VIGN_MIN": "NO",
    }
    return header | {card.replace("_", "-") if card.startswith(("MJD", "DATE")) else card: value
                     for card, value in changes.items()}  # fmt: skip


def numbered(day_obs: str, seq_num: int, controller: str = "O") -> dict[str, Any]:
    """Return the cards that number an exposure."""
    obs_id = f"MC_{controller}_{day_obs}_{seq_num:06}"
    return {"DAYOBS": day_obs, "SEQNUM": seq_num, "CONTRLLR": controller, "OBSID": obs_id}


def bench(**changes: Any) -> dict[str, Any]:
    """Return the header of a bias taken in the laboratory in 2019."""
    header: dict[str, Any] = {
        "INSTRUME": "lsstCam",
        "TELESCOP": "LSST",
        "OBSID": "MC_C_20190319_000001",
        "CONTRLLR": "C",
        "DAYOBS": "20190319",
        "SEQNUM": 1,
        "RAFTBAY": "R10",
        "CCDSLOT": "S02",
        "LSST_NUM": "ITL-3800C-041",
        "IMGTYPE": "BIAS",
        "TESTTYPE": "BIAS",
        "TSTAND": "BOT",
        "EXPTIME": 0.0,
        "DATE": "2019-03-19T15:50:30.000",
        "MJD-OBS": 58561.66004797444,
    }
    return header | changes


def latiss(**changes: Any) -> dict[str, Any]:
    """Return the header of a science exposure of LATISS."""
    header: dict[str, Any] = {
        "INSTRUME": "LATISS",
        "OBSID": "AT_O_20230705_000379",
        "CONTRLLR": "O",
        "DAYOBS": "20230705",
        "SEQNUM": 379,
        "CURINDEX": 1,
        "MAXINDEX": 1,
        "GROUPID": "2023-07-06T04:53:15.609",
        "RAFTBAY": "R00",
        "CCDSLOT": "S00",
        "LSST_NUM": "ITL-3800C-068",
        "IMGTYPE": "OBJECT",
        "REASON": "SITCOM-857",
        "PROGRAM": "BLOCK-59",
        "OBJECT": "HD165763",
        "FILTER": "empty_1",
        "GRATING": "holo4_003",
        "EXPTIME": 30.0,
        "SHUTTIME": 30.0,
        "DARKTIME": 30.2418,
        "TIMESYS": "TAI",
        "DATE": "2023-07-06T04:56:32.155",
        "DATE-OBS": "2023-07-06T04:56:01.913",
        "MJD": 60131.20592771983,
        "MJD-BEG": 60131.20557769667,
        "DATE-END": "2023-07-06T04:56:32.155",
        "RA": 272.1186,
        "DEC": -21.2531,
        "RASTART": 272.081,
        "DECSTART": -21.2919,
        "RAEND": 272.0811,
        "DECEND": -21.2918,
        "RADESYS": "ICRS",
        "TRACKSYS": None,
        "ROTPA": 218.0,
        "ROTCOORD": "sky",
        "ELSTART": 74.1,
        "AZSTART": -59.1,
        "OBSGEO-X": 1819093.52,
        "OBSGEO-Y": -5208408.1,
        "OBSGEO-Z": 3195186.45,
    }
    return header | changes


def latiss_2018(**changes: Any) -> dict[str, Any]:
    """Return one of the first headers of LATISS, taken in the laboratory."""
    header: dict[str, Any] = {
        "INSTRUME": "LSST_ATISS",
        "OBSID": "AT_C_20180920_000065",
        "IMGNAME": "AT_C_20180920_000065",
        "CONTRLLR": "C",
        "DAYOBS": "20180920",
        "SEQNUM": 65,
        "GROUPID": "dark_0001_0002",
        "IMGTYPE": None,
        "LSST_NUM": "ITL-3800C-098",
        "EXPTIME": 27.0,
        "DATE": "2018-09-21T06:12:22.390",
        "DATE-OBS": "1970-01-01T00:00:08.000",
        "MJD": 58382.25859247707,
        "MJD-OBS": 40587.0,
        "RA": 1.0,
        "DEC": -0.5,
        "ROTPA": None,
    }
    return header | changes


def latiss_at(date: str, **changes: Any) -> dict[str, Any]:
    """Return the header of a science exposure of LATISS that began at a time in UTC."""
    mjd = ((datetime.fromisoformat(date) - datetime(1858, 11, 17)).total_seconds() + 37) / 86400
    day = f"{datetime.fromisoformat(date):%Y%m%d}"
    named = {"OBSID": f"AT_O_{day}_000379", "DAYOBS": day, "MJD-BEG": mjd, "MJD": mjd, "DATE-OBS": "x"}
    return latiss(**named, **changes)


def comcam(**changes: Any) -> dict[str, Any]:
    """Return the header of a science exposure of LSSTComCam."""
    numbers = {"OBSID": "CC_O_20241108_000266", "DAYOBS": "20241108", "SEQNUM": 266}
    times = {"MJD-BEG": 60623.27408938669, "DATE-BEG": None, "DATE-END": "2024-11-09T06:35:11.754"}
    sensor = {"RAFTBAY": "R22", "CCDSLOT": "S00", "LSST_NUM": "ITL-3800C-229"}
    return science() | numbers | times | sensor | {"INSTRUME": "ComCam", "FILTER": "g_01"} | changes


def comcamsim(**changes: Any) -> dict[str, Any]:
    """Return the header of a science exposure of LSSTComCamSim."""
    numbers = {"OBSID": "CC_S_20260321_000093", "DAYOBS": "20260321", "SEQNUM": 93, "CONTRLLR": "S"}
    pointing = {"RA": 124.8, "DEC": -14.9, "AMSTART": 1.0522574903781972}
    unknown = dict.fromkeys(("RASTART", "DECSTART", "RADESYS", "TRACKSYS", "AZSTART", "ELSTART", "VIGN_MIN"))
    return comcam() | numbers | pointing | unknown | {"INSTRUME": "ComCamSim", "FILTER": "r_03"} | changes


def ts8(**changes: Any) -> dict[str, Any]:
    """Return the header of a flat of LSST-TS8 in 2023, when DATE-OBS was the time of the trigger."""
    header: dict[str, Any] = {
        "INSTRUME": "LSST-TS8",
        "TSTAND": "TS8",
        "OBSID": "TS_C_20230512_000021",
        "FILENAME": "TS_C_20230512_000021_R22_S02.fits",
        "CONTRLLR": "C",
        "DAYOBS": "20230512",
        "SEQNUM": 21,
        "RAFTBAY": "R22",
        "CCDSLOT": "S02",
        "RAFTNAME": "LCA-11021_RTM-004",
        "LSST_NUM": "ITL-3800C-380",
        "IMGTYPE": "FLAT",
        "TESTTYPE": "SFLAT_HI",
        "RUNNUM": "7187D",
        "FILTER": None,
        "FILTER1": "HIGH",
        "EXPTIME": 15.0,
        "DARKTIME": 15.165,
        "DATE-OBS": "2023-05-12T19:17:59.150",
        "DATE-TRG": "2023-05-12T19:17:59.150",
        "MJD-OBS": 60076.80415682867,
    }
    return header | changes


def ts8_2018(**changes: Any) -> dict[str, Any]:
    """Return the header of a bias of LSST-TS8 in 2018, which names neither instrument nor observation."""
    header: dict[str, Any] = {
        "TSTAND": "TS8",
        "FILENAME": "E2V-CCD250-179_lambda_bias_024_6006D_20180724104156.fits",
        "RAFTNAME": "LCA-11021_RTM-010-Dev",
        "LSST_NUM": "E2V-CCD250-179",
        "IMGTYPE": "BIAS",
        "TESTTYPE": "LAMBDA",
        "RUNNUM": "6006D",
        "SEQNUM": 24,
        "FILTPOS": 6,
        "EXPTIME": 0.0,
        "DATE-OBS": "2018-07-24T10:41:56.807",
        "MJD-OBS": 58323.44579637749,
    }
    return header | changes
