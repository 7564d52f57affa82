"""Which instrument and which exposure a file is of: a camera's, or a described instrument's."""

from __future__ import annotations

from collections.abc import Mapping

from ..errors import MetadataError
from . import catalogue, identity
from .described import DescribedHeader


def instrument_of(header: Mapping[str, object], url: str) -> str:
    """Return the name of the instrument that a header is of.

    Raises
    ------
    MetadataError
        If it is neither a camera's nor a described instrument's; the message names the card.
    """
    try:
        return identity.camera_of(header, url).name
    except MetadataError:
        generator = catalogue.recognise(header, url)
        if generator is None:
            raise
        return generator.name


def identify(header: Mapping[str, object], url: str) -> identity.Identity:
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
    generator = catalogue.generators().get(instrument_of(header, url))
    if generator is None:
        return identity.identify(header, url)

    from astro_metadata_translator import fix_header

    from .records import translator

    corrected = dict(header)
    fix_header(corrected, translator_class=translator(generator.name), filename=url)
    return DescribedHeader(generator, corrected, url).identity()
