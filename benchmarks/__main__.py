"""Measure autoingest, and print medians beside those of the implementation that it replaces.

python -m benchmarks                       # everything, about a quarter of an hour
python -m benchmarks ingest burst --runs 5
python -m benchmarks scale --runs 1         # two hours, most of them a night; --exposures makes it shorter
python -m benchmarks --json new.json --compare old.json
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import uvloop

from autoingest.dev import embedded

from . import bench, burst, ceph, distance, events, fleet, guiders, ingest, listeners, memory, scale, start, waiting
from .report import Row, machine, save, show

BENCHMARKS = {
    "start": start.measure,
    "ingest": ingest.measure,
    "burst": burst.measure,
    "distance": distance.measure,
    "fleet": fleet.measure,
    "guiders": guiders.measure,
    "enqueue": listeners.enqueue,
    "presence": listeners.presence,
    "waiting": waiting.measure,
    "events": events.measure,
    "ceph": ceph.measure,
    "memory": memory.measure,
}

SCALE = {
    "scale-queue": scale.queue,
    "scale-repository": scale.repository,
    "scale-night": scale.night,
}
"""These take long, and run only where they are named; ``scale`` names all."""

NAMES = [*BENCHMARKS, "scale", *SCALE]


def main() -> None:
    """Run the benchmarks that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.partition("\n")[0])
    parser.add_argument(
        "names", nargs="*", choices=[[], *NAMES], metavar="|".join(NAMES), help="which; all but scale by default"
    )
    parser.add_argument("--runs", type=int, default=3, help="runs of each, of which the median counts (3)")
    parser.add_argument("--exposures", type=int, default=1000, help="exposures of scale-night, 4 s each (1000)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep the numbers")
    parser.add_argument("--compare", type=Path, metavar="FILE", help="show ratios to an earlier run's medians")
    options = parser.parse_args()
    names = [name for each in options.names or BENCHMARKS for name in (SCALE if each == "scale" else [each])]
    rows: list[Row] = []
    with (
        tempfile.TemporaryDirectory() as name,
        embedded.valkey(Path(name) / "valkey") as redis_url,
        embedded.postgres(Path(name) / "postgres") as postgres_url,
    ):
        servers = bench.Servers(Path(name), redis_url, postgres_url, options.runs, options.exposures)
        for each in names:
            print(f"{each} ...", flush=True)
            rows += uvloop.run((BENCHMARKS | SCALE)[each](servers))
        where = machine(redis_url, postgres_url)
    show(rows, where, options.compare)
    if options.json:
        save(rows, where, options.json)


if __name__ == "__main__":
    main()
