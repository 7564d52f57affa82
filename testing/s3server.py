"""An S3 server for measurements: everything in memory, no signatures checked, any delay wanted.

It is not a store to keep data in, nor a model of any vendor's: it knows what the benchmarks and the tests of the
reader ask for (buckets; PUT, GET with ranges, HEAD, DELETE; list version 2) and answers fast enough that the client is
what is measured. ``--delay-ms`` is added to every answer, and ``PUT /-/delay?ms=`` changes it. ``DELETE /-/counts``
tells what was asked for since the last time, ``DELETE /-/objects?prefix=`` removes objects at once.

    python -m testing.s3server --port 0 --delay-ms 10
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import time
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from email.utils import formatdate
from urllib.parse import unquote
from xml.sax.saxutils import escape

import uvloop
from aiohttp import web

NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"


@dataclass(frozen=True, slots=True)
class Stored:
    """One object."""

    body: bytes
    etag: str
    modified: float


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to a request instead of an answer, or to its answer."""

    status: int | None = None
    """HTTP status to answer with."""
    code: str = "Fault"
    """Code of S3 that comes with the status; empty for an answer without a body."""
    delay: float = 0.0
    """Seconds to wait first."""
    cut: int | None = None
    """Bytes of the body after which the connection is closed."""
    drip: float = 0.0
    """Seconds between two bytes of the body."""


class S3Server:
    """The server.

    Parameters
    ----------
    delay
        Seconds added to every answer.
    """

    def __init__(self, delay: float = 0.0) -> None:
        self.delay = delay
        self.buckets: dict[str, dict[str, Stored]] = {}
        self.counts: Counter[str] = Counter()
        """Requests by method, and ``bytes``: bytes of all bodies sent."""
        self.fault: Callable[[str, str, str], Fault | None] = lambda method, bucket, key: None
        """Chooses the fault of a request from its method, bucket and key."""

    @asynccontextmanager
    async def run(self, port: int = 0) -> AsyncIterator[str]:
        """Serve on the loopback interface; yields the URL."""
        runner = web.ServerRunner(web.Server(self.handle), shutdown_timeout=0.1)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", port, backlog=1024)
            await site.start()
            yield f"http://127.0.0.1:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        bucket, _, key = unquote(request.rel_url.raw_path).lstrip("/").partition("/")
        if bucket == "-":
            return self._control(request)
        self.counts[request.method] += 1
        body = await request.read() if request.body_exists else b""
        if self.delay:
            await asyncio.sleep(self.delay)
        fault = self.fault(request.method, bucket, key)
        if fault:
            await asyncio.sleep(fault.delay)
            if fault.status:
                return _error(fault.status, fault.code) if fault.code else web.Response(status=fault.status)
        response = self._object(request, bucket, key, body) if key else self._bucket(request, bucket)
        if fault and fault.cut is not None:
            return await _cut(request, response, fault.cut)
        if fault and fault.drip:
            return await _drip(request, response, fault.drip)
        if request.method != "HEAD" and isinstance(response.body, bytes):
            self.counts["bytes"] += len(response.body)
        return response

    def _control(self, request: web.BaseRequest) -> web.Response:
        match request.method, request.path:
            case "PUT", "/-/delay":
                self.delay = float(request.query["ms"]) / 1000
            case "DELETE", "/-/counts":
                answer = web.json_response(self.counts)
                self.counts.clear()
                return answer
            case "DELETE", "/-/objects":
                for objects in self.buckets.values():
                    for key in [key for key in objects if key.startswith(request.query["prefix"])]:
                        del objects[key]
            case _:
                return _error(405, "MethodNotAllowed")
        return web.Response()

    def _bucket(self, request: web.BaseRequest, name: str) -> web.Response:
        if request.method == "PUT":
            self.buckets.setdefault(name, {})
            return web.Response()
        objects = self.buckets.get(name)
        if not name and request.method == "GET":
            entries = "".join(f"<Bucket><Name>{escape(b)}</Name></Bucket>" for b in sorted(self.buckets))
            return _xml(
                f'<ListAllMyBucketsResult xmlns="{NAMESPACE}"><Buckets>{entries}</Buckets></ListAllMyBucketsResult>'
            )
        if objects is None:
            return _error(404, "NoSuchBucket")
        if request.method == "HEAD":
            return web.Response()
        if request.method == "DELETE":
            if objects:
                return _error(409, "BucketNotEmpty")
            del self.buckets[name]
            return web.Response(status=204)
        if request.method == "GET":
            return _listing(name, objects, request)
        return _error(405, "MethodNotAllowed")

    def _object(self, request: web.BaseRequest, name: str, key: str, body: bytes) -> web.Response:
        objects = self.buckets.get(name)
        if objects is None:
            return _error(404, "NoSuchBucket")
        if request.method == "PUT":
            if "aws-chunked" in request.headers.get("Content-Encoding", ""):
                body = _unchunk(body)
            etag = hashlib.md5(body, usedforsecurity=False).hexdigest()
            objects[key] = Stored(body, etag, time.time())
            return web.Response(headers={"ETag": f'"{etag}"'})
        if request.method == "DELETE":
            objects.pop(key, None)
            return web.Response(status=204)
        stored = objects.get(key)
        if stored is None:
            return _error(404, "NoSuchKey")
        return _content(request, stored)


