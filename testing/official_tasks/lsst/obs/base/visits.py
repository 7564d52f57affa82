"""Visit definition; see the package's docstring for what this is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, cast

from lsst.daf.butler import Butler, DimensionRecord

from autoingest.butler.visits import Visits


@dataclass
class DefineVisitsConfig:
    groupExposures: str = "one-to-one-and-by-counter"


class DefineVisitsTask:
    ConfigClass = DefineVisitsConfig

    def __init__(self, config: DefineVisitsConfig, *, butler: Butler) -> None:
        self.config = config
        self.butler = butler
        self._visits = Visits(butler, cast(Any, config.groupExposures))

    def run(
        self,
        dataIds: Iterable[Any],
        *,
        collections: Any = None,
        update_records: bool = False,
        incremental: bool = False,
    ) -> None:
        registry = self.butler.registry
        exposures: list[DimensionRecord] = []
        for item in dataIds:
            if isinstance(item, DimensionRecord):
                exposures.append(item)
            else:
                record = registry.expandDataId(item, dimensions=["exposure"]).records["exposure"]
                assert record is not None
                exposures.append(record)
        if not exposures:
            raise RuntimeError("No exposures given.")
        if len(found := {exposure.instrument for exposure in exposures}) > 1:
            raise RuntimeError(f"All data IDs passed to DefineVisitsTask.run must be from the same instrument: {found}")
        self._visits.register(found.pop())
        for exposure in exposures:
            with self.butler.transaction():
                # Working incrementally means that visits that are there are written anew.
                self._visits.define(exposure, update=update_records or incremental)
