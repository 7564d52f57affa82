"""The classes that translate headers: ours, and those that a site's Science Pipelines have."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from functools import cache, lru_cache
from typing import TYPE_CHECKING

import structlog

from ..model.cameras import CAMERAS
from . import cards, corrections, registry

if TYPE_CHECKING:
    from astro_metadata_translator import MetadataTranslator

    from .translators.base import HeaderTranslator

log = structlog.get_logger(__name__)

_SITE_TRANSLATORS = "lsst.obs.lsst.translators"
"""The Science Pipelines' own translators; where they are installed, they are used."""


@cache
def own() -> Mapping[str, type[HeaderTranslator]]:
    """Return our own classes by instrument, in the order in which they are asked whether a header is theirs.

    They identify files even where others translate whole headers.
    """
    import_site(_SITE_TRANSLATORS)
    from .translators.base import in_order

    for camera in CAMERAS.values():
        importlib.import_module(f".translators.{camera.stem}", __package__)
    return {rules.camera.name: rules for rules in in_order()}


def rules_of(header: Mapping[str, object]) -> type[HeaderTranslator] | None:
    """Return our own class of the camera that a header is of; None if it is no camera's."""
    return next((rules for rules in own().values() if rules.accepts(header)), None)


def translator(instrument: str) -> type[MetadataTranslator]:
    """Return the class that translates an instrument's headers: the site's own, else ours."""
    if (generator := registry.generators().get(instrument)) is not None:
        from .annex.translator import translator_of

        if generator.translator_module is not None:
            import_site(generator.translator_module)
        return translator_of(generator)
    from astro_metadata_translator import MetadataTranslator

    return MetadataTranslator.translators[own()[instrument].registered_name]


def corrections_of(rules: type[HeaderTranslator], obs_id: str) -> corrections.Cards:
    """Return the cards of an exposure that are to be replaced: as the class that translates it finds them."""
    instrument = rules.camera.name
    if translator(instrument) is rules:
        return corrections.find(instrument, obs_id)
    return _of_site(instrument, obs_id) if corrections.is_plain(obs_id) else {}


@lru_cache(maxsize=256)
def _of_site(instrument: str, obs_id: str) -> corrections.Cards:
    """Return the corrections that the site's own translator finds, looked up once for all files of an exposure."""
    from astro_metadata_translator import fix_header

    given: dict[str, object] = {"INSTRUME": CAMERAS[instrument].instrume[0], "OBSID": obs_id}
    header = dict(given)
    lookup = type("Lookup", (translator(instrument),), {"name": None, "fix_header": lambda *_, **__: False})
    fix_header(header, translator_class=lookup)
    return {card: value for card, value in header.items()
            if given.get(card) != value and not card.startswith(cards.LIBRARY)}  # fmt: skip


@cache
def import_site(module: str) -> None:
    """Import a module of the Science Pipelines, if it is installed."""
    try:
        importlib.import_module(module)
    except ImportError as error:
        if not module.startswith(str(error.name)):
            log.warning("the site's translators can't be imported", module=module, missing=error.name)
