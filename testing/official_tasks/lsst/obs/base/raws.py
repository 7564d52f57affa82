"""Raw ingest; see the package's docstring for what this is."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import astropy.io.fits
from astro_metadata_translator.indexing import process_sidecar_data
from lsst.daf.butler import Butler, DataCoordinate, DatasetIdGenEnum, DatasetRef, DatasetType, FileDataset
from lsst.resources import ResourcePath

from autoingest import instruments
from autoingest.butler.formatters import named_formatter
from autoingest.butler.records import rows


def _ignore(*args: Any) -> None:
    pass


@dataclass
class RawFileData:
    """One file with what its header tells."""

    filename: ResourcePath
    dataId: DataCoordinate
    obsInfo: Any


@dataclass
class RawExposureData:
    """The files of one exposure."""

    dataId: DataCoordinate
    files: list[RawFileData]
    record: Any = None
    dependencyRecords: dict[str, Any] = field(default_factory=dict)


@dataclass
class RawIngestConfig:
    transfer: str | None = None
    failFast: bool = False


def read_header(file: ResourcePath) -> Any:
    """Read a file's sidecar, or the file if that is not there or can't be read."""
    sidecar = file.updatedExtension(".json")
    if sidecar.exists():
        try:
            return process_sidecar_data(json.loads(sidecar.read()))
        except Exception:
            pass
    with file.as_local() as local, astropy.io.fits.open(local.ospath) as fits:
        return {**fits[0].header}


class RawIngestTask:
    ConfigClass = RawIngestConfig

    def __init__(
        self,
        config: RawIngestConfig,
        *,
        butler: Butler,
        on_success: Callable[[list[FileDataset]], Any] = _ignore,
        on_metadata_failure: Callable[[ResourcePath, Exception], Any] = _ignore,
        on_ingest_failure: Callable[[RawExposureData, Exception], Any] = _ignore,
        on_exposure_record: Callable[[Any], Any] = _ignore,
    ) -> None:
        self.config = config
        self.butler = butler
        self.universe = butler.dimensions
        self._on_success = on_success
        self._on_metadata_failure = on_metadata_failure
        self._on_ingest_failure = on_ingest_failure
        self._on_exposure_record = on_exposure_record

    def makeExposureRecord(self, obsInfo: Any, universe: Any, **kwargs: Any) -> Any:
        """Make the exposure's record; meant to be overridden."""
        return universe["exposure"].RecordClass(**{**rows(obsInfo)["exposure"], **kwargs})

    def run(
        self,
        files: Iterable[ResourcePath],
        *,
        pool: Any = None,
        run: str | None = None,
        file_filter: str = r"\.fit[s]?\b",
        group_files: bool = True,
        skip_existing_exposures: bool = False,
        update_exposure_records: bool = False,
        track_file_attrs: bool = True,
        search_indexes: bool = True,
        num_workers: int = 1,
        skip_ingest: bool = False,
    ) -> list[DatasetRef]:
        refs: list[DatasetRef] = []
        failures = 0
        for group in ResourcePath.findFileResources(files, file_filter, grouped=True):
            paths = [path.abspath() for path in group]
            read = [self._read(path) for path in paths]
            good = [file for file in read if file is not None]
            failures += len(read) - len(good)
            # Up to here nothing is written; an error now ends the whole run.
            for exposure in [self._expand(exposure) for exposure in self._group(good)]:
                try:
                    self._register(exposure, update=update_exposure_records)
                    datasets = self._ingest(exposure, run, track_file_attrs)
                except Exception as err:
                    self._on_ingest_failure(exposure, err)
                    failures += 1
                    if self.config.failFast:
                        raise
                else:
                    self._on_success(datasets)
                    refs += [ref for dataset in datasets for ref in dataset.refs]
        if failures:
            raise RuntimeError("Some failures encountered during ingestion")
        return refs

    def _read(self, file: ResourcePath) -> RawFileData | None:
        try:
            header = read_header(file)
            identity = instruments.identify(header, str(file))
            record = instruments.exposure_record(header, str(file))
            if not self.butler.query_dimension_records("instrument", instrument=identity.instrument, explain=False):
                raise LookupError(f"instrument {identity.instrument} is not registered")
        except Exception as err:
            self._on_metadata_failure(file, err)
            if self.config.failFast:
                raise RuntimeError(f"Problem extracting metadata for file {file}") from err
            return None
        data_id = DataCoordinate.standardize(
            instrument=identity.instrument,
            exposure=identity.exposure_id,
            detector=identity.detector,
            universe=self.universe,
        )
        return RawFileData(file, data_id, record)

    def _group(self, files: list[RawFileData]) -> list[RawExposureData]:
        groups: dict[DataCoordinate, list[RawFileData]] = {}
        for file in files:
            groups.setdefault(file.dataId.subset(["exposure"]), []).append(file)
        exposures = []
        for data_id, members in groups.items():
            told = members[0].obsInfo
            dependencies = rows(told)
            del dependencies["exposure"]
            record = self.makeExposureRecord(told, self.universe)
            exposures.append(RawExposureData(data_id, members, record, dependencies))
        return exposures

    def _expand(self, exposure: RawExposureData) -> RawExposureData:
        expand = self.butler.registry.expandDataId
        known = {
            "exposure": exposure.record,
            **{name: self.universe[name].RecordClass(**row) for name, row in exposure.dependencyRecords.items()},
        }
        exposure.dataId = expand(exposure.dataId, records=known)
        for file in exposure.files:
            file.dataId = expand(file.dataId, records=dict(exposure.dataId.records))
        return exposure

    def _register(self, exposure: RawExposureData, *, update: bool) -> None:
        sync = self.butler.registry.syncDimensionData
        for name, row in exposure.dependencyRecords.items():
            sync(name, row, update=update)
        if sync("exposure", exposure.record, update=update):
            self._on_exposure_record(exposure.record)

    def _ingest(self, exposure: RawExposureData, run: str | None, track_file_attrs: bool) -> list[FileDataset]:
        camera = instruments.get(exposure.record.instrument)
        kind = DatasetType(
            camera.raw_type, ("instrument", "exposure", "detector"), camera.raw_storage_class, universe=self.universe
        )
        self.butler.registry.registerDatasetType(kind)
        run = run or camera.raw_run
        self.butler.collections.register(run)
        datasets = [
            FileDataset(
                file.filename,
                DatasetRef(kind, file.dataId, run, id_generation_mode=DatasetIdGenEnum.DATAID_TYPE_RUN),
                formatter=named_formatter(camera.raw_formatter),
            )
            for file in exposure.files
        ]
        self.butler.ingest(*datasets, transfer=self.config.transfer, record_validation_info=track_file_attrs)
        return datasets
