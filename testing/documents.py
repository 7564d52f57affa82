"""What the documentation is compared with: log events in the source, and tables and code blocks in its pages."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "autoingest"

_LEVELS = {"debug": "debug", "info": "info", "warning": "warning", "error": "error", "exception": "error"}


def pages() -> list[Path]:
    """Return all pages that users read."""
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def log_events() -> dict[str, set[str]]:
    """Return the levels at which each event is logged."""
    found: dict[str, set[str]] = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        for call in ast.walk(ast.parse(file.read_text())):
            if not (isinstance(call, ast.Call) and call.args and isinstance(call.args[0], ast.Constant)):
                continue
            if level := _level(call.func):
                found.setdefault(str(call.args[0].value), set()).add(level)
    return found


def _level(function: ast.expr) -> str | None:
    if isinstance(function, ast.Name) and function.id == "PacedLog":
        return "warning"
    if isinstance(function, ast.Attribute) and function.attr in _LEVELS:
        owner = ast.unparse(function.value)
        if owner.rpartition(".")[2].lstrip("_") in ("log", "logger"):
            return _LEVELS[function.attr]
    return None


def rows(page: str) -> Iterator[list[str]]:
    """Yield the cells of the tables of a page of docs/."""
    for line in (ROOT / "docs" / page).read_text().splitlines():
        if line.startswith("| `"):
            yield [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip()[1:-1])]


def code_lines(page: Path) -> Iterator[str]:
    """Yield the lines of a page's code blocks, indented ones included, with continued lines joined."""
    text = re.sub(r"\\\n\s*", "", page.read_text())
    fenced = False
    for line in text.splitlines():
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif fenced or line.startswith("    "):
            yield line.strip()


def calls(program: str) -> Iterator[list[str]]:
    """Yield the arguments of every call of a program in a code block, without what the shell does with them."""
    for page in pages():
        for line in code_lines(page):
            for part in re.split(r"&&|;| \| ", re.sub(r"(^|\s)#.*", "", line.removeprefix("$ "))):
                words = re.sub(r"[&>].*$", "", part).strip()
                while words.startswith(("kubectl ", "helm ")) and not words.startswith(f"{program} "):
                    words = words.partition(" -- ")[2].strip()
                if words.startswith(f"{program} "):
                    yield shlex.split(words)[1:]
