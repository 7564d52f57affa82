"""Asking the Butler in a process of its own."""

from __future__ import annotations

import os
import signal
from contextlib import closing
from dataclasses import replace

import pytest

from autoingest.app.config import IngestConfig, LoggingConfig
from autoingest.butler.messages import ListObsIds
from autoingest.butler.native import NativeEngine
from autoingest.butler.reader import ButlerReader, open_reader
from autoingest.errors import ConfigurationError, TransientError
from testing import exposures

from .conftest import Repository

pytestmark = pytest.mark.parametrize("repository", ["sqlite"], indirect=True)


def config(repository: Repository) -> IngestConfig:
    return IngestConfig(repo=repository.root)


def stop(reader: ButlerReader) -> None:
    assert reader._process.pid
    os.kill(reader._process.pid, signal.SIGSTOP)


async def test_late_answer_is_not_taken_for_the_next_one(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(NativeEngine(repository.root)) as engine:
        engine.ingest(exposures.files(1, [94]))
    async with open_reader(config(repository), LoggingConfig()) as reader:
        stop(reader)
        with monkeypatch.context() as patch:
            patch.setattr(
                "autoingest.butler.reader.ListObsIds", lambda *question: replace(ListObsIds(*question), timeout=0.1)
            )
            with pytest.raises(TransientError, match=r"took longer than 0\.1 s"):
                await reader.obs_ids("LSSTCam", exposures.DAY_OBS)
        assert await reader.obs_ids("LSSTCam", exposures.DAY_OBS + 1) == []
        found = await reader.exposures("LSSTCam", [exposures.obs_id(1)])
        assert found[exposures.obs_id(1)].visit == "defined"


async def test_dead_process_is_replaced(repository: Repository) -> None:
    async with open_reader(config(repository), LoggingConfig()) as reader:
        assert reader._process.pid
        os.kill(reader._process.pid, signal.SIGKILL)
        await reader._process._process.wait()  # type: ignore[union-attr]
        assert await reader.obs_ids("LSSTCam", exposures.DAY_OBS) == []


async def test_answer_that_is_too_long_ends_the_process(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_reader(config(repository), LoggingConfig()) as reader:
        with monkeypatch.context() as patch:
            patch.setattr("autoingest.butler.child_process.LONGEST_ANSWER", 10)
            with pytest.raises(TransientError, match="makes no sense"):
                await reader.obs_ids("LSSTCam", exposures.DAY_OBS)
        assert await reader.obs_ids("LSSTCam", exposures.DAY_OBS) == []


async def test_instruments_of_a_site_are_known_to_it(repository: Repository) -> None:
    described = config(repository).model_copy(update={"instruments": ("/nowhere/annex.yaml",)})
    with pytest.raises(ConfigurationError, match=r"/nowhere/annex\.yaml"):
        async with open_reader(described, LoggingConfig()):
            pass
