"""Headers of images: from the JSON sidecar if there is one, else from the first bytes of the FITS file.

Requests per image: one if it has a sidecar and the notification gave its size; one more (HEAD) if the size is unknown;
two without a sidecar: the sidecar's 404, and one range of the FITS file, whose answer gives the size.

A sidecar that matches the key is trusted without reading the image, as the official tools do. If it does not match, or
can't be read or used, the image's own header is read. An image that does not match its key either is not ingested.

Whether an image is unreadable or the store is away is decided by whether anything else in its bucket can be read.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Literal

import obstore
import orjson
import structlog
from obstore.exceptions import BaseError, PreconditionError
from obstore.store import S3Store

from ..errors import AutoingestError, MetadataError, MissingObjectError, TransientError, UnreadableObjectError
from ..model.objects import ExposureObject, LfaObject, bare_etag
from .availability import Availability
from .failure import Failure, explain
from .fits import parse_headers
from .key_check import contradiction
from .profiles import open_store

if TYPE_CHECKING:
    from obstore import GetOptions, ObjectMeta

logger = structlog.get_logger(__name__)

FIRST_RANGE = 32 * 1024
"""Bytes of the first request for a FITS file; the primary and first extension header of an LSSTCam raw take 20 kB."""

LARGEST_HEADER = 2**20
"""Maximum size in bytes of a header: 13,107 cards."""

LARGEST_SIDECAR = 2**20
"""Maximum size in bytes of a sidecar."""

SIDECAR_TIMEOUT = timedelta(seconds=2)
"""Time limit for the sidecar; after that the image is read without it."""

READ_TIMEOUT = timedelta(seconds=10)
"""Time limit for all requests of one image."""

RESTARTS = 3
"""Number of times that an image is read again because it was replaced while being read."""

_HIERARCH = "HIERARCH."
_MODE = "__CONTENT__"
_IDENTITY = ("OBSID", "IMGNAME", "FILENAME", "INSTRUME")
"""Every header of an exposure has at least one of these cards."""
_VALUES = {str, int, float, bool, type(None)}


@dataclass(frozen=True, slots=True)
class ObjectHeader:
    """The header of one image."""

    path: str
    header: dict[str, object]
    """Values by keyword, without commentary: those of the primary header, overridden by the first extension's if the
    primary has no data. A sidecar has only the primary's. Undefined values are `None`."""
    size: int
    """Size of the image object in bytes."""
    source: Literal["sidecar", "fits"]
    etag: str | None
    """eTag, without quotes, of the version of the image that the store served. None if the image was not requested
    (it has a sidecar, and the notification gave its size): then the eTag of the notification applies."""


class HeaderReader:
    """Reads headers concurrently.

    Parameters
    ----------
    concurrency
        Maximum number of images read concurrently from each bucket.
    """

    def __init__(self, concurrency: int) -> None:
        self._concurrency = concurrency
        self._buckets: dict[str, _Bucket] = {}

    async def read(
        self, obj: ExposureObject | LfaObject, size: int | None, *, use_sidecar: bool = True
    ) -> ObjectHeader:
        """Read one image's header.

        Parameters
        ----------
        obj
            The image.
        size
            Its size in bytes, if known. A size of 0 is not trusted, since senders also write it for multipart uploads
            and copies.
        use_sidecar
            Whether to use a sidecar if there is one.

        Raises
        ------
        MissingObjectError
            If the image isn't in its bucket.
        MetadataError
            If neither the sidecar nor the image has a header, or the header is of another image than the key names.
        UnreadableObjectError
            If the store does not serve the image although it serves other objects of the bucket.
        TransientError
            If nothing in the bucket can be read (the store is away, overloaded or refuses access), or if credentials,
            clock or bucket are wrong: an operator must fix that, and the image is not to blame. Detected within about
            ten seconds.
        ConfigurationError
            If the bucket's endpoint is not configured.

        Notes
        -----
        An image that was waiting for its turn when the store was found to be away is not requested, so that a batch
        detects an outage as fast as a single image.
        """
        bucket = self._bucket(obj.bucket)
        async with bucket.slots:
            if why := bucket.availability.away():
                raise TransientError(f"{why}: {obj.path} was not tried", path=obj.path)
            started = time.monotonic()
            try:
                async with asyncio.timeout(READ_TIMEOUT.total_seconds()):
                    return await bucket.read(obj, size, use_sidecar)
            except _FailedError as err:
                raise await bucket.verdict(obj, err.failure, started) from err.__cause__
            except TimeoutError:
                failure = Failure("passing", "the store did not answer in time")
                raise await bucket.verdict(obj, failure, started) from None
            except AutoingestError:
                raise
            except Exception as err:  # whatever the error is, it concerns this file only
                logger.exception("header can't be read", path=obj.path)
                raise MetadataError(f"{obj.path}: {type(err).__name__}: {err}", path=obj.path) from err

    def unready_reasons(self) -> list[str]:
        """Return the buckets from which nothing can be read, each with the reason."""
        return [
            f"bucket {name}: {why}" for name, bucket in self._buckets.items() if (why := bucket.availability.trouble())
        ]

    def _bucket(self, name: str) -> _Bucket:
        bucket = self._buckets.get(name)
        if bucket is None:
            bucket = self._buckets[name] = _Bucket(name, self._concurrency)
        return bucket


