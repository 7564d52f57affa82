"""Imports and runs the Science Pipelines' tasks, and collects what they report.

The interfaces are those of June 2026.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from lsst.daf.butler import Butler, DimensionRecord, FileDataset
from lsst.resources import ResourcePath

from ..app.config import Grouping
from ..errors import ConfigurationError
from .engine import Key
from .resources import KnownImage


@dataclass(slots=True)
class TaskReport:
    """What the callbacks of one run reported, files by URL.

    They only record: an error raised in a callback would end the task.
    """

    ingested: set[str] = field(default_factory=set)
    waiting: set[str] = field(default_factory=set)
    """Guiders whose exposure the Butler does not know."""
    unreadable: dict[str, Exception] = field(default_factory=dict)
    """Files whose header could not be read or translated."""
    failed: dict[str, Exception] = field(default_factory=dict)
    """Files of an exposure, or guiders, that were tried together and failed together."""
    exposures: set[Key] = field(default_factory=set)
    """Exposures whose records were inserted or updated."""

    def success(self, datasets: list[FileDataset]) -> None:
        """Be ``on_success`` of both tasks."""
        self.ingested |= {str(dataset.path) for dataset in datasets}

    def metadata_failure(self, path: ResourcePath, error: Exception) -> None:
        """Be ``on_metadata_failure`` of both tasks."""
        self.unreadable[str(path)] = error

    def exposure_failure(self, exposure: Any, error: Exception) -> None:
        """Be ``on_ingest_failure`` of raw ingest."""
        self.failed |= {str(file.filename): error for file in exposure.files}

    def guider_failure(self, datasets: list[FileDataset], error: Exception) -> None:
        """Be ``on_ingest_failure`` of guider ingest."""
        self.failed |= {str(dataset.path): error for dataset in datasets}

    def undefined_exposure(self, path: ResourcePath, obs_id: str) -> None:
        """Be ``on_undefined_exposure`` of guider ingest."""
        self.waiting.add(str(path))

    def exposure_record(self, record: DimensionRecord) -> None:
        """Be ``on_exposure_record`` of raw ingest."""
        self.exposures.add((record.instrument, record.id))


class Tasks:
    """Runs the tasks on one repository.

    Raises
    ------
    ConfigurationError
        If the Science Pipelines are not installed.
    """

    def __init__(self) -> None:
        try:
            from lsst.obs.base import DefineVisitsTask, RawIngestTask
            from lsst.obs.lsst import ingest_guider
        except ImportError as err:
            raise ConfigurationError(
                f"the engine 'stack' needs the Science Pipelines, which can't be imported here ({err}): run autoingest"
                " in an environment that holds their package obs_lsst, or set ingest.engine to 'native'",
                engine="stack",
            ) from err
        self._raw_ingest: Any = RawIngestTask
        self._define_visits: Any = DefineVisitsTask
        self._ingest_guider: Any = ingest_guider

    def bind(
        self,
        butler: Butler,
        reconciled: Callable[[DimensionRecord], DimensionRecord],
        grouping: Grouping,
        *,
        update: bool,
    ) -> None:
        """Choose the repository.

        Parameters
        ----------
        butler
            The repository.
        reconciled
            Called with an exposure's record made from a header; returns the record to store.
        grouping
            How exposures are grouped into visits.
        update
            Whether existing records of exposures are rewritten if they differ.
        """

        class Ingest(self._raw_ingest):  # type: ignore[misc, name-defined]
            def makeExposureRecord(self, *args: Any, **kwargs: Any) -> DimensionRecord:
                return reconciled(super().makeExposureRecord(*args, **kwargs))

        self._butler = butler
        self._update = update
        self._ingest = Ingest
        self._config = Ingest.ConfigClass()
        self._config.transfer = "direct"
        if grouping != "none":
            config = self._define_visits.ConfigClass()
            config.groupExposures = grouping
            self._define = self._define_visits(config=config, butler=butler)

    def ingest_raws(self, paths: list[KnownImage], report: TaskReport) -> None:
        """Ingest images; errors at the end are those that `report` holds."""
        task = self._ingest(
            config=self._config,
            butler=self._butler,
            on_success=report.success,
            on_metadata_failure=report.metadata_failure,
            on_ingest_failure=report.exposure_failure,
            on_exposure_record=report.exposure_record,
        )
        task.run(paths, track_file_attrs=True, search_indexes=False, update_exposure_records=self._update)

    def ingest_guiders(self, paths: list[KnownImage], report: TaskReport) -> None:
        """Ingest guiders; errors at the end are those that `report` holds."""
        self._ingest_guider(
            self._butler,
            paths,
            transfer="direct",
            on_success=report.success,
            on_metadata_failure=report.metadata_failure,
            on_undefined_exposure=report.undefined_exposure,
            on_ingest_failure=report.guider_failure,
        )

    def define_visits(self, exposure: DimensionRecord, *, update: bool) -> None:
        """Define the visits of an exposure; existing regions are rewritten."""
        self._define.run([exposure.dataId], incremental=True, update_records=update)
