"""Answers what a Butler has, in a process of its own: see `autoingest.butler.reader`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Literal
from urllib.parse import unquote

from lsst.daf.butler import MissingCollectionError, MissingDatasetTypeError

from .. import instruments
from ..errors import TransientError
from .datasets import Datasets
from .examine import examine
from .messages import (
    Batch,
    ButlerExposure,
    DefineVisits,
    Examine,
    Examined,
    FindExposures,
    FindGroup,
    FoundExposures,
    ListObsIds,
    ObsIds,
    Setup,
)
from .outage import cause, is_outage
from .register import GUIDER_RAW, run_name
from .repository import open_repository
from .summary import summary
from .visits import Visits


class RepositoryReader:
    """Reads a repository.

    Parameters
    ----------
    setup
        The repository, and how exposures are grouped into visits.

    Raises
    ------
    ConfigurationError
        If there is no such repository.
    TransientError
        If its database is away.
    """

    def __init__(self, setup: Setup) -> None:
        self._repo = setup.repo
        self._butler = open_repository(setup.repo)
        self._datasets = Datasets(self._butler)
        self._visits = Visits(self._butler, setup.visits)

    def answer(
        self, request: Batch | DefineVisits | ListObsIds | FindExposures | FindGroup | Examine
    ) -> ObsIds | FoundExposures | Examined:
        """Return the answer to a question.

        Raises
        ------
        TransientError
            If the database is away.
        """
        try:
            match request:
                case ListObsIds(instrument, day_obs):
                    return ObsIds(self.obs_ids(instrument, day_obs))
                case FindExposures(instrument, obs_ids):
                    return FoundExposures(self.exposures(instrument, obs_ids))
                case FindGroup(instrument, group):
                    return FoundExposures(self.exposures(instrument, self.obs_ids_of_group(instrument, group)))
                case Examine():
                    return Examined(examine(self._butler))
        except Exception as err:
            if is_outage(err):
                raise TransientError(f"the Butler repository can't be read now: {cause(err)}") from err
            raise
        raise TypeError(f"a reader does not answer {type(request).__name__}")

    def obs_ids(self, instrument: str, day_obs: int) -> list[str]:
        """Return the names of a day's exposures."""
        with self._butler.query() as query:
            x = query.expression_factory
            query = query.where(x.instrument == instrument, x.exposure.day_obs == day_obs)
            return [record.obs_id for record in query.dimension_records("exposure")]

    def obs_ids_of_group(self, instrument: str, group: str) -> list[str]:
        """Return the names of a group's exposures."""
        with self._butler.query() as query:
            x = query.expression_factory
            query = query.where(x.instrument == instrument, x.group == group)
            return [record.obs_id for record in query.dimension_records("exposure")]

    def exposures(self, instrument: str, obs_ids: Sequence[str]) -> list[ButlerExposure]:
        """Return what the Butler has of exposures, in three or four queries for all of them."""
        if instrument not in instruments.names():
            return []
        with self._butler.query() as query:
            x = query.expression_factory
            of_names = query.where(x.instrument == instrument, x.exposure.obs_id.in_iterable(obs_ids))
            records = {record.id: record for record in of_names.dimension_records("exposure")}
            if not records:
                return []
            of_exposures = query.where(x.instrument == instrument, x.exposure.in_iterable(records))
            visits = {record.exposure for record in of_exposures.dimension_records("visit_definition")}
        files: defaultdict[int, dict[str, int]] = defaultdict(dict)
        detectors: defaultdict[int, set[tuple[str, bool]]] = defaultdict(set)
        camera = instruments.get(instrument)
        names = {detector.id: detector.name for detector in camera.detectors}
        for kind in (camera.raw_type, GUIDER_RAW) if camera.guiders else (camera.raw_type,):
            with self._butler.query() as query:
                x = query.expression_factory
                query = query.where(x.instrument == instrument, x.exposure.in_iterable(records))
                try:
                    refs = list(query.datasets(kind, run_name(kind, instrument), find_first=False))
                except (MissingDatasetTypeError, MissingCollectionError):
                    continue
            recorded = self._datasets.recorded(refs)
            for ref in refs:
                exposure = int(ref.dataId["exposure"])
                detectors[exposure].add((names[int(ref.dataId["detector"])], kind == GUIDER_RAW))
                if (stored := recorded.get(ref.id)) is not None:
                    files[exposure][unquote(stored.path).removeprefix("s3://")] = stored.file_size
        found = []
        for number, record in records.items():
            visit: Literal["defined", "owed", "none"] = "none"
            if self._visits.due(record):
                visit = "defined" if number in visits else "owed"
            found.append(
                ButlerExposure(
                    instrument,
                    number,
                    record.obs_id,
                    files[number],
                    frozenset(detectors[number]),
                    visit,
                    summary(record, self._visits, self._repo, visit),
                )
            )
        return found
