"""Rows of measured numbers: printed beside what they replace, kept as JSON, compared with an earlier run."""

from __future__ import annotations

import json
import os
import platform
import re
import statistics
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import redis
import sqlalchemy
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


def show(rows: list[Row], machine: dict[str, str], earlier: Path | None) -> None:
    """Print a table; with `earlier`, the ratio to that run's medians."""
    old = {}
    if earlier:
        content = json.loads(earlier.read_text())
        read = [Row(**row) for row in content["rows"]]
        old = {(row.name, row.unit): row.median for row in read if row.values}
    table = Table("what", "unit", "median", "min", "max", "replaced", "ratio to earlier")
    for row in rows:
        if row.values:
            numbers = [_number(value) for value in (row.median, min(row.values), max(row.values))]
        else:
            numbers = ["-"] * 3
        before = old.get((row.name, row.unit))
        ratio = f"{row.median / before:.2f}" if before and row.values else ""
        table.add_row(row.name, row.unit, *numbers, "" if row.before is None else _number(row.before), ratio)
    console = Console(width=170)
    console.print(table)
    console.print(_line(machine))
    if earlier:
        console.print(f"earlier: {content['time']}, {_line(content['machine'])}")


def _line(machine: dict[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in machine.items())


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def save(rows: list[Row], machine: dict[str, str], file: Path) -> None:
    """Keep the rows as JSON."""
    content = {"time": datetime.now(UTC).isoformat(), "machine": machine, "rows": [asdict(row) for row in rows]}
    file.write_text(json.dumps(content, indent=1))


def machine(redis_url: str, postgres_url: str) -> dict[str, str]:
    """Describe the machine and the servers."""
    server = redis.Redis.from_url(redis_url).info("server")
    engine = sqlalchemy.create_engine(postgres_url)
    with engine.connect() as connection:
        postgres = connection.execute(sqlalchemy.text("SHOW server_version")).scalar_one()
    engine.dispose()
    model = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    return {
        "cores": str(os.cpu_count()),
        "processor": model[1] if model else platform.machine(),
        "Python": platform.python_version(),
        "PostgreSQL": str(postgres),
        "Valkey" if "valkey_version" in server else "Redis": server.get("valkey_version", server["redis_version"]),
        "load": " ".join(f"{value:.1f}" for value in os.getloadavg()),
    }
