"""Write the files of the chart that are made from others: ``values.schema.json``, ``README.md``, and dashboards.

``python helm/generate.py --check`` only tells whether they are current, with exit code 1 if not. In the schema, the
definitions of the block ``config`` are made from the program's own; those of the chart's own begin with a lower-case
letter and are left as they are.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import dashboards
import readme
import yaml

from autoingest.app.config import Config

CHART = Path(__file__).parent / "autoingest"
SCHEMA = CHART / "values.schema.json"
PARTIAL = ("resources", "podSecurityContext")
"""Blocks of which a site may give some keys, or none."""


def schema() -> str:
    """Return the text of ``values.schema.json``."""
    content = json.loads(SCHEMA.read_text())
    config = Config.model_json_schema()
    blocks = config.pop("$defs")
    own = {name: block for name, block in content["$defs"].items() if name[0].islower()}
    content["$defs"] = own | {"Config": config} | blocks
    _require(content, yaml.safe_load((CHART / "values.yaml").read_text()), content["$defs"])
    return json.dumps(content, indent=2) + "\n"


def _require(schema: dict[str, Any], defaults: dict[str, Any], definitions: dict[str, Any]) -> None:
    """Require every value that has a default: Helm removes a blank one, and the schema names it then."""
    if reference := schema.get("$ref"):
        schema = definitions[reference.rsplit("/", 1)[1]]
    if known := schema.get("properties"):
        wanted = [name for name, value in defaults.items() if name in known and value is not None]
        schema["required"] = sorted(wanted)
        for name in wanted:
            if isinstance(defaults[name], dict) and defaults[name] and name not in PARTIAL:
                _require(known[name], defaults[name], definitions)


def main() -> None:
    """Write the files, or check them."""
    values = (CHART / "values.yaml").read_text()
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    texts = {SCHEMA: schema(), CHART / "README.md": readme.render(chart, yaml.safe_load(values), values)}
    for name in dashboards.DASHBOARDS:
        texts[CHART / "files" / "dashboards" / f"{name}.json"] = json.dumps(dashboards.render(name), indent=2) + "\n"
    for file, text in texts.items():
        if "--check" not in sys.argv[1:]:
            file.write_text(text)
            print(f"wrote {file.name}")
        elif not file.is_file() or file.read_text() != text:
            sys.exit(f"{file.name} is not current: run `make docs`")


if __name__ == "__main__":
    main()
