"""The lives of files in every state, told from real servers."""

from __future__ import annotations

import asyncio
import json
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from redis.asyncio import Redis

from autoingest.butler.create import create_repository
from autoingest.butler.engine import IngestFile
from autoingest.butler.native import NativeEngine
from autoingest.queue import keys
from autoingest.queue.operator_log import note
from autoingest.queue.work import Done, WorkQueue
from testing import exposures
from testing.command import run
from testing.redis import claim_of, put

OBS_ID = exposures.obs_id(1)


@dataclass
class Scene:
    """An exposure whose files are in different states."""

    config: str
    paths: dict[str, str]
    """By state."""
    client: Redis

    async def explain(self, *words: str) -> tuple[int, str]:
        result = await asyncio.to_thread(run, "explain", *words, "--config", self.config)
        return result.exit_code, result.output


@pytest.fixture
async def scene(redis_client: Redis, valkey_url: str, tmp_path: Path, s3_bucket: str, s3_client: Any) -> Scene:
    repo = str(tmp_path / "repo")
    create_repository(repo, cameras=["LSSTCam"])
    states = ("ingested", "queued", "dead", "not announced", "not in the store", "waiting")
    files: dict[str, IngestFile] = {}
    for state, file in zip(states, exposures.files(1, [94, 95, 96, 97, 98, 99]), strict=True):
        path = f"{s3_bucket}/{file.path.partition('/')[2]}"
        files[state] = replace(file, path=path, url=f"s3://{path}")
    for state, file in files.items():
        key = file.path.partition("/")[2]
        if state != "not in the store":
            s3_client.put_object(Bucket=s3_bucket, Key=key.replace(".fits", ".json"), Body=json.dumps(file.header))
            s3_client.put_object(Bucket=s3_bucket, Key=key, Body=b"pixels")
    with closing(NativeEngine(repo)) as engine:
        engine.ingest([files["ingested"], files["not in the store"]])
    paths = {state: file.path for state, file in files.items()}
    queue = WorkQueue(redis_client, s3_bucket, "worker-1", 60)
    for state in ("ingested", "dead", "waiting", "queued"):
        await put(redis_client, paths[state], bucket=s3_bucket, size=6, created=1.25)
    await queue.claim(3)

    async def claim(state: str) -> Any:
        return await claim_of(redis_client, paths[state])

    await queue.ingested([Done(await claim("ingested"), "e", 6, "LSSTCam", "20250714", OBS_ID)])
    await queue.give_up(await claim("dead"), "crash", "the Butler process ended by exit code 3")
    await queue.defer(await claim("waiting"), 3600, None)
    async with redis_client.pipeline(transaction=True) as step:
        note(step, "requeued", s3_bucket, [paths["dead"]], why="try again")
        await step.execute()
    config = tmp_path / "site.yaml"
    config.write_text(yaml.safe_dump({"buckets": [s3_bucket], "redis": {"url": valkey_url}, "ingest": {"repo": repo}}))
    return Scene(str(config), paths, redis_client)


async def test_every_state_of_an_exposure(scene: Scene) -> None:
    code, output = await scene.explain(OBS_ID, "--json")
    assert code == 1
    [life] = json.loads(output)
    assert {file["path"]: file["state"] for file in life["files"]} == {
        path: state for state, path in scene.paths.items()
    }
    commands = {file["state"]: file["command"] for file in life["files"]}
    assert commands["ingested"] == ""
    assert commands["dead"] == f"autoingest queue requeue {scene.paths['dead']}"
    assert commands["not announced"].startswith(f"autoingest trigger {OBS_ID}_")
    assert (life["visit"], life["obs_id"]) == ("defined", OBS_ID)
    code, output = await scene.explain(OBS_ID)
    for state in scene.paths:
        assert f"1 {state}: R" in output
    assert max(len(line) for line in output.splitlines() if "next:" not in line) <= 80


async def test_life_of_a_dead_letter(scene: Scene) -> None:
    path = scene.paths["dead"]
    for name in (path, f"s3://{path}", path.rpartition("/")[2].removesuffix(".fits")):
        code, output = await scene.explain(name)
        assert code == 1
        assert f"{path}: dead" in output
    lines = output.splitlines()
    order = ["announced by the store", "received, and put on the queue", "written to the store: 6 bytes", "requeued by"]
    places = [next(number for number, line in enumerate(lines) if text in line) for text in order]
    assert places == sorted(places)
    assert "given up (crash): the Butler process ended by exit code 3" in output
    assert "try again" in output
    assert f"OBSID     {OBS_ID}" in output
    assert f"next: autoingest queue requeue {path}" in output


async def test_an_image_that_is_in_the_butler(scene: Scene) -> None:
    code, output = await scene.explain(scene.paths["ingested"])
    assert code == 0, output
    assert "in the Butler" in output
    assert "next:" not in output


async def test_header_that_can_not_be_read(scene: Scene) -> None:
    code, output = await scene.explain(scene.paths["not in the store"])
    assert (code, "can't be read" in output) == (1, True)


@pytest.mark.parametrize("name", ["MC_O_20201231_000010", "MC_O_20201231_000010_R22_S11"])
async def test_nothing_is_known(scene: Scene, name: str) -> None:
    code, output = await scene.explain(name)
    assert (code, output.startswith(f"nothing is known of {name}")) == (1, True)


async def test_records_of_a_wrong_type(scene: Scene) -> None:
    for state in ("not announced", "ingested"):
        await scene.client.delete(keys.file(scene.paths[state]))
        await scene.client.set(keys.file(scene.paths[state]), "x")
    code, output = await scene.explain(OBS_ID)
    assert (code, "Traceback" in output) == (1, False)
