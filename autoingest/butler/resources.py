"""Resource paths of objects that are known already."""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import Mapping
from typing import Self

from lsst.resources import ResourcePath
from lsst.resources.s3 import S3ResourcePath

_KEY_SAFE = "/!$&'()*+,;=:@~"
"""Characters of a key that need no encoding in the path of a URL (RFC 3986, section 3.3)."""


class KnownObject(S3ResourcePath):
    """An object in S3 whose existence and size are known.

    The Butler asks for both, for every path that it ingests, one request after the other, although the header has just
    been read. In all other respects this is an S3 path.
    """

    _known_size: int

    @classmethod
    def of(cls, url: str, size: int) -> Self:
        """Make the path of an object.

        Parameters
        ----------
        url
            ``s3://{profile}@{bucket}/{key}`` with the key as it is, nothing quoted. The profile is optional.
        size
            Bytes of the object.
        """
        bucket, _, key = url.removeprefix("s3://").partition("/")
        quoted = urllib.parse.quote(key, safe=_KEY_SAFE)
        # Given a ParseResult, the constructor keeps the subclass it is called on.
        path = cls(urllib.parse.ParseResult("s3", bucket, "/" + quoted, "", "", ""), forceDirectory=False)
        assert isinstance(path, cls)
        path._known_size = size
        return path

    def exists(self) -> bool:
        """Tell whether the object exists: it does."""
        return True

    def size(self) -> int:
        """Return the bytes of the object."""
        return self._known_size


class KnownImage(KnownObject):
    """An image whose header is known, too.

    The Science Pipelines look for a sidecar beside each image, and read the image if there is none. Here they find the
    header that was read before, without a request.
    """

    header: Mapping[str, object]

    def updatedExtension(self, ext: str | None) -> ResourcePath:
        """Return the path with another extension; with ``.json``, a sidecar that is already known."""
        if ext != ".json":
            return super().updatedExtension(ext)
        content = json.dumps({**self.header, "__CONTENT__": "metadata"}).encode()
        path = super().updatedExtension(ext).path
        sidecar = _Sidecar(urllib.parse.ParseResult("s3", self.netloc, path, "", "", ""), forceDirectory=False)
        assert isinstance(sidecar, _Sidecar)
        sidecar._content = content
        sidecar._known_size = len(content)
        return sidecar


class _Sidecar(KnownObject):
    _content: bytes

    def read(self, size: int = -1) -> bytes:
        return self._content if size < 0 else self._content[:size]
