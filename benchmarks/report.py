"""Rows of measured numbers: printed beside what they replace, kept as JSON, compared with an earlier run."""

from __future__ import annotations

import json
import os
import platform
import statistics
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Row:
    """One figure, measured several times."""

    name: str
    unit: str
    values: list[float]
    before: float | None = None
    """The implementation that this program replaces, measured on two cores as well."""

    @property
    def median(self) -> float:
        """Median of the runs."""
        return statistics.median(self.values)


def show(rows: list[Row], earlier: Path | None) -> None:
    """Print a table; with `earlier`, the ratio to that run's medians."""
    old = {}
    if earlier:
        old = {row["name"]: statistics.median(row["values"]) for row in json.loads(earlier.read_text())["rows"]}
    table = Table("what", "unit", "median", "min", "max", "replaced", "ratio to earlier")
    for row in rows:
        ratio = f"{row.median / old[row.name]:.2f}" if row.name in old else ""
        numbers = [_number(value) for value in (row.median, min(row.values), max(row.values))]
        table.add_row(row.name, row.unit, *numbers, "" if row.before is None else f"{row.before:,g}", ratio)
    Console(width=140).print(table)
    Console().print(machine())


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def save(rows: list[Row], file: Path) -> None:
    """Keep the rows as JSON."""
    content = {"time": datetime.now(UTC).isoformat(), "machine": machine(), "rows": [asdict(row) for row in rows]}
    file.write_text(json.dumps(content, indent=1))


def machine() -> str:
    """Describe the machine in a line."""
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    return f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, load {load}"
