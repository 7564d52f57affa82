"""Which instrument and which exposure a file is of: a camera's, or a described instrument's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ..errors import MetadataError, PermanentError
from . import cards, corrections, identity, registry, translator_classes
from .annex.headers import DescribedHeader
from .corrected_header import prepared

if TYPE_CHECKING:
    from .translators.base import HeaderTranslator

Header = Mapping[str, object]


def require_rules(header: Header, url: str) -> type[HeaderTranslator]:
    """Return the rules of the camera that a header is of.

    Raises
    ------
    MetadataError
        If it is no camera's.
    """
    rules = translator_classes.rules_of(header)
    if rules is None:
        raise cards.unusable(header, "INSTRUME", url, "is no known instrument")
    return rules


def instrument_of(header: Header, url: str) -> str:
    """Return the name of the instrument that a header is of.

    Raises
    ------
    MetadataError
        If it is neither a camera's nor a described instrument's; the message names the card.
    """
    try:
        return require_rules(header, url).camera.name
    except MetadataError:
        generator = registry.annex_instrument_of(header, url)
        if generator is None:
            raise
        return generator.name


def identify(header: Header, url: str) -> identity.Identity:
    """Tell which exposure and detector a file holds, without translating its whole header.

    Parameters
    ----------
    header
        Cards of the file, None where a card is undefined.
    url
        The file, for messages.

    Raises
    ------
    MetadataError
        If a card that is needed is missing or makes no sense.
    """
    try:
        rules = translator_classes.rules_of(header)
        if rules is None:
            return _identify_annex(header, url)
        if not cards.is_repaired(header):
            obs_id = rules.read_obs_id(header, url)
            if rules.identity_needs_repairs:
                header = prepared(rules, header, translator_classes.corrections_of(rules, obs_id))
            elif corrected := translator_classes.corrections_of(rules, obs_id):
                header = {**header, **corrected}
        return rules.identity(header, url)
    except PermanentError:
        raise
    except Exception as err:
        raise MetadataError(f"the header can't be read: {err!r} ({url})", path=url) from err


def _identify_annex(header: Header, url: str) -> identity.Identity:
    generator = registry.generators()[instrument_of(header, url)]
    if not cards.is_repaired(header):
        obs_id = DescribedHeader(generator, header, url).obs_id()
        header = {**header, **corrections.find(generator.name, obs_id)}
    return DescribedHeader(generator, header, url).identity()


def identify_guider(header: Header, url: str) -> identity.GuiderIdentity:
    """Tell what a guider file holds; it names neither a group nor times.

    Raises
    ------
    MetadataError
        If a card that is needed is missing or makes no sense, or the detector is no guide detector.
    """
    try:
        return _identify_guider(header, url)
    except PermanentError:
        raise
    except Exception as err:
        raise MetadataError(f"the header can't be read: {err!r} ({url})", path=url) from err


def _identify_guider(header: Header, url: str) -> identity.GuiderIdentity:
    rules = require_rules(header, url)
    camera = rules.camera
    number = identity.detector(camera, header, url)
    if number not in camera.guiders:
        name = camera.detectors[number].name
        raise MetadataError(
            f"RAFTBAY_CCDSLOT = {name!r} is not a guide detector of {camera.name} ({url})",
            card="RAFTBAY, CCDSLOT", value=name, path=url,
        )  # fmt: skip
    return identity.GuiderIdentity(camera.name, rules.read_obs_id(header, url), number)
