"""Texts that others wrote, as people can read them."""

from __future__ import annotations

SHOWN = 1200
"""Characters of a text that are shown at the most; no path of an object is longer."""


def printable(text: str) -> str:
    r"""Return a text in which nothing is hidden.

    Control characters, and bytes that are no UTF-8 (which Redis clients and the command line hand over as half
    surrogate pairs), are written as ``\x..``; of a very long text the end is left out.
    """
    if not text.isprintable():
        text = "".join(letter if letter.isprintable() else _escaped(letter) for letter in text[: SHOWN + 1])
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def _escaped(letter: str) -> str:
    if "\udc80" <= letter <= "\udcff":
        return f"\\x{ord(letter) - 0xDC00:02x}"
    return letter.encode("unicode_escape").decode()
