"""A site without roles: a bucket, a repository, Redis, and a configuration file that names them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml

from autoingest.butler.create import create_repository
from autoingest.butler.engine import IngestFile
from autoingest.butler.native import NativeEngine
from testing import exposures
from testing.redis import texts


@dataclass
class Site:
    config: Path
    repo: str
    bucket: str
    s3: Any
    redis: redis.Redis

    def files(self, seq_num: int, detectors: Iterable[int] | None = None) -> list[IngestFile]:
        """Files of an exposure as they are in the store."""
        found = []
        for file in exposures.files(seq_num, detectors):
            path = file.path.replace(exposures.BUCKET, self.bucket)
            found.append(replace(file, path=path, url="s3://" + path))
        return found

    def put(self, files: Iterable[IngestFile]) -> None:
        """Write objects of the files' names and sizes."""
        for file in files:
            self.s3.put_object(Bucket=self.bucket, Key=file.path.partition("/")[2], Body=bytes(file.size))

    def put_text(self, key: str, text: str) -> None:
        self.s3.put_object(Bucket=self.bucket, Key=key, Body=text.encode())

    def ingest(self, files: list[IngestFile], visits: Any = "one-to-one") -> None:
        """Put files into the Butler."""
        engine = NativeEngine(self.repo, visits)
        result = engine.ingest(files)
        engine.close()
        assert {item.outcome for item in result.files} == {"ingested"}

    @property
    def queued(self) -> list[str]:
        """Paths on the queue, the next to be taken first."""
        return texts(self.redis.lrange(f"QUEUE:{self.bucket}", 0, -1))[::-1]

    def run(self, command: str, *options: str, code: int = 0) -> str:
        """Run a command of the program; return what it prints."""
        words = command.split()
        result = subprocess.run(
            [sys.executable, "-m", "autoingest", *words, "--config", str(self.config), *options],
            capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert result.returncode == code, f"{result.returncode}: {result.stderr} {result.stdout}"
        assert "Traceback" not in result.stderr
        return result.stdout if code != 2 else result.stderr

    def json(self, command: str, *options: str, code: int = 0) -> Any:
        return json.loads(self.run(command, *options, "--json", code=code))


@pytest.fixture(scope="session")
def made_repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with the cameras registered, to be copied."""
    folder = tmp_path_factory.mktemp("made") / "repo"
    create_repository(folder, cameras=["LSSTCam"])
    return folder


@pytest.fixture
def site(tmp_path: Path, valkey_url: str, s3_client: Any, s3_bucket: str, made_repository: Path) -> Iterator[Site]:
    repo = str(tmp_path / "repo")
    shutil.copytree(made_repository, repo)
    config = tmp_path / "site.yaml"
    config.write_text(yaml.safe_dump({"buckets": [s3_bucket], "redis": {"url": valkey_url}, "ingest": {"repo": repo}}))
    with redis.Redis.from_url(valkey_url, decode_responses=True) as client:
        client.flushall()
        yield Site(config, repo, s3_bucket, s3_client, client)
