"""What an object is, from its key alone.

A *path* is ``{bucket}/{key}``, or ``{profile}@{bucket}/{key}`` where the site reads the bucket with a named S3
profile. ``{profile}@{bucket}`` together is called the *bucket* in every Redis key.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from ..errors import UnknownObjectError
from .cameras import CAMERAS

CAMERA_CODES = {name: camera.camera_code for name, camera in CAMERAS.items()}
"""Camera code that begins the obs_id, by canonical instrument name."""

INSTRUMENT_ALIASES = {folder: name for name, camera in CAMERAS.items() for folder in camera.folders}
"""First key components that stand for another instrument name."""

MAX_KEY = 1024
"""Bytes of an object's key at the most, as S3 limits it."""

_OBS_ID = re.compile(r"(?P<camera>[A-Z]{2})_(?P<controller>[A-Z])_(?P<day_obs>[0-9]{8})_(?P<seq_num>[0-9]{1,6})")
RAFT_SENSOR = re.compile(r"(?P<raft>R[0-9]{2})_(?P<sensor>S[0-9GW][0-9])")
"""Raft and sensor, ``R22_S11``."""

_RAFT_SENSOR_IN_FILENAME = re.compile(rf"_{RAFT_SENSOR.pattern}(?=[._])")
_DIGITS8 = re.compile(r"[0-9]{8}")


def observing_day(moment: datetime) -> int:
    """Return the observing day, ``YYYYMMDD``: it changes at 12:00 UTC."""
    return int((moment.astimezone(UTC) - timedelta(hours=12)).strftime("%Y%m%d"))


@dataclass(frozen=True, slots=True)
class ExposureObject:
    """A file of an exposure: ``{bucket}/{instrument}/{day_obs}/{obs_id}/{filename}``."""

    path: str
    bucket: str
    """Bucket with its profile, ``embargo@rubin-summit``."""
    instrument: str
    """Canonical instrument name."""
    day_obs: str
    """Observing day of the folder, ``YYYYMMDD``."""
    obs_id: str
    seq_num: int
    filename: str
    raft_sensor: str | None
    """``R22_S11``, if the file name says so."""

    @property
    def url(self) -> str:
        """Resource path of the object, ``s3://embargo@rubin-summit/...``."""
        return "s3://" + self.path

    @property
    def counted_as(self) -> tuple[str, str]:
        """Instrument and day of the statistics: those of the key, where LSSTComCam may be called ``ComCam``."""
        return self.path.split("/", 2)[1], self.day_obs

    @property
    def is_guider(self) -> bool:
        """Whether the file holds guider stamps."""
        return self.filename.endswith(("_guider.fits", "_guider.fits.fz"))

    @property
    def sidecar(self) -> str:
        """Path of the JSON sidecar that repeats this file's header."""
        stem, _, _ = self.filename.partition(".")
        return f"{self.path[: -len(self.filename)]}{stem}.json"


@dataclass(frozen=True, slots=True)
class LfaObject:
    """An object of the Large File Annex."""

    path: str
    bucket: str
    instrument: str
    """``csc/generator``, or the single component."""
    obs_day: str
    """Year, month and day of the key, joined."""
    filename: str

    @property
    def url(self) -> str:
        """Resource path of the object."""
        return "s3://" + self.path

    @property
    def counted_as(self) -> tuple[str, str]:
        """Instrument and day of the statistics."""
        return self.instrument, self.obs_day


def parse(path: str) -> ExposureObject | LfaObject:
    """Tell what an object is from its path.

    Parameters
    ----------
    path
        ``{bucket}/{key}`` or ``{profile}@{bucket}/{key}``.

    Returns
    -------
    ExposureObject or LfaObject

    Raises
    ------
    UnknownObjectError
        If the path fits no known shape; the message says why.
    """
    bucket, *parts = path.split("/")
    try:
        length = len(path.encode()) - len(bucket.encode()) - 1
    except UnicodeEncodeError:
        raise UnknownObjectError("the path is not UTF-8", path=path) from None
    if length > MAX_KEY:
        raise UnknownObjectError(f"key is longer than {MAX_KEY} bytes", path=path)
    if "rubinobs-lfa-" in bucket:
        return _parse_lfa(path, bucket, parts)
    if len(parts) != 4:
        raise UnknownObjectError(
            f"key has {len(parts)} components, not the 4 of instrument/day_obs/obs_id/file", path=path
        )
    folder, day_obs, obs_id, filename = parts
    instrument = INSTRUMENT_ALIASES.get(folder, folder)
    code = CAMERA_CODES.get(instrument)
    if code is None:
        raise UnknownObjectError(f"unknown instrument {folder!r}", path=path)
    if not _DIGITS8.fullmatch(day_obs):
        raise UnknownObjectError(f"day_obs {day_obs!r} is not YYYYMMDD", path=path)
    match = _OBS_ID.fullmatch(obs_id)
    if match is None or match["camera"] != code:
        raise UnknownObjectError(f"obs_id {obs_id!r} is not one of {instrument}", path=path)
    if not filename:
        raise UnknownObjectError("key ends in a slash", path=path)
    raft_sensor = _RAFT_SENSOR_IN_FILENAME.search(filename)
    return ExposureObject(
        path=path,
        bucket=bucket,
        instrument=instrument,
        day_obs=day_obs,
        obs_id=obs_id,
        seq_num=int(match["seq_num"]),
        filename=filename,
        raft_sensor=f"{raft_sensor['raft']}_{raft_sensor['sensor']}" if raft_sensor else None,
    )


class ObsId(NamedTuple):
    """Parts of an obs_id, ``MC_O_20251231_000010``."""

    camera: str
    controller: str
    day_obs: str
    """Observing day, ``YYYYMMDD``."""
    seq_num: int


def parse_obs_id(text: str) -> ObsId | None:
    """Return the parts of an obs_id, None if the text does not have the form of one."""
    match = _OBS_ID.fullmatch(text)
    return match and ObsId(match["camera"], match["controller"], match["day_obs"], int(match["seq_num"]))


def bare_etag(text: str) -> str | None:
    """Return an eTag without the quotes and the mark of weakness that some senders and stores write around it."""
    return text.removeprefix("W/").strip('"') or None


def _parse_lfa(path: str, bucket: str, parts: list[str]) -> LfaObject:
    if len(parts) == 5:
        instrument, date = parts[0], parts[1:4]
    elif len(parts) in (6, 7):
        instrument, date = "/".join(parts[:2]), parts[2:5]
    else:
        raise UnknownObjectError(f"LFA key has {len(parts)} components, not 5, 6 or 7", path=path)
    obs_day = "".join(date)
    if not _DIGITS8.fullmatch(obs_day):
        raise UnknownObjectError(f"LFA key has no year/month/day: {'/'.join(date)!r}", path=path)
    if not parts[-1]:
        raise UnknownObjectError("key ends in a slash", path=path)
    return LfaObject(path=path, bucket=bucket, instrument=instrument, obs_day=obs_day, filename=parts[-1])
