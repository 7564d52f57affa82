"""The engine `stack` in its own process; what it must do like every engine is in ``test_contract.py``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from autoingest.app.config import IngestConfig, LoggingConfig
from autoingest.butler.process import ButlerProcess
from autoingest.errors import ConfigurationError
from testing import exposures
from testing.engines import OFFICIAL_TASKS, has_science_pipelines

from .conftest import Repository
from .contents import OpenButler, outcomes, stored


@pytest.fixture
async def processes(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[list[ButlerProcess]]:
    """Two processes of the engine, on the test double where the Science Pipelines are not installed."""
    if not has_science_pipelines():
        monkeypatch.setenv("PYTHONPATH", str(OFFICIAL_TASKS))
    config = IngestConfig(repo=repository.root, engine="stack")
    found = [ButlerProcess(config, LoggingConfig()) for _ in range(2)]
    await asyncio.gather(*(process.start() for process in found))
    yield found
    for process in found:
        await process.close()


@pytest.mark.parametrize("repository", ["postgres"], indirect=True)
async def test_two_processes_ingest_one_exposure(processes: list[ButlerProcess], open_butler: OpenButler) -> None:
    for seq_num in range(1, 3):
        files = [file for file in exposures.files(seq_num, range(90)) if not file.is_guider]
        # Each has some of its own, and both have the middle.
        results = await asyncio.gather(processes[0].ingest(files[:60], 60), processes[1].ingest(files[30:], 60))
        again = await processes[0].ingest(files, 60)
        assert outcomes(again) == {"ingested again": len(files)}
        assert {item.outcome for result in results for item in result.files} == {"ingested"}
        assert len(stored(open_butler(), seq_num)) == len(files)
        owed = [visit.exposure_id for result in results for visit in result.owed]
        assert owed == []
        assert len(open_butler().query_dimension_records("visit", instrument="LSSTCam")) == seq_num


@pytest.mark.skipif(has_science_pipelines(), reason="the Science Pipelines are installed")
async def test_without_the_science_pipelines(made_sqlite: str) -> None:
    process = ButlerProcess(IngestConfig(repo=str(made_sqlite), engine="stack"), LoggingConfig())
    with pytest.raises(ConfigurationError, match=r"obs_lsst.*ingest\.engine.*native"):
        await process.start()
    assert "obs_lsst" in (process.unready_reason() or "")
