"""What a test needs and a machine may lack."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest

MUST_RUN = "AUTOINGEST_MUST_RUN"
"""Variable with the words, separated by white space, of what may not be missing here."""


def missing(what: str, why: str) -> NoReturn:
    """Skip the test, or fail it where it must run.

    Parameters
    ----------
    what
        One word, as ``AUTOINGEST_MUST_RUN`` names it: ``ceph``, ``conformance``, ...
    why
        What is missing, and what would help.
    """
    if what in os.environ.get(MUST_RUN, "").split():
        pytest.fail(f"{what} must run here: {why}", pytrace=False)
    pytest.skip(f"{what}: {why}")
