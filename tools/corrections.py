#!/usr/bin/env python3
"""Make the compact files of the observatory's header corrections that come with the program.

    tools/corrections.py FOLDER

FOLDER holds either the files of the observatory, ``{instrument}-{obs_id}.yaml`` (the folder ``corrections`` of its
package obs_lsst), or ``{instrument}.json`` with ``{obs_id: {card: value}}``. Each instrument gets a file in
``autoingest/instruments/data/corrections``: values by card, camera and day, and number. Each card and day stands once,
and a night is a line. The same corrections always make the same files.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

TARGET = Path(__file__).parent.parent / "autoingest/instruments/data/corrections"

Corrections = Mapping[str, Mapping[str, object]]
"""Values by card, by observation."""


def read(folder: Path) -> dict[str, Corrections]:
    """Return the corrections of a folder by instrument."""
    found: dict[str, Any] = {file.stem: json.loads(file.read_text()) for file in folder.glob("*.json")}
    for file in folder.glob("*.yaml"):
        instrument, _, obs_id = file.stem.rpartition("-")
        found.setdefault(instrument, {})[obs_id] = yaml.safe_load(file.read_text())
    return found


def packed(corrections: Corrections) -> str:
    """Return corrections as the text of a compact file."""
    columns: Any = defaultdict(lambda: defaultdict(dict))
    for obs_id, replaced in sorted(corrections.items()):
        day, _, number = obs_id.rpartition("_")
        for card, value in replaced.items():
            columns[card][day][number] = value
    nights = {
        card: ",\n".join(f'"{day}":{json.dumps(values, separators=(",", ":"))}' for day, values in days.items())
        for card, days in sorted(columns.items())
    }
    return "{" + ",\n".join(f'"{card}":{{\n{text}}}' for card, text in nights.items()) + "}\n"


def main() -> None:
    """Write a file for each instrument."""
    for instrument, corrections in read(Path(sys.argv[1])).items():
        file = TARGET / f"{instrument}.json"
        file.write_text(packed(corrections))
        print(f"{file}: {len(corrections)} exposures, {file.stat().st_size} bytes")


if __name__ == "__main__":
    main()
