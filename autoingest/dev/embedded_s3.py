"""The process of the embedded S3 server: moto, with its objects stored in an SQLite file.

moto keeps everything in memory. Changes are written to the file before the request is answered, so that nothing
acknowledged is lost even if the process is killed, and are restored at the start. Stored are buckets and the current
content, ETag and time of their objects, but not versions, metadata, policies or notifications.

    python -m autoingest.dev.embedded_s3 PORT FILE [BUCKET ...]

With an empty FILE nothing is stored.
"""

from __future__ import annotations

import logging
import sqlite3
import sys
from collections.abc import Callable, Iterable
from datetime import datetime
from threading import Lock
from typing import TYPE_CHECKING, Any

from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from moto.s3.models import FakeKey, S3Backend, s3_backends
from werkzeug.serving import make_server

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

REGION = "us-east-1"

_SCHEMA = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = NORMAL;
CREATE TABLE IF NOT EXISTS buckets (name TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS objects (
    bucket TEXT, key TEXT, body BLOB, etag TEXT, modified TEXT, PRIMARY KEY (bucket, key)
);
"""


class Keeper:
    """Stores the state of moto.

    Parameters
    ----------
    backend
        moto's state.
    file
        SQLite file.
    """

    def __init__(self, backend: S3Backend, file: str) -> None:
        self._backend = backend
        self._database = sqlite3.connect(file, check_same_thread=False, isolation_level=None)
        self._database.executescript(_SCHEMA)
        self._lock = Lock()

    def restore(self) -> None:
        """Restore everything into moto."""
        for (name,) in self._database.execute("SELECT name FROM buckets"):
            self._backend.create_bucket(name, REGION)
        for bucket, key, body, etag, modified in self._database.execute("SELECT * FROM objects"):
            stored = self._backend.put_object(bucket, key, body, etag=etag)
            stored.last_modified = datetime.fromisoformat(modified)

    def wrap(self, application: WSGIApplication) -> WSGIApplication:
        """Return an application that stores the changes of each request before it answers."""

        def wrapped(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
            if environ["REQUEST_METHOD"] in ("GET", "HEAD"):
                return application(environ, start_response)
            # PATH_INFO is decoded, in WSGI's way: UTF-8 bytes as Latin-1 characters.
            path = environ["PATH_INFO"].encode("latin-1").decode()
            answer = b"".join(application(environ, start_response))
            bucket, _, key = path.lstrip("/").partition("/")
            self.keep(bucket, key)
            return [answer]

        return wrapped

    def keep(self, bucket: str, key: str) -> None:
        """Update the file with one object, or with the list of a bucket's objects."""
        with self._lock:
            self._database.execute("BEGIN")
            held = self._backend.buckets.get(bucket)
            if held is None:
                self._database.execute("DELETE FROM objects WHERE bucket = ?", (bucket,))
                self._database.execute("DELETE FROM buckets WHERE name = ?", (bucket,))
            elif key:
                self._keep_object(bucket, key, held.keys.get(key))
            else:
                self._database.execute("INSERT OR IGNORE INTO buckets VALUES (?)", (bucket,))
                for (known,) in self._database.execute(
                    "SELECT key FROM objects WHERE bucket = ?", (bucket,)
                ).fetchall():
                    if not isinstance(held.keys.get(known), FakeKey):
                        self._keep_object(bucket, known, None)
            self._database.execute("COMMIT")

    def _keep_object(self, bucket: str, key: str, stored: Any) -> None:
        if isinstance(stored, FakeKey):
            self._database.execute(
                "INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?, ?)",
                (bucket, key, stored.value, stored.etag.strip('"'), stored.last_modified.isoformat()),
            )
        else:
            self._database.execute("DELETE FROM objects WHERE bucket = ? AND key = ?", (bucket, key))


def main(port: int, file: str, buckets: list[str]) -> None:
    """Serve until killed."""
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    application: Callable[..., Iterable[bytes]] = DomainDispatcherApplication(create_backend_app)
    backend = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]
    keeper = Keeper(backend, file) if file else None
    if keeper:
        keeper.restore()
        application = keeper.wrap(application)
    for bucket in buckets:
        if bucket not in backend.buckets:
            backend.create_bucket(bucket, REGION)
            if keeper:
                keeper.keep(bucket, "")
    make_server("127.0.0.1", port, application, threaded=True, request_handler=MotoRequestHandler).serve_forever()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3:])
