"""Datasets: finds the dataset of a file, and ingests it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import structlog
from lsst.daf.butler import (
    Butler,
    DataCoordinate,
    DatasetIdGenEnum,
    DatasetRef,
    DatasetType,
    DimensionRecord,
    FileDataset,
)
from lsst.daf.butler.datastore.stored_file_info import StoredFileInfo

from .. import instruments
from ..errors import MetadataError
from . import private
from .engine import IngestFile
from .exposures import Exposure
from .formatters import GUIDER_FORMATTER, named_formatter
from .register import GUIDER_RAW, RAW_DIMENSIONS, run_name
from .resources import KnownObject

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class FileToIngest:
    """A file with its dataset."""

    file: IngestFile
    ref: DatasetRef
    resource: KnownObject


class Datasets:
    """Ingests files in direct mode.

    Parameters
    ----------
    butler
        The repository; dataset types and runs must exist.
    """

    def __init__(self, butler: Butler) -> None:
        self._butler = butler
        self._dimensions = butler.dimensions.conform(RAW_DIMENSIONS)
        self._types: dict[str, DatasetType] = {}
        self._detectors: dict[str, dict[int, DimensionRecord]] = {}

    def file_to_ingest(self, file: IngestFile, exposure: Exposure, detector: int) -> FileToIngest:
        """Find the dataset of a file.

        Raises
        ------
        MetadataError
            If the repository doesn't know the detector.
        """
        instrument = exposure.record.instrument
        detector_record = self.detector(instrument, detector)
        values = {"instrument": instrument, "exposure": exposure.record.id, "detector": detector}
        # With all records attached, the Butler needs no query to expand the data id.
        coordinate = DataCoordinate.from_required_values(
            self._dimensions, tuple(values[name] for name in self._dimensions.required)
        ).expanded({**exposure.coordinate.records, "detector": detector_record})
        name = GUIDER_RAW if file.is_guider else instruments.get(instrument).raw_type
        if name not in self._types:
            self._types[name] = self._butler.get_dataset_type(name)
        ref = DatasetRef(
            self._types[name],
            coordinate,
            run=run_name(name, instrument),
            id_generation_mode=DatasetIdGenEnum.DATAID_TYPE_RUN,
        )
        return FileToIngest(file, ref, KnownObject.of(file.url, file.size))

    def ingest(self, files: Sequence[FileToIngest]) -> dict[str, bool]:
        """Ingest files; within a transaction.

        Returns
        -------
        duplicates
            Paths of the files whose dataset existed already, each with whether its object has been replaced since.
        """
        new, duplicates = self.find_new(files)
        self._register([item.ref for item in new])
        private.record_files(self._butler, map(_file_dataset, new))
        return duplicates

    def _register(self, refs: Sequence[DatasetRef]) -> None:
        """Insert the datasets that the registry lacks.

        Datasets that another writer has committed since the look-up are a conflict.
        """
        known = {ref.id for ref in self._butler.get_many_datasets([ref.id for ref in refs])}
        runs: defaultdict[str, list[DatasetRef]] = defaultdict(list)
        for ref in refs:
            if ref.id not in known:
                runs[ref.run].append(ref)
        for run in sorted(runs):  # in the same order in every writer, so that writers do not deadlock
            private.insert_datasets(self._butler, runs[run])

    def find_new(self, files: Sequence[FileToIngest]) -> tuple[list[FileToIngest], dict[str, bool]]:
        """Find the files that the repository lacks; record the present size of the others.

        Returns
        -------
        new
            One file of each dataset that does not exist yet.
        duplicates
            Paths of all others, each with whether its object has been replaced by one of another size.
        """
        recorded = self.recorded([item.ref for item in files])
        new: dict[object, FileToIngest] = {}
        duplicates: dict[str, bool] = {}
        changed = []
        for item in files:
            if (first := new.get(item.ref.id)) is not None:
                stored_path, stored_size = str(first.resource), first.file.size
            elif (stored := recorded.get(item.ref.id)) is not None:
                stored_path, stored_size = stored.path, stored.file_size
            else:
                new[item.ref.id] = item
                continue
            duplicates[item.file.path] = False
            if stored_path != str(item.resource):
                log.warning("dataset is stored already, from another object", path=item.file.path, stored=stored_path)
            elif stored_size != item.file.size and stored_size >= 0:
                log.warning(
                    "object has changed size since its ingest",
                    path=item.file.path, size=item.file.size, recorded=stored_size,
                )  # fmt: skip
                duplicates[item.file.path] = True
                changed.append(item)
        if changed:
            private.record_files(self._butler, map(_file_dataset, changed))
        return list(new.values()), duplicates

    def recorded(self, refs: Sequence[DatasetRef]) -> dict[object, StoredFileInfo]:
        """Return the datastore's records of datasets, by dataset id."""
        return {dataset_id: record for _, dataset_id, record in private.file_records(self._butler, refs)}

    def detector(self, instrument: str, number: int) -> DimensionRecord:
        """Return a detector's record.

        Raises
        ------
        MetadataError
            If the repository doesn't know the detector.
        """
        if instrument not in self._detectors:
            records = self._butler.query_dimension_records("detector", instrument=instrument, explain=False)
            self._detectors[instrument] = {record.id: record for record in records}
        if number not in self._detectors[instrument]:
            raise MetadataError(f"detector {number} of {instrument} is not registered in the repository")
        return self._detectors[instrument][number]


def _file_dataset(item: FileToIngest) -> FileDataset:
    name = (
        GUIDER_FORMATTER if item.file.is_guider else instruments.get(str(item.ref.dataId["instrument"])).raw_formatter
    )
    return FileDataset(item.resource, item.ref, formatter=named_formatter(name))
