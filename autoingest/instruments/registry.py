"""All instruments by name: cameras, and instruments of the annex, of which a site's files may add some."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from ..errors import ConfigurationError, MetadataError
from . import camera, cards
from .annex.description import Generator

_FOLDER = "data/annex"
_SUFFIXES = (".yaml", ".yml")
_site: dict[str, Generator] = {}


def describe(paths: Iterable[str | Path]) -> None:
    """Add a site's instruments to those that come with the program, in place of any that were added before.

    A description of an instrument that comes with the program takes the place of ours.

    Parameters
    ----------
    paths
        Files, or folders whose YAML files are read.

    Raises
    ------
    ConfigurationError
        If a file can't be read or its description is wrong; the message names file, instrument, key and reason.
    """
    added: dict[str, Generator] = {}
    for path in map(Path, paths):
        for file in _files(path):
            for name, generator in _load(file.read_text(), str(file)).items():
                if name in added:
                    raise ConfigurationError(f"{file}: {name} is described twice")
                added[name] = generator
    _site.clear()
    _site.update(added)
    get.cache_clear()


def generators() -> dict[str, Generator]:
    """Return all described instruments by name."""
    return {**_shipped(), **_site}


@cache
def get(name: str) -> camera.Camera:
    """Return what the Butler needs of a camera or a described instrument.

    Raises
    ------
    MetadataError
        If there is no such instrument.
    """
    generator = generators().get(name)
    return camera.load(name) if generator is None else generator.camera()


def annex_instrument_of(header: Mapping[str, object], url: str) -> Generator | None:
    """Return the described instrument that a header is of.

    Returns
    -------
    generator
        None if no card of the header is one of any described instrument.

    Raises
    ------
    MetadataError
        If only some cards are, or the header is one of two instruments.
    """
    found = []
    nearest: tuple[int, str, str] = (0, "", "")
    for name, generator in generators().items():
        others = generator.mismatches(header)
        if not others:
            found.append(name)
        nearest = max(nearest, (len(generator.match) - len(others), name, next(iter(others), "")))
    if len(found) > 1:
        raise MetadataError(f"the header is one of {' and of '.join(sorted(found))} ({url})", path=url)
    if found:
        return generators()[found[0]]
    if nearest[0]:
        raise cards.unusable(header, nearest[2], url, f"is of no described instrument (nearest is {nearest[1]})")
    return None


@cache
def _shipped() -> dict[str, Generator]:
    folder = resources.files(__package__).joinpath(_FOLDER)
    files = sorted((file for file in folder.iterdir() if file.name.endswith(_SUFFIXES)), key=lambda file: file.name)
    return {
        name: generator for file in files for name, generator in _load(file.read_text(), file.name).items()
    }  # fmt: skip


def _files(path: Path) -> list[Path]:
    try:
        files = sorted(file for file in path.iterdir() if file.suffix in _SUFFIXES) if path.is_dir() else [path]
        for file in files:
            file.open().close()
    except OSError as err:
        raise ConfigurationError(f"{path}: descriptions of instruments can't be read: {err}") from err
    if not files:
        raise ConfigurationError(f"{path}: no description of an instrument, *.yaml, is in the folder")
    return files


def _load(text: str, source: str) -> dict[str, Generator]:
    """Read the instruments of one file: ``common`` holds what the blocks in ``instruments`` share."""
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as err:
        raise ConfigurationError(f"{source}: not YAML: {err}") from err
    blocks = data.get("instruments") if isinstance(data, dict) else None
    if not isinstance(blocks, dict) or not blocks or data.keys() - {"common", "instruments"}:
        raise ConfigurationError(f"{source}: not a mapping with the keys 'instruments' and, if need be, 'common'")
    common = data.get("common") or {}
    generators = {}
    for name, own in blocks.items():
        if name in camera.names():
            raise ConfigurationError(f"{source}: {name} is a camera and can't be described")
        if not isinstance(common, dict) or not isinstance(own, dict | None):
            raise ConfigurationError(f"{source}: {name}: not a mapping")
        try:
            generators[name] = Generator.model_validate({**_merged(common, own or {}), "name": name})
        except ValidationError as err:
            lines = [f"{source}: {'.'.join(map(str, (name, *item['loc'])))}: {item['msg']}" for item in err.errors()]
            raise ConfigurationError("\n".join(lines)) from err
    return generators


def _merged(common: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """Lay an instrument's block over what is common, and blocks within them likewise."""
    both = {key: {**value, **own[key]} for key, value in common.items()
            if isinstance(value, dict) and isinstance(own.get(key), dict)}  # fmt: skip
    return {**common, **own, **both}
