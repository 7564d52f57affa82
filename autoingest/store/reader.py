"""Headers of images: from the JSON sidecar if there is one, else from the first bytes of the FITS file.

Requests of one image: one if it has a sidecar and the notification told its size; one more (HEAD) if the size is
unknown; without sidecar two, the sidecar's 404 and one range of the FITS file, whose answer tells the size.

A sidecar that agrees with the key is believed, as the official tools do, without a look at the image. One that does not
is another image's, and the image decides; an image that does not agree with its key either is not ingested.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import obstore
import orjson
import structlog
from obstore.exceptions import BaseError, GenericError, PermissionDeniedError, UnauthenticatedError
from obstore.store import S3Store

from ..errors import AutoingestError, MetadataError, MissingObjectError, TransientError
from ..objects import ExposureObject, LfaObject, bare_etag
from .agreement import contradiction
from .fits import parse_headers
from .profiles import open_store

if TYPE_CHECKING:
    from obstore import ObjectMeta

logger = structlog.get_logger(__name__)

FIRST_RANGE = 32 * 1024
"""Bytes of the first request for a FITS file: an LSSTCam raw's primary and first extension header take 20 kB."""

LARGEST_HEADER = 4 * 2**20
"""Bytes after which a header that has not ended is not believed to be one."""

_HIERARCH = "HIERARCH."
_MODE = "__CONTENT__"


@dataclass(frozen=True, slots=True)
class ObjectHeader:
    """The header of one image."""

    path: str
    header: dict[str, object]
    """Values by keyword, without commentary: the primary header's, and if the primary holds no data the first
    extension's over them. A sidecar has the primary's only. Undefined values are `None`."""
    size: int
    """Bytes of the image object."""
    source: Literal["sidecar", "fits"]
    etag: str | None
    """eTag of the version of the image that the store served, without quotes. None if the image was not asked for
    (it has a sidecar, and its notification told the size): then the eTag of the notification stands."""


