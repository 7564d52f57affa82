"""Write the files of the chart that are made from others: ``values.schema.json`` and the dashboards.

``python helm/generate.py --check`` only tells whether they are current, with exit code 1 if not. In the schema, the
definitions of the block ``config`` are made from the program's own; those of the chart's own begin with a lower-case
letter and are left as they are.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import dashboards

from autoingest.app.config import Config

CHART = Path(__file__).parent / "autoingest"
SCHEMA = CHART / "values.schema.json"


def schema() -> str:
    """Return the text of ``values.schema.json``."""
    content = json.loads(SCHEMA.read_text())
    config = Config.model_json_schema()
    blocks = config.pop("$defs")
    own = {name: block for name, block in content["$defs"].items() if name[0].islower()}
    content["$defs"] = own | {"Config": config} | blocks
    return json.dumps(content, indent=2) + "\n"


def main() -> None:
    """Write the files, or check them."""
    texts = {SCHEMA: schema()}
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
