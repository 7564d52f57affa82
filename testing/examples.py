"""How many examples the tests with invented data try."""

from __future__ import annotations

import os

FULL = "AUTOINGEST_EXAMPLES"
"""Environment variable with the number that each such test tries instead of its own."""


def number(quick: int) -> int:
    """Return how many examples to try: `quick`, unless the environment asks for more."""
    return int(os.environ.get(FULL, quick))
