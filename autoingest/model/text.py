"""Texts that others wrote, as people can read them."""

from __future__ import annotations

import re

# Control characters, which can move the cursor, recolour or rewrite what a terminal shows, and those that turn the
# direction of writing, which make a name look like another.
_HARMFUL = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
_HARMFUL_BUT_LINES = re.compile(_HARMFUL.pattern.replace("\x00-\x1f", "\x00-\x08\x0b-\x1f"))

MAX_EXCEPTION = 4000
"""Characters of an exception's text that are kept."""

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


def exception_text(text: str) -> str:
    """Return an exception's text as JSON can hold it, with the middle left out beyond `MAX_EXCEPTION` characters."""
    if (more := len(text) - MAX_EXCEPTION) > 0:
        half = MAX_EXCEPTION // 2
        text = f"{text[:half]} ... ({more} characters left out) ... {text[-half:]}"
    return text.encode(errors="backslashreplace").decode()


def harmless(text: str, *, lines: bool = False) -> str:
    r"""Return a text that may be written to a terminal: control characters become ``\u001b``, valid within JSON, too.

    Parameters
    ----------
    text
        From a sender, a header, a server.
    lines
        Whether line feeds and tabs stay.
    """
    return (_HARMFUL_BUT_LINES if lines else _HARMFUL).sub(lambda match: f"\\u{ord(match[0]):04x}", text)
