"""A test double of `lsst.obs.lsst`: `ingest_guider`. What it is and is not, the double of `lsst.obs.base` says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from autoingest import instruments
from autoingest.butler.formatters import GUIDER_FORMATTER, named_formatter
from lsst.daf.butler import Butler, DataCoordinate, DatasetIdGenEnum, DatasetRef, DatasetType, FileDataset
from lsst.obs.base.raws import read_header
from lsst.resources import ResourcePath

__all__ = ["ingest_guider"]


def _ignore(*args: Any) -> None:
    pass


def ingest_guider(
    butler: Butler,
    locations: Sequence[ResourcePath],
    *,
    file_filter: str = r".*SG.*_guider\.fits$",
    group_files: bool = True,
    run: str | None = None,
    transfer: str = "auto",
    register_dataset_type: bool = False,
    track_file_attrs: bool = True,
    on_success: Callable[[list[FileDataset]], Any] = _ignore,
    on_metadata_failure: Callable[[ResourcePath, Exception], Any] = _ignore,
    on_undefined_exposure: Callable[[ResourcePath, str], Any] = _ignore,
    on_ingest_failure: Callable[[list[FileDataset], Exception], Any] = _ignore,
    fail_fast: bool = False,
) -> list[DatasetRef]:
    kind = DatasetType("guider_raw", ("instrument", "exposure", "detector"), "Stamps", universe=butler.dimensions)
    if register_dataset_type:
        butler.registry.registerDatasetType(kind)
    else:
        butler.get_dataset_type("guider_raw")  # MissingDatasetTypeError
    refs: list[DatasetRef] = []
    missing = 0
    for group in ResourcePath.findFileResources(locations, file_filter, grouped=True):
        files = list(group)
        told = {}
        for file in files:
            try:
                told[file] = instruments.identify_guider(read_header(file), str(file))
            except Exception as err:
                on_metadata_failure(file, err)
        datasets = []
        for file, identity in told.items():
            exposures = butler.query_dimension_records(
                "exposure",
                where="exposure.obs_id = wanted",
                bind={"wanted": identity.obs_id},
                instrument=identity.instrument,
                explain=False,
            )
            if not exposures:
                on_undefined_exposure(file, identity.obs_id)
                continue
            output = run or f"{identity.instrument}/raw/guider"
            butler.collections.register(output)
            data_id = DataCoordinate.standardize(
                instrument=identity.instrument,
                exposure=exposures[0].id,
                detector=identity.detector,
                universe=butler.dimensions,
            )
            ref = DatasetRef(kind, data_id, output, id_generation_mode=DatasetIdGenEnum.DATAID_TYPE_RUN)
            datasets.append(FileDataset(file, ref, formatter=named_formatter(GUIDER_FORMATTER)))
        if datasets:
            try:
                butler.ingest(*datasets, transfer=transfer, record_validation_info=track_file_attrs)
            except Exception as err:
                on_ingest_failure(datasets, err)
                datasets = []
            else:
                on_success(datasets)
        refs += [ref for dataset in datasets for ref in dataset.refs]
        missing += len(files) - len(datasets)
    if missing:
        raise RuntimeError(f"Failed to ingest {missing} files.")
    return refs
