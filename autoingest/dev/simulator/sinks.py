"""Where simulated files go."""

from __future__ import annotations

import asyncio
import hashlib
import time
from pathlib import Path
from typing import Literal, Protocol

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError

from ...errors import ConfigurationError, TransientError
from ...store.profiles import open_store
from .notifier import SentFile


class Sink(Protocol):
    """Takes files."""

    async def put(self, key: str, body: bytes) -> SentFile:
        """Write a file.

        Raises
        ------
        TransientError
            If it can't be written now.
        ConfigurationError
            If the bucket or folder does not exist.
        """

    async def put_new(self, key: str, body: bytes) -> bool:
        """Write a file unless there is one; return whether it was written. Raises as `put` does."""


class BucketSink:
    """A bucket, ``bucket`` or ``profile@bucket``."""

    def __init__(self, bucket: str) -> None:
        self._bucket = bucket
        self._store = open_store(bucket)

    async def put(self, key: str, body: bytes) -> SentFile:
        """Write an object."""
        return await self._put(key, body, "overwrite")

    async def put_new(self, key: str, body: bytes) -> bool:
        """Write an object unless there is one; a store without conditional requests overwrites it."""
        try:
            await self._put(key, body, "create")
        except FileExistsError:
            return False
        return True

    async def _put(self, key: str, body: bytes, mode: Literal["create", "overwrite"]) -> SentFile:
        try:
            result = await obstore.put_async(self._store, key, body, use_multipart=False, mode=mode)
        except AlreadyExistsError as err:
            raise FileExistsError(key) from err
        except FileNotFoundError as err:
            raise ConfigurationError(f"there is no bucket {self._bucket}") from err
        except BaseError as err:
            raise TransientError(f"the store did not take {self._bucket}/{key}", path=key) from err
        return SentFile(f"{self._bucket}/{key}", len(body), (result["e_tag"] or "").strip('"'), time.time())


class DirectorySink:
    """A folder."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    async def put(self, key: str, body: bytes) -> SentFile:
        """Write a file atomically."""
        try:
            await asyncio.to_thread(self._write, self._directory / key, body)
        except OSError as err:
            raise ConfigurationError(f"{self._directory}: {err}") from err
        etag = hashlib.md5(body, usedforsecurity=False).hexdigest()
        return SentFile(str(self._directory / key), len(body), etag, time.time())

    async def put_new(self, key: str, body: bytes) -> bool:
        """Write a file unless there is one."""
        path = self._directory / key
        try:
            await asyncio.to_thread(self._create, path, body)
        except FileExistsError:
            return False
        except OSError as err:
            raise ConfigurationError(f"{self._directory}: {err}") from err
        return True

    @staticmethod
    def _create(path: Path, body: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            file.write(body)

    @staticmethod
    def _write(path: Path, body: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(path.name + ".partial")
        partial.write_bytes(body)
        partial.replace(path)
