"""README of the chart: a table of its values, from their comments, as helm-docs makes it."""

from __future__ import annotations

import json
import re
from typing import Any

HEAD = """# autoingest

{description}

Version {version} of the chart, {app} of the program; Kubernetes {kubernetes}.
[Deployment](../../docs/deployment.md) installs it step by step.

## Values

| Key | Type | Default | Description |
|-----|------|---------|-------------|
"""

_TYPES = {bool: "bool", int: "int", str: "string", list: "list", dict: "object", type(None): "string"}


def render(chart: dict[str, Any], values: dict[str, Any], text: str) -> str:
    """Return the README of a chart; `text` is that of its values, with the comments."""
    head = HEAD.format(
        description=chart["description"],
        version=chart["version"],
        app=chart["appVersion"],
        kubernetes=chart["kubeVersion"],
    )
    return head + "".join(f"{row}\n" for row in sorted(_rows(values, text)))


def _rows(values: dict[str, Any], text: str) -> list[str]:
    rows, path, comment = [], [], []
    for line in text.splitlines():
        if found := re.match(r" *# ?(.*)", line):
            comment = [found[1]] if found[1].startswith("-- ") else [*comment, found[1]] if comment else []
        elif found := re.match(r"( *)([\w-]+):", line):
            path = [*path[: len(found[1]) // 2], found[2]]
            if comment:
                rows.append(_row(path, values, comment))
            comment = []
        else:
            comment = []
    return rows


def _row(path: list[str], values: Any, comment: list[str]) -> str:
    for key in path:
        values = values[key]
    given = [line.removeprefix("@default -- ") for line in comment if line.startswith("@default -- ")]
    default = given[0] if given else f"`{json.dumps(values)}`"
    meaning = (
        " ".join(line for line in comment if not line.startswith("@default")).removeprefix("-- ").replace("|", "\\|")
    )
    return f"| {'.'.join(path)} | {_TYPES[type(values)]} | {default} | {meaning} |"
