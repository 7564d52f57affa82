"""What a Butler has, asked in a process of its own: see `autoingest.butler.child_process` for why."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from ..app.config import IngestConfig, LoggingConfig
from ..model.checks import Check
from .channel import pack
from .child_process import ChildProcess
from .messages import (
    ButlerExposure,
    Examine,
    Examined,
    FindExposures,
    FindGroup,
    FoundExposures,
    ListObsIds,
    ObsIds,
    Setup,
)


class ButlerReader:
    """Asks a process one question at a time; it is started for the first one, and replaced if it fails to answer.

    Parameters
    ----------
    config
        Repository, and how visits are grouped.
    logging
        The process logs as this one does.
    """

    def __init__(self, config: IngestConfig, logging: LoggingConfig) -> None:
        setup = Setup(config.repo, config.visits, config.differing_metadata, logging, os.getpid(), config.instruments)
        self._process = ChildProcess("reader", setup)
        self._turn = asyncio.Lock()

    async def open(self) -> None:
        """Start the process, and open the repository.

        Raises
        ------
        ConfigurationError
            If the repository can't be used.
        TransientError
            If its database is away.
        """
        async with self._turn:
            await self._process.open()

    async def close(self) -> None:
        """End the process."""
        await self._process.close()

    async def obs_ids(self, instrument: str, day_obs: int) -> list[str]:
        """Return the names of a day's exposures that the Butler knows.

        Raises
        ------
        TransientError
            If the database is away or does not answer.
        """
        answer: ObsIds = await self._ask(ListObsIds(instrument, day_obs), ObsIds)
        return answer.obs_ids

    async def exposures(self, instrument: str, obs_ids: Sequence[str]) -> dict[str, ButlerExposure]:
        """Return what the Butler has of exposures, by obs_id; nothing of those that it does not know.

        Raises
        ------
        TransientError
            As `obs_ids` does.
        """
        answer: FoundExposures = await self._ask(FindExposures(instrument, list(obs_ids)), FoundExposures)
        return {exposure.obs_id: exposure for exposure in answer.exposures}

    async def group(self, instrument: str, group: str) -> list[ButlerExposure]:
        """Return what the Butler has of the exposures of a group.

        Raises
        ------
        TransientError
            As `obs_ids` does.
        """
        answer: FoundExposures = await self._ask(FindGroup(instrument, group), FoundExposures)
        return answer.exposures

    async def checks(self) -> list[Check]:
        """Return whether the repository is fit for ingest; raises as `obs_ids` does."""
        answer: Examined = await self._ask(Examine(), Examined)
        return answer.checks

    async def _ask(self, question: ListObsIds | FindExposures | FindGroup | Examine, kind: type) -> Any:
        async with self._turn:
            await self._process.open()
            return await self._process.call(pack(question), question.timeout, kind)


@asynccontextmanager
async def open_reader(config: IngestConfig, logging: LoggingConfig) -> AsyncIterator[ButlerReader]:
    """Open a repository for questions, in a process that ends with the context.

    Parameters
    ----------
    config
        Repository, and how visits are grouped.
    logging
        The process logs as this one does.

    Raises
    ------
    ConfigurationError
        If the repository can't be used.
    TransientError
        If its database is away.
    """
    reader = ButlerReader(config, logging)
    try:
        await reader.open()
        yield reader
    finally:
        await reader.close()