class _FailedError(Exception):
    """A request for the image failed."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.text)
        self.failure = failure


class _Bucket:
    """Reads from one bucket; its outage does not affect other buckets."""

    def __init__(self, name: str, concurrency: int) -> None:
        self._prefix = len(name) + 1
        self._store: S3Store = open_store(name)
        self.slots = asyncio.Semaphore(concurrency)
        self.availability = Availability(self._store)

    async def read(self, obj: ExposureObject | LfaObject, size: int | None, use_sidecar: bool) -> ObjectHeader:
        if isinstance(obj, LfaObject):
            return await self._fits(obj.path)
        unusable = None
        if use_sidecar:
            known: tuple[int | None, str | None] = (size, None)
            if size:
                sidecar = await self._sidecar(obj)
            else:
                sidecar, known = await asyncio.gather(self._sidecar(obj), self._head(obj.path))
            if isinstance(sidecar, dict):
                unusable = contradiction(sidecar, obj)
                if unusable is None and known[0]:
                    return ObjectHeader(obj.path, sidecar, known[0], "sidecar", known[1])
            else:
                unusable = sidecar
        found = await self._fits(obj.path)
        if unusable:
            logger.warning("sidecar can't be used, the image was read", path=obj.sidecar, why=unusable)
        if why := contradiction(found.header, obj):
            raise MetadataError(f"{obj.path}: {why}", path=obj.path)
        return found

    async def verdict(self, obj: ExposureObject | LfaObject, failure: Failure, started: float) -> AutoingestError:
        """Decide whether the image or the store is to blame for a failure."""
        path, text = obj.path, f"{obj.path}: {failure.text}"
        if failure.kind == "missing" and failure.code == "NoSuchKey":
            return MissingObjectError(f"{path} is not in the store", path=path)
        keys = [path[self._prefix :]]
        if isinstance(obj, ExposureObject):
            keys.append(obj.sidecar[self._prefix :])
        away = await self.availability.is_away(keys, failure.text, started)
        if away or failure.kind == "site":
            return TransientError(text, path=path)
        if failure.kind == "missing":
            return MissingObjectError(f"{path} is not in the store", path=path)
        return UnreadableObjectError(
            f"{text}; other objects of the bucket can be read", passing=failure.kind == "passing", path=path
        )

    async def _sidecar(self, obj: ExposureObject) -> dict[str, object] | str | None:
        """Return the sidecar's cards, or why it can't be used, or `None` if there is none or it is not visible."""
        key = obj.sidecar[self._prefix :]
        try:
            async with asyncio.timeout(SIDECAR_TIMEOUT.total_seconds()):
                result = await obstore.get_async(self._store, key)
                if result.meta["size"] > LARGEST_SIDECAR:
                    return f"it has {result.meta['size']} bytes, more than {LARGEST_SIDECAR}"
                body = await result.bytes_async()
        except FileNotFoundError:
            return None
        except TimeoutError:
            return "the store did not answer in time"
        except (BaseError, ValueError) as err:
            failure = explain(err)
            # Without permission to list the bucket, the answer for a missing object is 403.
            return None if failure.status == 403 else failure.text
        self.availability.served(key)
        return _cards(body.to_bytes())

    async def _fits(self, path: str) -> ObjectHeader:
        key = path[self._prefix :]
        data, size, etag = b"", FIRST_RANGE, None
        restarts = 0
        while len(data) < min(size, LARGEST_HEADER):
            options: GetOptions = {"range": (len(data), max(FIRST_RANGE, 2 * len(data)))}
            if etag and not etag.startswith("W/"):
                options["if_match"] = etag
            try:
                result = await obstore.get_async(self._store, key, options=options)
                more = (await result.bytes_async()).to_bytes()
            except (BaseError, FileNotFoundError, ValueError) as err:
                if data and isinstance(err, PreconditionError) and restarts < RESTARTS:
                    restarts += 1
                    data, size, etag = b"", FIRST_RANGE, None  # another version has arrived in the meantime
                    continue
                raise await self._failed(path, err) from err
            if not more:
                raise _FailedError(Failure("passing", "the store sends nothing, although there is more"))
            self.availability.served(key)
            data, size, etag = data + more, result.meta["size"], result.meta["e_tag"]
            try:
                header = parse_headers(data, complete=len(data) >= size)
            except MetadataError as err:
                raise MetadataError(f"{path}: {err}", path=path) from err
            if header is not None:
                return ObjectHeader(path, header, size, "fits", _etag(result.meta))
        raise MetadataError(f"{path}: its header does not end within {len(data)} bytes", path=path)

    async def _failed(self, path: str, error: Exception) -> Exception:
        failure = explain(error)
        if isinstance(error, ValueError):
            return MetadataError(f"{path}: not a key that can be requested from a store", path=path)
        # The answer for a range of an empty object looks like any other fault.
        if failure.status == 416 and (await self._head(path))[0] == 0:
            return MetadataError(f"{path} is empty", path=path)
        return _FailedError(failure)

    async def _head(self, path: str) -> tuple[int | None, str | None]:
        """Return an object's size and eTag; nothing if that fails: a request for its content will show the reason."""
        try:
            meta = await obstore.head_async(self._store, path[self._prefix :])
        except (BaseError, FileNotFoundError, ValueError):
            return None, None
        return meta["size"], _etag(meta)


def _cards(body: bytes) -> dict[str, object] | str:
    """Return the cards of a sidecar, or why it can't be used."""
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError as err:
        return f"it is not JSON: {err}"
    if not isinstance(content, dict) or content.pop(_MODE, "metadata") != "metadata":
        return "it holds no header"
    if not set(map(type, content.values())) <= _VALUES:
        return "it contains values that no card can have"
    names = "".join(content)
    if names != names.upper() or not any(name in content for name in _IDENTITY):
        return "it is not the header of an exposure"
    if _HIERARCH in names:
        for name in [name for name in content if name.startswith(_HIERARCH)]:
            content[name[len(_HIERARCH) :].replace(".", " ")] = content.pop(name)
    return content


def _etag(meta: ObjectMeta) -> str | None:
    """Return the eTag without quotes."""
    return bare_etag(meta["e_tag"] or "")
