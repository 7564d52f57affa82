"""Write ``configuration.md`` from the configuration's schema, and ``metrics.md`` from the metrics.

``python docs/generate.py --check`` only checks whether they are current, and exits with 1 if not.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from autoingest.app.config import Config
from autoingest.app.metrics import REGISTRY

FOLDER = Path(__file__).parent


def configuration() -> str:
    """Return the text of ``configuration.md``."""
    schema = Config.model_json_schema()
    lines = [
        "# Configuration",
        "",
        "The file is YAML. Unknown keys are refused. Times are in seconds, sizes in bytes.",
        "`autoingest config check FILE` names every mistake by its key.",
        "",
        *_block("", schema, schema["$defs"]),
        *_block("listen", schema["$defs"]["Listen"], schema["$defs"]),
    ]
    return "\n".join(lines).rstrip() + "\n"


def metrics() -> str:
    """Return the text of ``metrics.md``."""
    lines = [
        "# Metrics",
        "",
        "Served in Prometheus's text format at `/metrics` of the admin listener. There, the names of counters end with",
        "`_total`, and histograms have `_bucket`, `_sum` and `_count`. A bucket is named with its profile.",
        "",
        "| metric | kind | meaning |",
        "|---|---|---|",
        *(f"| `{metric.name}` | {metric.type} | {metric.documentation} |" for metric in REGISTRY.collect()),
    ]
    return "\n".join(lines) + "\n"


def _block(prefix: str, schema: dict[str, Any], definitions: dict[str, Any]) -> list[str]:
    lines = [f"## `{prefix}`" if prefix else "## Top level", "", schema["description"].split("\n")[0], ""]
    lines += ["| key | type | default | meaning |", "|---|---|---|---|"]
    blocks = []
    for key, field in schema["properties"].items():
        meaning = " ".join(field.get("description", "").split()).replace("|", "\\|")
        default = "required" if key in schema.get("required", ()) else f"`{_scalar(field.get('default'))}`"
        if reference := _reference(field):
            block = definitions[reference.rsplit("/", 1)[1]]
            path = f"{prefix}.{key}".lstrip(".")
            meaning = meaning or block["description"].split("\n")[0]
            if block["title"] != "Listen":
                blocks += _block(path, block, definitions)
                if "$ref" in field:
                    default = "required" if key in schema.get("required", ()) else "below"
        lines.append(f"| `{key}` | {_type(field)} | {default} | {meaning} |")
    return [*lines, "", *blocks]


def _reference(field: dict[str, Any]) -> str | None:
    """Find the block that a field holds, or may hold."""
    options = [field, *field.get("anyOf", ())]
    return next((option["$ref"] for option in options if "$ref" in option), None)


def _type(field: dict[str, Any]) -> str:
    if "$ref" in field:
        return "block"
    if "enum" in field:
        return " \\| ".join(f"`{value}`" for value in field["enum"])
    if "anyOf" in field:
        return " \\| ".join(_type(option) for option in field["anyOf"])
    if field.get("type") == "array":
        return f"list of {_type(field['items'])}"
    return str(field.get("type", field.get("const")))


def _scalar(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_scalar(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_scalar(item) for item in value) + "]"
    if isinstance(value, bool) or value is None:
        return str(value).lower() if value is not None else "null"
    return str(value).replace("|", "\\|")


def main() -> None:
    """Write the files, or check them."""
    for name, text in {"configuration.md": configuration(), "metrics.md": metrics()}.items():
        target = FOLDER / name
        if "--check" not in sys.argv[1:]:
            target.write_text(text)
            print(f"wrote {name}")
        elif not target.is_file() or target.read_text() != text:
            sys.exit(f"{name} is not current: run `make docs`")


if __name__ == "__main__":
    main()
