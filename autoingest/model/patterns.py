"""Regular expressions of the configuration, searched in what strangers send.

RE2 takes a time that is linear in the text, whatever the pattern. Python's own `re` may take years.
"""

from __future__ import annotations

from collections.abc import Callable

import re2


def search(pattern: str) -> Callable[[str], bool]:
    """Return what tells whether a text contains a match of `pattern`.

    Raises
    ------
    ValueError
        If `pattern` is not a regular expression as RE2 knows them.
    """
    options = re2.Options()
    options.log_errors = False
    options.never_capture = True
    try:
        re2.compile(pattern, options)
    except re2.error as err:
        why = err.args[0].decode(errors="replace") if isinstance(err.args[0], bytes) else str(err)
        raise ValueError(f"not a regular expression that RE2 knows: {why}") from None
    patterns = re2.Set.SearchSet(options)
    patterns.Add(pattern)
    patterns.Compile()
    match = patterns.Match
    return lambda text: match(text.encode(errors="replace")) is not None
