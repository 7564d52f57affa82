"""Corrections of single exposures' headers: the observatory's, which come with the program, and a site's own.

The observatory's are in the folder ``data/corrections``, a file for each instrument, made by ``tools/corrections.py``.
A site's are files ``{instrument}-{obs_id}.yaml`` in the folders of the environment variable
``METADATA_CORRECTIONS_PATH``. The first file that is found counts alone, before ours.
"""

from __future__ import annotations

import json
import os
import re
from collections import defaultdict
from collections.abc import Mapping
from datetime import date
from functools import cache, lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

import structlog

ENVIRONMENT = "METADATA_CORRECTIONS_PATH"
_FOLDER = resources.files(__package__) / "data" / "corrections"
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,199}")

log = structlog.get_logger(__name__)

Cards = Mapping[str, object]
_NONE: Cards = {}


def find(instrument: str, obs_id: str) -> Cards:
    """Return the cards of an exposure that are to be replaced; none if its header is not known to be wrong.

    A name that is not a plain one, of letters, digits and ``_.+-``, has no corrections: it never names a file.
    """
    folders = os.environ.get(ENVIRONMENT)
    if folders and is_plain(obs_id) and (found := _of_site(folders, instrument, obs_id)) is not None:
        return found
    return shipped(instrument, obs_id)


def shipped(instrument: str, obs_id: str) -> Cards:
    """Return the observatory's corrections of an exposure; looking them up reads no file but once."""
    return _of_observatory(instrument).get(obs_id, _NONE)


def is_plain(obs_id: str) -> bool:
    """Tell whether an observation's name may be part of a file's name."""
    return _PLAIN_NAME.fullmatch(obs_id) is not None


@lru_cache(maxsize=256)
def _of_site(folders: str, instrument: str, obs_id: str) -> Cards | None:
    """Return a site's corrections of an exposure, read once for all its files; None if there are none.

    A file that holds no YAML mapping is logged and passed over, as the metadata library does.
    """
    import yaml

    for folder in folders.split(os.pathsep):
        file = Path(folder, f"{instrument}-{obs_id}.yaml")
        try:
            content = yaml.safe_load(file.read_bytes())
        except FileNotFoundError:
            continue
        except (OSError, ValueError, yaml.YAMLError) as err:
            log.warning("corrections can't be read", file=str(file), error=str(err))
            continue
        if isinstance(content, dict):
            return {card: str(value) if isinstance(value, date) else value for card, value in content.items()}
        log.warning("corrections are no YAML mapping", file=str(file))
    return None


@cache
def _of_observatory(instrument: str) -> Mapping[str, Cards]:
    file = _FOLDER / f"{instrument}.json"
    return unpacked(json.loads(file.read_bytes())) if file.is_file() else {}


def unpacked(columns: Mapping[str, Any]) -> dict[str, Cards]:
    """Return corrections by observation and card.

    Parameters
    ----------
    columns
        Values by card, camera and day, and number: ``{"ROTPA": {"AT_O_20201030": {"00006": 12.5}}}``.
    """
    corrections: dict[str, dict[str, object]] = defaultdict(dict)
    for card, days in columns.items():
        for day, numbers in days.items():
            for number, value in numbers.items():
                corrections[f"{day}_{number}"][card] = value
    return dict(corrections)