def _content(request: web.BaseRequest, stored: Stored) -> web.Response:
    size = len(stored.body)
    headers = {
        "ETag": f'"{stored.etag}"',
        "Last-Modified": formatdate(stored.modified, usegmt=True),
        "Accept-Ranges": "bytes",
        "Content-Type": "application/octet-stream",
    }
    if request.method == "HEAD":
        return web.Response(headers={**headers, "Content-Length": str(size)})
    wanted = request.headers.get("Range")
    if not wanted:
        return web.Response(body=stored.body, headers=headers)
    first, _, last = wanted.removeprefix("bytes=").partition("-")
    start = int(first) if first else max(0, size - int(last))
    end = min(int(last) + 1, size) if first and last else size
    if start >= end:
        return _error(416, "InvalidRange")
    headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    return web.Response(status=206, body=stored.body[start:end], headers=headers)


def _listing(name: str, objects: dict[str, Stored], request: web.BaseRequest) -> web.Response:
    query = request.query
    prefix, limit = query.get("prefix", ""), int(query.get("max-keys", 1000))
    delimiter = query.get("delimiter", "")
    keys = sorted(key for key in objects if key.startswith(prefix))
    after = query.get("continuation-token") or query.get("start-after", "")
    position = bisect_right(keys, after) if after else 0
    found: list[str] = []
    count = 0
    while position < len(keys) and count < limit:
        key = keys[position]
        cut = key.find(delimiter, len(prefix)) if delimiter else -1
        if cut >= 0:
            common = key[: cut + len(delimiter)]
            found.append(f"<CommonPrefixes><Prefix>{escape(common)}</Prefix></CommonPrefixes>")
            after = common + "\U0010ffff"
            position = bisect_left(keys, after)
        else:
            stored = objects[key]
            modified = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(stored.modified))
            found.append(
                f"<Contents><Key>{escape(key)}</Key><LastModified>{modified}</LastModified>"
                f'<ETag>"{stored.etag}"</ETag><Size>{len(stored.body)}</Size></Contents>'
            )
            after = key
            position += 1
        count += 1
    more = position < len(keys)
    token = f"<NextContinuationToken>{escape(after)}</NextContinuationToken>" if more else ""
    return _xml(
        f'<ListBucketResult xmlns="{NAMESPACE}"><Name>{escape(name)}</Name><KeyCount>{count}</KeyCount>'
        f"<IsTruncated>{str(more).lower()}</IsTruncated>{token}{''.join(found)}</ListBucketResult>"
    )


def _unchunk(body: bytes) -> bytes:
    parts: list[bytes] = []
    position = 0
    while True:
        line = body.index(b"\r\n", position)
        length = int(body[position:line].split(b";")[0], 16)
        if not length:
            return b"".join(parts)
        parts.append(body[line + 2 : line + 2 + length])
        position = line + 4 + length


def _xml(text: str, status: int = 200) -> web.Response:
    return web.Response(status=status, body=text.encode(), content_type="application/xml")


def _error(status: int, code: str) -> web.Response:
    return _xml(f"<Error><Code>{code}</Code><Message>{code}</Message></Error>", status)


async def _cut(request: web.BaseRequest, response: web.Response, length: int) -> web.StreamResponse:
    body = response.body if isinstance(response.body, bytes) else b""
    stream = web.StreamResponse(status=response.status, headers={**response.headers, "Content-Length": str(len(body))})
    await stream.prepare(request)
    await stream.write(body[:length])
    if request.transport:
        request.transport.close()
    return stream


async def _drip(request: web.BaseRequest, response: web.Response, pause: float) -> web.StreamResponse:
    body = response.body if isinstance(response.body, bytes) else b""
    stream = web.StreamResponse(status=response.status, headers={**response.headers, "Content-Length": str(len(body))})
    await stream.prepare(request)
    for byte in body:
        await stream.write(bytes([byte]))
        await asyncio.sleep(pause)
    return stream


async def main(port: int, delay: float, buckets: list[str]) -> None:
    """Serve until interrupted."""
    server = S3Server(delay)
    server.buckets.update({bucket: {} for bucket in buckets})
    async with server.run(port) as url:
        print(url, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="An in-memory S3 server for measurements.")
    parser.add_argument("--port", type=int, default=0, help="TCP port; 0 takes a free one")
    parser.add_argument("--delay-ms", type=float, default=0.0, help="milliseconds added to every answer")
    parser.add_argument("--bucket", action="append", default=[], help="bucket to begin with; may be repeated")
    options = parser.parse_args()
    with suppress(KeyboardInterrupt):
        uvloop.run(main(options.port, options.delay_ms / 1000, options.bucket))
