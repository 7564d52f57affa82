"""Write the definitions of the block ``config`` in ``values.schema.json`` anew, from the program's own schema.

``python helm/generate.py --check`` only tells whether they are current, with exit code 1 if not. Definitions of the
chart's own begin with a lower-case letter and are left as they are.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from autoingest.app.config import Config

TARGET = Path(__file__).parent / "autoingest" / "values.schema.json"


def render() -> str:
    """Return the text of ``values.schema.json``."""
    schema = json.loads(TARGET.read_text())
    config = Config.model_json_schema()
    blocks = config.pop("$defs")
    own = {name: block for name, block in schema["$defs"].items() if name[0].islower()}
    schema["$defs"] = own | {"Config": config} | blocks
    return json.dumps(schema, indent=2) + "\n"


def main() -> None:
    """Write the file, or check it."""
    text = render()
    if "--check" in sys.argv[1:]:
        if TARGET.read_text() != text:
            sys.exit(f"{TARGET.name} is not current: run `make docs`")
    else:
        TARGET.write_text(text)
        print(f"wrote {TARGET.name}")


if __name__ == "__main__":
    main()
