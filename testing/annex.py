"""An all-sky camera, described as a site would: it has cards of its own and its own idea of times."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

DESCRIPTION: dict[str, Any] = {
    "instruments": {
        "AllSky": {
            "match": {"CAMERA": "ASC-[0-9]+"},
            "className": "org.example.allsky.{instrument}",
            "formatter": "org.example.allsky.{instrument}Formatter",
            "datasetType": "allSkyRaw",
            "run": "{instrument}/night",
            "detector": "chip",
            "filters": {"clear": "white"},
            "header": {
                "obsId": "IMAGE",
                "dayObs": {"cards": ["IMAGE"], "pattern": r"AS_(\d{8})_\d+"},
                "seqNum": {"cards": ["IMAGE"], "pattern": r"AS_\d{8}_(\d+)"},
                "group": None,
                "begin": "START",
                "end": None,
                "timeSystem": {"default": "UTC"},
                "exposureTime": ["EXPOSURE", "EXPTIME"],
                "observationType": {"default": "object"},
                "observationReason": {"default": "survey"},
                "physicalFilter": {"default": "clear"},
            },
        }
    }
}

CARDS: dict[str, Any] = {
    "SIMPLE": True, "BITPIX": 16, "NAXIS": 0, "CAMERA": "ASC-2", "IMAGE": "AS_20250714_00042", "EXPOSURE": 20,
    "START": "2025-07-15T03:04:05.250", "OBJECT": "zenith",
}  # fmt: skip


def description_file(folder: Path, description: dict[str, Any] | None = None) -> Path:
    """Write a description to a file."""
    file = folder / "allsky.yaml"
    file.write_text(yaml.safe_dump(DESCRIPTION if description is None else description))
    return file