class HeaderReader:
    """Reads headers, many at a time.

    Parameters
    ----------
    concurrency
        Images under way at once.
    """

    def __init__(self, concurrency: int) -> None:
        self._concurrency = concurrency
        self._slots = asyncio.Semaphore(concurrency)
        self._stores: dict[str, S3Store] = {}
        self._failures = 0

    async def read(self, obj: ExposureObject | LfaObject, size: int | None) -> ObjectHeader:
        """Read one image's header.

        Parameters
        ----------
        obj
            The image.
        size
            Its size in bytes, if known. A size of 0 is not believed, as senders write it for multipart uploads and
            copies, too.

        Raises
        ------
        MissingObjectError
            If the image isn't in its bucket.
        MetadataError
            If neither sidecar nor image hold a header, or the header is that of another image than the key names.
        TransientError
            If the store is away, overloaded, or refuses access: that is for an operator to mend, and no fault of the
            image. Known within about ten seconds.
        ConfigurationError
            If nothing says where the bucket is.

        Notes
        -----
        An image that waited while as many others as may be under way at once failed in a row is not tried: a batch
        learns of an outage as fast as one image does.
        """
        before = self._failures
        async with self._slots:
            if self._failures - before >= self._concurrency:
                raise TransientError(f"the store is away: {obj.path} was not tried", path=obj.path)
            try:
                header = await self._read(obj, size)
            except TransientError:
                self._failures += 1
                raise
            self._failures = 0
            return header

    async def _read(self, obj: ExposureObject | LfaObject, size: int | None) -> ObjectHeader:
        if isinstance(obj, ExposureObject):
            if size:
                header, known, etag = await self._sidecar(obj), size, None
            else:
                header, (known, etag) = await asyncio.gather(self._sidecar(obj), self._head(obj.path))
            if header is not None and known:
                if (why := contradiction(header, obj)) is None:
                    return ObjectHeader(obj.path, header, known, "sidecar", etag)
                logger.warning("sidecar is of another image, reading the image", path=obj.sidecar, why=why)
        found = await self._fits(obj.path)
        if isinstance(obj, ExposureObject) and (why := contradiction(found.header, obj)):
            raise MetadataError(f"{obj.path}: {why}", path=obj.path)
        return found

    async def _sidecar(self, obj: ExposureObject) -> dict[str, object] | None:
        """Return the sidecar's cards, or `None` if there is no sidecar or none that can be used."""
        store, key = self._store(obj.sidecar)
        try:
            result = await obstore.get_async(store, key)
            body = await result.bytes_async()
        except FileNotFoundError:
            return None
        except (BaseError, ValueError) as err:
            raise _failure(obj.sidecar, err) from err
        try:
            content = orjson.loads(body.to_bytes())
        except orjson.JSONDecodeError as err:
            logger.warning("sidecar is not JSON, reading the image", path=obj.sidecar, error=str(err))
            return None
        if not isinstance(content, dict) or content.pop(_MODE, "metadata") != "metadata" or not content:
            logger.warning("sidecar holds no header, reading the image", path=obj.sidecar)
            return None
        return {
            name[len(_HIERARCH) :].replace(".", " ") if name.startswith(_HIERARCH) else name: value
            for name, value in content.items()
        }

    async def _fits(self, path: str) -> ObjectHeader:
        store, key = self._store(path)
        data, size, wanted = b"", FIRST_RANGE, FIRST_RANGE
        while len(data) < size:
            try:
                result = await obstore.get_async(store, key, options={"range": (len(data), wanted)})
                data += (await result.bytes_async()).to_bytes()
            except FileNotFoundError as err:
                raise await self._missing(path) from err
            except (BaseError, ValueError) as err:
                # A store answers a range of nothing like any other fault (416).
                if isinstance(err, GenericError) and (await self._head(path))[0] == 0:
                    raise _empty(path) from err
                raise _failure(path, err) from err
            size = result.meta["size"]
            try:
                header = parse_headers(data, complete=len(data) >= size)
            except MetadataError as err:
                raise MetadataError(f"{path}: {err}", path=path) from err
            if header is not None:
                return ObjectHeader(path, header, size, "fits", _etag(result.meta))
            if len(data) >= LARGEST_HEADER:
                break
            wanted = len(data) * 2
        raise MetadataError(f"{path}: its header does not end within {len(data)} bytes", path=path)

    async def _head(self, path: str) -> tuple[int, str | None]:
        """Return an object's size and eTag."""
        store, key = self._store(path)
        try:
            meta = await obstore.head_async(store, key)
        except FileNotFoundError as err:
            raise await self._missing(path) from err
        except (BaseError, ValueError) as err:
            raise _failure(path, err) from err
        return meta["size"], _etag(meta)

    async def _missing(self, path: str) -> MissingObjectError | TransientError:
        """Tell a missing object from a missing bucket, which is a mistake in the configuration or in the store."""
        store, key = self._store(path)
        try:
            await obstore.list(store, prefix=key).collect_async()
        except PermissionDeniedError:
            pass
        except BaseError:
            return TransientError(f"{path} is not there, nor can its bucket be listed", path=path)
        return MissingObjectError(f"{path} is not in the store", path=path)

    def _store(self, path: str) -> tuple[S3Store, str]:
        bucket, _, key = path.partition("/")
        store = self._stores.get(bucket)
        if store is None:
            store = self._stores[bucket] = open_store(bucket)
        return store, key


def _etag(meta: ObjectMeta) -> str | None:
    """Return the eTag without quotes."""
    return bare_etag(meta["e_tag"] or "")


def _empty(path: str) -> MetadataError:
    return MetadataError(f"{path} is empty", path=path)


def _failure(path: str, error: BaseError | ValueError) -> AutoingestError:
    if isinstance(error, ValueError):
        return MetadataError(f"{path}: no key that a store can be asked for", path=path)
    if isinstance(error, PermissionDeniedError | UnauthenticatedError):
        return TransientError(f"the store refuses {path}: check the credentials and the bucket's policy", path=path)
    return TransientError(f"the store did not answer for {path}", path=path)
