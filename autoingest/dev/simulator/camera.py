"""A simulated LSSTCam: exposures of real size in number of files and small in pixels.

Headers have the cards of real ones and are consistent: times, pointing, sidereal time and names. Pixels are an
arbitrary pattern.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache, cached_property
from importlib import resources

import orjson

from ... import instruments
from .fitsfile import format_cards, header_unit, image_extension
from .pointing import TAI_MINUS_UTC, iso, mjd, pointing

IMAGE_TYPES = ("OBJECT", "ACQ", "ENGTEST", "FLAT", "DARK", "BIAS")
"""Supported values of IMGTYPE."""

_PIXELS = 32
_STAMPS = 2

_SENSORS = {"ITL": ("ITL", "3800C"), "E2V": ("E2V", "CCD250"), "WAVEFRONT": ("ITL", "4400")}


@dataclass(frozen=True, slots=True)
class Sensor:
    """One detector, as described in its headers."""

    name: str
    """``R22_S11``."""
    purpose: str
    """``SCIENCE``, ``WAVEFRONT`` or ``GUIDER``."""
    cards: dict[str, object]
    """Values specific to this detector."""


@cache
def sensors() -> tuple[Sensor, ...]:
    """Return LSSTCam's 205 detectors in order of their ids."""
    return tuple(
        Sensor(detector.name, detector.purpose, _sensor_cards(detector))
        for detector in sorted(instruments.get("LSSTCam").detectors, key=lambda detector: detector.id)
    )


def _sensor_cards(detector: instruments.Detector) -> dict[str, object]:
    columns, rows = detector.bbox[2] + 1, detector.bbox[3] + 1
    kind = "WAVEFRONT" if detector.purpose == "WAVEFRONT" else "E2V" if columns == 4096 else "ITL"
    maker, model = _SENSORS[kind]
    return {
        "DETSIZE": f"[1:{columns},1:{rows}]",
        "CCD_MANU": maker,
        "CCD_TYPE": model,
        "CCDSLOT": detector.name_in_raft,
        "RAFTBAY": detector.raft,
        "LSST_NUM": f"{maker}-{model}-{detector.id:03d}",
    }


