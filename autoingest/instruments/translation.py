"""The classes that translate headers: ours, and those that a site's Science Pipelines have."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING

import structlog

from ..cameras import CAMERAS

if TYPE_CHECKING:
    from astro_metadata_translator import MetadataTranslator

    from .header import HeaderTranslator

log = structlog.get_logger(__name__)

_SITE_TRANSLATORS = "lsst.obs.lsst.translators"
"""The Science Pipelines' own translators; where they are installed, they are used."""


@cache
def own() -> Mapping[str, type[HeaderTranslator]]:
    """Return our own classes by instrument; they identify files even where others translate whole headers."""
    import_site(_SITE_TRANSLATORS)
    from .header import HeaderTranslator

    for camera in CAMERAS.values():
        importlib.import_module(f".{camera.stem}", __package__)
    return {name: HeaderTranslator.own[name] for name in CAMERAS}


def chosen(instrument: str) -> type[MetadataTranslator]:
    """Return the class that translates an instrument's headers: the site's own, else ours."""
    from astro_metadata_translator import MetadataTranslator

    return MetadataTranslator.translators[own()[instrument].registered_name]


@cache
def import_site(module: str) -> None:
    """Import a module of the Science Pipelines, if it is installed."""
    try:
        importlib.import_module(module)
    except ImportError as error:
        if not module.startswith(str(error.name)):
            log.warning("the site's translators can't be imported", module=module, missing=error.name)
