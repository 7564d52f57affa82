"""An S3 server that can be told to fail."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from testing.s3server import S3Server, Stored

BUCKET = "rubin-summit"


@pytest.fixture
async def server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[S3Server]:
    """The server, with an empty bucket, and the environment that leads to it."""
    server = S3Server()
    server.buckets[BUCKET] = {}
    async with server.run() as url:
        monkeypatch.setenv("S3_ENDPOINT_URL", url)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        yield server


def store(server: S3Server, path: str, body: bytes) -> None:
    """Put an object into the server's memory."""
    bucket, _, key = path.partition("/")
    server.buckets[bucket][key] = Stored(body, "etag", 0.0)
