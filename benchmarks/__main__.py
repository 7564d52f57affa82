"""Measure autoingest, and print medians beside those of the implementation that it replaces.

python -m benchmarks                       # everything, about a quarter of an hour
python -m benchmarks ingest --runs 5
python -m benchmarks --json new.json --compare old.json
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import uvloop

from autoingest import embedded

from . import bench, burst, ingest, listeners, start
from .report import Row, machine, save, show

BENCHMARKS = {
    "ingest": ingest.measure,
    "burst": burst.measure,
    "enqueue": listeners.enqueue,
    "presence": listeners.presence,
    "start": start.measure,
}


def main() -> None:
    """Run the benchmarks that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.partition("\n")[0])
    parser.add_argument(
        "names", nargs="*", choices=[[], *BENCHMARKS], metavar="|".join(BENCHMARKS), help="which; all by default"
    )
    parser.add_argument("--runs", type=int, default=3, help="runs of each, of which the median counts (3)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep the numbers")
    parser.add_argument("--compare", type=Path, metavar="FILE", help="show ratios to an earlier run's medians")
    options = parser.parse_args()
    if unknown := set(options.names) - set(BENCHMARKS):
        parser.error(f"no such benchmark: {', '.join(unknown)}")
    rows: list[Row] = []
    with (
        tempfile.TemporaryDirectory() as name,
        embedded.valkey(Path(name) / "valkey") as redis_url,
        embedded.postgres(Path(name) / "postgres") as postgres_url,
    ):
        servers = bench.Servers(Path(name), redis_url, postgres_url, options.runs)
        for each in options.names or BENCHMARKS:
            print(f"{each} ...", flush=True)
            rows += uvloop.run(BENCHMARKS[each](servers))
        where = machine(redis_url, postgres_url)
    show(rows, where, options.compare)
    if options.json:
        save(rows, where, options.json)


if __name__ == "__main__":
    main()
