"""The detectors that an exposure is expected to have: its list of them in the store, or all of its camera."""

from __future__ import annotations

import codecs
from typing import Final

import orjson
import structlog

from .. import instruments
from ..queue.progress import Purpose
from ..store.listing import Listing

_PURPOSES: Final[dict[str, Purpose]] = {"GUIDER": "guider", "WAVEFRONT": "wavefront"}

log = structlog.get_logger(__name__)


def all_detectors(instrument: str) -> dict[str, Purpose]:
    """Return the full names of a camera's detectors, and their purposes."""
    return {each.name: _PURPOSES.get(each.purpose, "science") for each in instruments.get(instrument).detectors}


async def listed_detectors(listing: Listing, key: str, instrument: str) -> dict[str, Purpose] | None:
    """Return the detectors in an exposure's list, and their purposes, which the camera knows better than the list.

    Parameters
    ----------
    listing
        The bucket.
    key
        The list, ``.../{obs_id}_expectedSensors.json``.
    instrument
        The camera.

    Returns
    -------
    detectors
        By full name; None if there is no list, or it can't be used.

    Raises
    ------
    TransientError, ConfigurationError
        If the store does not answer.
    """
    content = await listing.read(key)
    if content is None:
        return None
    every = all_detectors(instrument)
    camera = instruments.get(instrument)
    try:
        found: dict[str, Purpose] = {}
        for name in expected_sensors(content):
            detector = camera.detector_named(name)
            if detector is None:
                raise ValueError(f"{instrument} has no detector {name!r}")
            found[detector.name] = every[detector.name]
    except ValueError as err:
        log.warning(
            "list of expected sensors is left aside, all are expected", bucket=listing.bucket, key=key, error=str(err)
        )
        return None
    return found


def expected_sensors(content: bytes) -> set[str]:
    """Return the names of detectors in an exposure's list of them.

    Raises
    ------
    ValueError
        If it is not an object or array of strings, or is empty.
    """
    message = orjson.loads(content.removeprefix(codecs.BOM_UTF8))
    sensors = message.get("expectedSensors") if isinstance(message, dict) else None
    if not isinstance(sensors, dict | list) or not sensors:
        raise ValueError("expectedSensors is neither an object nor a list, or is empty")
    if not all(isinstance(value, str) for value in (sensors.values() if isinstance(sensors, dict) else sensors)):
        raise ValueError("expectedSensors holds something other than strings")
    return set(sensors)
