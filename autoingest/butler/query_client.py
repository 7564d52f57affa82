"""What a Butler holds, asked in a process of its own: see `autoingest.butler.process` for why."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Literal

from ..app.config import Grouping, IngestConfig, LoggingConfig
from ..errors import AutoingestError, TransientError
from ..model.objects import ExposureObject
from .channel import SIZE_BYTES, Started, pack, send, unpack, unpack_size
from .process import environment

TIMEOUT = 120.0
"""Seconds that the Butler may take for one question: a day's exposures, or the datasets of some exposures."""


@dataclass(frozen=True, slots=True)
class HeldExposure:
    """What the Butler holds of an exposure."""

    instrument: str
    exposure_id: int
    obs_id: str
    files: dict[str, int]
    """Bytes by path, ``{bucket}/{key}``, of its datasets' files; negative where they are not recorded."""
    detectors: frozenset[tuple[str, bool]]
    """Full name of each detector that has a dataset, and whether that is of the guider's kind."""
    visit: Literal["defined", "owed", "none"]
    """``none``: the exposure is to be no visit."""

    def holds(self, obj: ExposureObject, size: int) -> bool:
        """Tell whether an object is in, as it is now; one that has been replaced by another of other size is not.

        It also counts as in if its dataset is in from another object: the Butler would take no second one.
        """
        recorded = self.files.get(obj.path)
        if recorded is None:
            return obj.raft_sensor is not None and (obj.raft_sensor, obj.is_guider) in self.detectors
        return recorded < 0 or recorded == size


@dataclass(frozen=True, slots=True)
class HoldingsSetup:
    """First message to the process; answered by `Started`."""

    repo: str
    visits: Grouping
    logging: LoggingConfig
    owner: int
    """Process id of the owner."""


@dataclass(frozen=True, slots=True)
class OfDay:
    """Asks for the obs_ids of a day."""

    instrument: str
    day_obs: int


@dataclass(frozen=True, slots=True)
class ObsIds:
    """Answers `OfDay`."""

    obs_ids: list[str]


@dataclass(frozen=True, slots=True)
class OfExposures:
    """Asks for exposures."""

    instrument: str
    obs_ids: list[str]


@dataclass(frozen=True, slots=True)
class Held:
    """Answers `OfExposures`, with those that the Butler knows."""

    exposures: list[HeldExposure]


class ButlerReader:
    """Asks the process; one question at a time."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._turn = asyncio.Lock()

    async def obs_ids(self, instrument: str, day_obs: int) -> list[str]:
        """Return the names of a day's exposures that the Butler knows.

        Raises
        ------
        TransientError
            If the database is away or does not answer.
        """
        answer: ObsIds = await self._ask(OfDay(instrument, day_obs), ObsIds)
        return answer.obs_ids

    async def exposures(self, instrument: str, obs_ids: Sequence[str]) -> dict[str, HeldExposure]:
        """Return what the Butler holds of exposures, by obs_id; nothing of those that it does not know.

        Raises
        ------
        TransientError
            As `obs_ids` does.
        """
        answer: Held = await self._ask(OfExposures(instrument, list(obs_ids)), Held)
        return {exposure.obs_id: exposure for exposure in answer.exposures}

    async def _ask(self, question: object, kind: type) -> Any:
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            async with self._turn, asyncio.timeout(TIMEOUT):
                await send(process.stdin, pack(question))
                size = unpack_size(await process.stdout.readexactly(SIZE_BYTES))
                answer = unpack(await process.stdout.readexactly(size), kind)
        except TimeoutError:
            raise TransientError(f"the Butler did not answer within {TIMEOUT:g} s") from None
        except (asyncio.IncompleteReadError, ConnectionError):
            raise TransientError("the process that asks the Butler died; its log says why") from None
        if isinstance(answer, AutoingestError):
            raise answer
        return answer


@asynccontextmanager
async def open_reader(config: IngestConfig, logging: LoggingConfig) -> AsyncIterator[ButlerReader]:
    """Open a repository for questions; the process is killed at the end.

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
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", "autoingest.butler.query_process",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, start_new_session=True, env=environment(),
    )  # fmt: skip
    try:
        reader = ButlerReader(process)
        await reader._ask(HoldingsSetup(config.repo, config.visits, logging, os.getpid()), Started)
        yield reader
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