@dataclass(frozen=True)
class Exposure:
    """One exposure of the simulated camera.

    Parameters
    ----------
    day_obs
        Observing day, ``YYYYMMDD``.
    seq_num
        Sequence number of the day.
    begin
        When the shutter opened, UTC.
    image_type
        One of `IMAGE_TYPES`.
    """

    day_obs: int
    seq_num: int
    begin: datetime
    image_type: str = "OBJECT"

    @property
    def obs_id(self) -> str:
        """Name of the exposure, ``MC_O_20251231_000010``."""
        return f"MC_O_{self.day_obs}_{self.seq_num:06d}"

    @property
    def exposure_id(self) -> int:
        """Number of the exposure in the Butler (controller O)."""
        return self.day_obs * 100000 + self.seq_num

    @property
    def folder(self) -> str:
        """Prefix of all keys of the exposure, ending in a slash."""
        return f"LSSTCam/{self.day_obs}/{self.obs_id}/"

    def key(self, sensor: Sensor) -> str:
        """Return the key of a detector's image."""
        return f"{self.folder}{self._stem(sensor)}.fits"

    def sidecar_key(self, sensor: Sensor) -> str:
        """Return the key of a detector's sidecar."""
        return f"{self.folder}{self._stem(sensor)}.json"

    @property
    def expected_sensors_key(self) -> str:
        """Key of the list of detectors."""
        return f"{self.folder}{self.obs_id}_expectedSensors.json"

    def expected_sensors(self) -> bytes:
        """Return the list of detectors that the exposure has."""
        return orjson.dumps(
            {
                "fileName": f"{self.obs_id}_expectedSensors.json",
                "fileType": "expectedSensors",
                "obsId": self.obs_id,
                "version": 1.0,
                "expectedSensors": {sensor.name: sensor.purpose for sensor in sensors()},
            }
        )

    def header(self, sensor: Sensor) -> dict[str, object]:
        """Return the primary header of a detector's image; undefined values are `None`."""
        cards = {**self._cards, **sensor.cards, "FILENAME": f"{self._stem(sensor)}.fits"}
        if sensor.purpose == "GUIDER":
            cards |= {
                "DAQPART": "guider", "ROICOL": 254, "ROIROW": 975, "ROICOLS": _PIXELS, "ROIROWS": _PIXELS,
                "ROISEG": "Segment03", "ROIMILLI": 200, "N_STAMPS": _STAMPS, "HAS_MASK": False,
                "STAMPCLS": "lsst.meas.algorithms.Stamps",
            }  # fmt: skip
            del cards["GROUPID"]  # real guiders have none
        return cards

    def sidecar(self, sensor: Sensor) -> bytes:
        """Return the JSON sidecar of a detector's image."""
        names = ((f"HIERARCH.{name.replace(' ', '.')}" if " " in name else name) for name in self.header(sensor))
        return orjson.dumps(
            {"__CONTENT__": "metadata", **dict(zip(names, self.header(sensor).values(), strict=True))},
            option=orjson.OPT_INDENT_2,
        )

    def image(self, sensor: Sensor) -> bytes:
        """Return the FITS file of a detector."""
        names = self.header(sensor)
        shared = {name: card for name, card in self._formatted.items() if name in names}
        primary = header_unit({**shared, **format_cards(self._own(sensor))})
        return primary + (_stamps() if sensor.purpose == "GUIDER" else _segment())

    def _own(self, sensor: Sensor) -> dict[str, object]:
        common = self._cards
        return {name: value for name, value in self.header(sensor).items() if common.get(name, self) != value}

    def _stem(self, sensor: Sensor) -> str:
        return f"{self.obs_id}_{sensor.name}{'_guider' if sensor.purpose == 'GUIDER' else ''}"

    @cached_property
    def _formatted(self) -> dict[str, bytes]:
        return format_cards(self._cards)

    @cached_property
    def _cards(self) -> dict[str, object]:
        """Cards that all detectors share."""
        dark = self.image_type in ("FLAT", "DARK", "BIAS")
        exposure_time = 0.0 if self.image_type == "BIAS" else 30.0
        begin = self.begin.astimezone(UTC) + TAI_MINUS_UTC
        end = begin + timedelta(seconds=exposure_time + 0.95)
        times = {"BEG": begin, "OBS": begin, "TRG": end - timedelta(milliseconds=9), "END": end}
        return {
            **_template(),
            **{f"DATE-{name}": iso(time) for name, time in times.items()},
            **{f"MJD-{name}": mjd(time) for name, time in times.items()},
            "DATE": iso(end),
            "MJD": mjd(end),
            "GROUPID": iso(begin - timedelta(seconds=3.43)),
            "OBSID": self.obs_id,
            "DAYOBS": str(self.day_obs),
            "SEQNUM": self.seq_num,
            "IMAGETAG": f"{self.exposure_id:x}",
            "IMGTYPE": self.image_type,
            "TESTTYPE": self.image_type,
            "EXPTIME": exposure_time,
            "DARKTIME": round(exposure_time + 0.9487, 4),
            "SHUTTIME": 0.0 if dark else exposure_time + 0.001,
            "VIGNETTE": "FULLY" if dark else "NO",
            "VIGN_MIN": "FULLY" if dark else "NO",
            **pointing(self.seq_num, begin, end),
        }


@cache
def _template() -> dict[str, object]:
    data = resources.files(__package__).joinpath("lsstcam_header.json").read_text()
    cards: dict[str, object] = json.loads(data)
    return cards


@cache
def _segment() -> bytes:
    return image_extension(_PIXELS, {"EXTNAME": "Segment10"})


@cache
def _stamps() -> bytes:
    return b"".join(
        image_extension(_PIXELS, {"EXTVER": number, "EXTNAME": "IMAGE"}) for number in range(1, _STAMPS + 1)
    )
