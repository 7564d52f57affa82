"""The Lua scripts that move work; they are in the folder ``lua``, one file each.

Every script is one atomic step. All are for a single Redis node; keys of files and
exposures are built inside the scripts from prefixes. Times are the server's, in epoch seconds. The head of each file
describes KEYS, ARGV and result, and names the shared parts (``Include``) and the numbers and texts (``Constants``) that
it needs.
"""

from __future__ import annotations

import json
import re
from importlib import resources

from . import keys

TRUSTED = 2
"""Number of claims without an outcome up to which a file is trusted. With more, it is suspected of ending processes."""

MAX_PROGRESS = 20_000
"""Maximum number of exposures in progress in a bucket; beyond it, the one that is due first is no longer looked at."""

_FOLDER = resources.files(__package__) / "lua"
_SHARED: dict[str, int | str] = {
    "SET_ASIDE": keys.set_aside(""),
    "TRUSTED": TRUSTED,
    "EVENTS": keys.EVENTS,
    "FILE_EVENTS": keys.FILE_EVENTS,
    "PROGRESS": "PROGRESS:",
    "PROGRESS_DUE": keys.progress_due(""),
    "PROGRESS_DAY": "PROGRESSDAY:",
    "PROGRESS_EXPIRY": keys.PROGRESS_EXPIRY,
    "MAX_PROGRESS": MAX_PROGRESS,
}


def load(name: str, **constants: int | str) -> str:
    """Return the text of a script, complete with its includes and constants.

    Parameters
    ----------
    name
        Its file, without suffix.
    constants
        Constants that its head names, apart from those of the shared parts.
    """
    parts: list[str] = []
    _collect(name, parts)
    values = _SHARED | constants
    needed = (constant for part in parts for constant in _listed("Constants", part))
    return "".join([*(f"local {each} = {json.dumps(values[each])}\n" for each in dict.fromkeys(needed)), *parts])


def _collect(name: str, parts: list[str]) -> None:
    text = (_FOLDER / f"{name}.lua").read_text()
    for include in _listed("Include", text):
        _collect(include, parts)
    parts.append(text)


def _listed(what: str, text: str) -> list[str]:
    found = re.search(rf"^-- {what}: (.+)$", text, re.MULTILINE)
    return found[1].split(", ") if found else []


CLAIM = load("claim")
RENEW = load("renew")
ACKNOWLEDGE = load("acknowledge")
DEFER = load("defer")
FAIL = load("fail")
COUNT_TRIALS = load("count_trials")
GIVE_BACK = load("give_back")
GIVE_BACK_OLD = load("give_back_old")
RELEASE = load("release")
CLAIM_PENDING_VISITS = load("claim_pending_visits")


def head(name: str = "") -> list[str]:
    """Return the first arguments of every script that includes ``common``.

    Parameters
    ----------
    name
        The worker's name, for the steps of a worker.
    """
    return [keys.file(""), str(keys.FILE_EXPIRY), name]
