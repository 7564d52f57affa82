"""What the cameras are called, in headers and in keys: read from the data files of `autoingest.instruments`."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any, Final, NamedTuple

_FOLDER = resources.files("autoingest") / "instruments" / "data"


class Names(NamedTuple):
    """The names of a camera."""

    stem: str
    """Name of the module in `autoingest.instruments.translators`, and of the file in ``instruments/data``."""
    instrume: tuple[str, ...]
    """Values of the card INSTRUME, in lower case."""
    camera_code: str
    """What its obs_ids begin with."""
    folders: tuple[str, ...]
    """First components of keys that mean this camera, beside its canonical name."""


def read(stem: str) -> dict[str, Any]:
    """Return the content of a camera's data file.

    What a file leaves out that names another, by ``like``, is as it is there.
    """
    data: dict[str, Any] = json.loads((_FOLDER / f"{stem}.json").read_bytes())
    return {**read(data["like"]), **data} if "like" in data else data


def _find() -> dict[str, Names]:
    files = (file.name for file in _FOLDER.iterdir())
    found = {}
    for stem in sorted(name.removesuffix(".json") for name in files if name.endswith(".json")):
        data = read(stem)
        found[data["name"]] = Names(stem, tuple(data["instrume"]), data["camera_code"], tuple(data["folders"]))
    return found


CAMERAS: Final = _find()
"""The cameras, by canonical instrument name: each has a data file."""
