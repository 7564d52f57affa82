"""The result of a look at one thing that a site needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at."""

    name: str
    """What was looked at, such as ``Redis memory``."""
    state: State
    """``ok``; ``warn``: it works, but not as it should; ``fail``: images can't be ingested, or may be lost."""
    text: str
    """What was found."""
    remedy: str = ""
    """What to do, unless the state is ``ok``."""


def ok(name: str, text: str) -> Check:
    """Return that all is well."""
    return Check(name, "ok", text)


def warn(name: str, text: str, remedy: str) -> Check:
    """Return that something is not as it should be."""
    return Check(name, "warn", text, remedy)


def fail(name: str, text: str, remedy: str) -> Check:
    """Return that something prevents the ingest, or endangers data."""
    return Check(name, "fail", text, remedy)


MOST_SKEW = 2.0
"""Seconds by which a clock may differ before that is told."""

FATAL_SKEW = 300.0
"""Seconds by which a clock may differ before that is a failure; S3 refuses requests at 900 s."""


def clock(name: str, ahead: float, uncertain: float = 0.0) -> Check:
    """Judge a clock.

    Parameters
    ----------
    name
        Whose clock it is.
    ahead
        Seconds by which it is ahead of this machine's.
    uncertain
        Seconds by which that may be wrong.
    """
    skew = max(0.0, abs(ahead) - uncertain)
    if skew <= MOST_SKEW:
        return ok(name, f"agrees with this machine within {MOST_SKEW:g} s")
    way = "ahead of" if ahead > 0 else "behind"
    remedy = "check NTP (chronyc tracking) on both machines"
    return (fail if skew > FATAL_SKEW else warn)(name, f"{abs(ahead):.1f} s {way} this machine", remedy)
