"""FITS files from their cards (FITS Standard 4.0, section 4; HIERARCH convention)."""

from __future__ import annotations

from ...store.fits import BLOCK, CARD


def format_cards(values: dict[str, object]) -> dict[str, bytes]:
    """Format header cards, 80 bytes each, by keyword."""
    return {name: _card(name, value) for name, value in values.items()}


def header_unit(cards: dict[str, bytes]) -> bytes:
    """Join cards to a header that fills whole blocks."""
    text = b"".join(cards.values()) + b"END".ljust(CARD)
    return text.ljust(-(-len(text) // BLOCK) * BLOCK)


def _card(name: str, value: object) -> bytes:
    if isinstance(value, bool):
        text = f"{'T' if value else 'F':>20}"
    elif isinstance(value, str):
        text = f"'{value.replace(chr(39), chr(39) * 2):<8}'"
    else:
        text = "" if value is None else f"{value!r:>20}"
    card = f"HIERARCH {name} = {text}" if len(name) > 8 or " " in name else f"{name:<8}= {text}"
    if len(card) > CARD:
        raise ValueError(f"card {name} is longer than {CARD} characters")
    return card.ljust(CARD).encode("ascii")


def image_extension(pixels: int, more: dict[str, object]) -> bytes:
    """Return a square image extension of 16-bit pixels, with additional cards."""
    data = bytes(range(256)) * (pixels * pixels * 2 // 256)
    cards = {
        "XTENSION": "IMAGE", "BITPIX": 16, "NAXIS": 2, "NAXIS1": pixels, "NAXIS2": pixels, "PCOUNT": 0, "GCOUNT": 1,
        "INHERIT": True, **more,
    }  # fmt: skip
    return header_unit(format_cards(cards)) + data.ljust(-(-len(data) // BLOCK) * BLOCK, b"\0")
