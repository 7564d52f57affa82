"""Answers what a Butler holds: ``python -m autoingest.butler.query_process``, started by `query_client`."""

from __future__ import annotations

import os
import signal
import sys
from collections import defaultdict
from collections.abc import Sequence
from typing import Literal
from urllib.parse import unquote

import structlog
from lsst.daf.butler import Butler, MissingCollectionError, MissingDatasetTypeError

from .. import instruments
from ..app.config import Grouping
from ..app.log import configure_logging
from ..errors import AutoingestError, ConfigurationError, TransientError
from .channel import Started, die_with, read, write
from .datasets import Datasets
from .outage import cause, is_outage
from .query_client import Held, HeldExposure, HoldingsSetup, ObsIds, OfDay, OfExposures
from .repo import GUIDER_RAW, run_name
from .visits import Visits


class Holdings:
    """Reads a repository.

    Parameters
    ----------
    repo
        Directory, URL or label.
    visits
        How exposures are grouped into visits.

    Raises
    ------
    ConfigurationError
        If there is no such repository.
    TransientError
        If its database is away.
    """

    def __init__(self, repo: str, visits: Grouping) -> None:
        try:
            self._butler = Butler.from_config(repo)
        except Exception as err:
            if is_outage(err):
                raise TransientError(f"the Butler repository {repo!r} can't be opened now: {cause(err)}") from err
            raise ConfigurationError(
                f"the Butler repository {repo!r} can't be opened: {type(err).__name__}: {err}", repo=repo
            ) from err
        self._datasets = Datasets(self._butler)
        self._visits = Visits(self._butler, visits)

    def obs_ids(self, instrument: str, day_obs: int) -> list[str]:
        """Return the names of a day's exposures."""
        with self._butler.query() as query:
            x = query.expression_factory
            query = query.where(x.instrument == instrument, x.exposure.day_obs == day_obs)
            return [record.obs_id for record in query.dimension_records("exposure")]

    def exposures(self, instrument: str, obs_ids: Sequence[str]) -> list[HeldExposure]:
        """Return what is held of exposures, in three or four queries for all of them."""
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
        held = []
        for number, record in records.items():
            visit: Literal["defined", "owed", "none"] = "none"
            if self._visits.due(record):
                visit = "defined" if number in visits else "owed"
            held.append(
                HeldExposure(instrument, number, record.obs_id, files[number], frozenset(detectors[number]), visit)
            )
        return held


def main() -> None:
    """Answer questions from standard input until it is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Answers get a descriptor of their own; whatever a library prints goes to the log.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    setup: HoldingsSetup | None = read(sys.stdin.buffer, HoldingsSetup)
    if setup is None:
        return
    die_with(setup.owner)
    configure_logging(setup.logging)
    log = structlog.get_logger(__name__)
    try:
        holdings = Holdings(setup.repo, setup.visits)
    except AutoingestError as err:
        write(answers, err)
        return
    write(answers, Started(os.getpid()))
    while (question := read(sys.stdin.buffer, OfDay, OfExposures)) is not None:
        try:
            write(answers, _answer(holdings, question))
        except Exception as err:
            if not is_outage(err):
                log.exception("question to the Butler fails", question=repr(question)[:500])
                sys.exit(1)
            write(answers, TransientError(f"the Butler repository can't be read now: {cause(err)}"))


def _answer(holdings: Holdings, question: OfDay | OfExposures) -> ObsIds | Held:
    if isinstance(question, OfDay):
        return ObsIds(holdings.obs_ids(question.instrument, question.day_obs))
    return Held(holdings.exposures(question.instrument, question.obs_ids))


if __name__ == "__main__":
    main()
