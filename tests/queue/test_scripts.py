"""The heads of the Lua files say what the scripts take."""

from __future__ import annotations

import re
from importlib import resources

import pytest

from autoingest.queue import scripts

FOLDER = resources.files("autoingest.queue") / "lua"
NAMES = sorted(file.name.removesuffix(".lua") for file in FOLDER.iterdir())
SHARED = {"common", "operator", "progress", "record", "safe"}


def split(name: str) -> tuple[str, str]:
    """Head and body of a file."""
    head, _, body = (FOLDER / f"{name}.lua").read_text().partition("\n\n")
    return head, body


@pytest.mark.parametrize("name", sorted(set(NAMES) - SHARED))
def test_head_describes_what_the_script_takes_and_returns(name: str) -> None:
    head, body = split(name)
    assert "-- ARGV: " in head
    assert "-- Result: " in head
    until_next = r"(.+?)(?=\n-- [A-Z]|\Z)"
    described = {
        what: re.search(rf"^-- {what}: {until_next}", head, re.DOTALL | re.MULTILINE) for what in ("KEYS", "ARGV")
    }
    used = {what: max((int(n) for n in re.findall(rf"{what}\[(\d+)\]", body)), default=0) for what in described}
    keys, arguments = (found[1].split(",") if found else [] for found in described.values())
    assert len(keys) >= used["KEYS"]
    assert len(arguments) + (2 if "(head)" in head else 0) >= used["ARGV"], "(head) stands for three"
    assert used["KEYS"] == len(keys) or name in {"record_presence"}, "each key is used"
    assert "(head)" in head or name in {"beat", "claim_pending_visits", "deliver", "record_presence", "renew"}


@pytest.mark.parametrize("name", NAMES)
def test_constants_are_those_that_are_used(name: str) -> None:
    head, body = split(name)
    declared = set(re.findall(r"^local ([A-Z_]+(?:, [A-Z_]+)*) =", body, re.MULTILINE))
    local = {each for group in declared for each in group.split(", ")} | {"KEYS", "ARGV", "TOKEN"}
    code = re.sub(r"--.*|'[^']*'", "", body)
    used = set(re.findall(r"\b[A-Z][A-Z_]+\b", code)) - local
    inherited = {"FILE", "KEEP", "NAME"} if name not in {"common", "safe"} else set()
    assert used - inherited == set(scripts._listed("Constants", head))


def test_a_constant_that_nobody_gives_is_an_error() -> None:
    with pytest.raises(KeyError, match="MAX_ANNEX_INSTRUMENTS"):
        scripts.load("accept")
