"""A stand-in for the services that this program replaces: it does to Redis what they do, command by command.

Its ingest writes the Butler by this program's engine. As with theirs, a file that the Butler holds already is a failed
one, a guider before its exposure too, and what has failed three times, or has no header, is given up without a letter.
"""

from __future__ import annotations

import json
import threading
import time
import urllib.parse
from collections.abc import Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import cast

import redis

from autoingest.butler.engine import IngestFile
from autoingest.butler.native import NativeEngine
from autoingest.errors import TransientError
from autoingest.queue import keys

from .redis import texts
from .repository import contents
from .shots import Shot

KEPT = 7 * 86400
"""Seconds that enqueue keeps a file's record; ingest never renews that."""

FAILURES = 3
"""Failed attempts after which ingest gives a file up."""

IDLE = 10.0
"""Seconds that a worker's list must have been left alone for idle to empty it."""

TICK = 0.2
"""Seconds after which a thread looks whether it is to end; theirs wait for ever."""


class OldServices:
    """Threads, each of which is one of the old services; `close` ends all.

    Parameters
    ----------
    url
        Of Redis.
    bucket
        The one bucket.
    repo
        Butler repository.
    shots
        Images by path, whose headers ingest reads.
    batch
        Files of one batch.
    """

    def __init__(self, url: str, bucket: str, repo: str, shots: Mapping[str, Shot], batch: int = 50) -> None:
        self._redis = redis.Redis.from_url(url, decode_responses=True, socket_timeout=10)
        self._bucket = bucket
        self._repo = repo
        self._shots = shots
        self._batch = batch
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._server: ThreadingHTTPServer | None = None
        self.errors: list[BaseException] = []
        """What ended a thread that should not have ended."""
        self.hung = threading.Event()
        """While it is set, ingest holds its batch and does nothing."""
        self.holding = threading.Event()
        """Ingest holds a batch and is hung."""

    def close(self) -> None:
        """End all, and what they have in hand stays where it is."""
        self._stop.set()
        if self._server:
            self._server.shutdown()
            self._server.server_close()
        for thread in self._threads:
            thread.join(60)
        assert not self.errors, self.errors
        self._redis.close()

    # enqueue

    def start_enqueue(self) -> str:
        """Listen for notifications, and return the URL to which they are posted."""
        enqueue = self.enqueue

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                records = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["Records"]
                enqueue(
                    *(
                        f"{record['s3']['bucket']['name']}/{urllib.parse.unquote_plus(record['s3']['object']['key'])}"
                        for record in records
                    )
                )
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._start(self._server.serve_forever, "old enqueue")
        return f"http://127.0.0.1:{self._server.server_port}/notify"

    def enqueue(self, *paths: str) -> None:
        """Queue paths, whatever has become of them before, and then count them."""
        with self._redis.pipeline() as pipe:
            for path in paths:
                pipe.lpush(keys.queue(self._bucket), path)
            pipe.execute()
        with self._redis.pipeline() as pipe:
            for path in paths:
                _, instrument, day, obs_id, _ = path.split("/")
                pipe.hincrby(keys.received(self._bucket), day, 1)
                pipe.hincrby(keys.received_by_instrument(self._bucket, instrument), day, 1)
                pipe.hset(keys.file(path), "recv_time", str(time.time()))
                pipe.expire(keys.file(path), KEPT)
            pipe.execute()
        for path in paths:
            _, instrument, day, obs_id, _ = path.split("/")
            key, number = keys.max_seq(self._bucket, instrument, day), int(obs_id.split("_")[3])
            with self._redis.pipeline() as pipe:
                while True:
                    with suppress(redis.WatchError):
                        pipe.watch(key)
                        highest = max(int(pipe.get(key) or 0), number)
                        pipe.multi()
                        pipe.set(key, highest)
                        pipe.execute()
                        break

    # ingest

    def start_ingest(self, name: str) -> None:
        """Run a worker."""
        self._start(lambda: self._ingest(name), name)

    def _ingest(self, name: str) -> None:
        mine = keys.worker(self._bucket, name)
        engine = NativeEngine(self._repo)
        try:
            while not self._stop.is_set():
                if batch := texts(self._redis.lrange(mine, 0, -1)):
                    while self.hung.is_set() and not self._stop.is_set():
                        self.holding.set()
                        time.sleep(TICK)
                    try:
                        self._work(engine, mine, batch)
                    except TransientError:  # another writer holds SQLite's lock for long
                        continue
                if self._redis.blmove(keys.queue(self._bucket), mine, cast(int, TICK), "RIGHT", "LEFT") is None:
                    continue
                number = self._redis.llen(mine)
                while number < self._batch and self._redis.lmove(keys.queue(self._bucket), mine, "RIGHT", "LEFT"):
                    number += 1
        finally:
            engine.close()

    def _work(self, engine: NativeEngine, mine: str, batch: list[str]) -> None:
        shots = {path: self._shots.get(path) for path in dict.fromkeys(batch)}
        held = contents(self._repo)
        with self._redis.pipeline() as pipe:
            for shot in shots.values():
                if shot is None:
                    continue
                header = shot.exposure.header(shot.sensor)
                if group := header.get("GROUPID"):
                    raft_sensor = f"{header['RAFTBAY']}_{header['CCDSLOT']}"
                    key = keys.group("LSSTCam", str(group), int(str(header["CURINDEX"])) - 1, raft_sensor)
                    pipe.set(key, f"s3://{shot.path}")
                    pipe.expire(key, 86400)
            pipe.execute()
        files = []
        for path, shot in shots.items():
            if shot is None:
                self._give_up(mine, path, "Header does not have the card")
            elif f"s3://{path}" in held.raws | held.guiders:
                self._failed(mine, path, "A dataset with the same data ID exists already")
            else:
                files.append(
                    IngestFile(
                        path=path, url=f"s3://{path}", obs_id=shot.exposure.obs_id,
                        is_guider=shot.sensor.purpose == "GUIDER", header=shot.exposure.header(shot.sensor),
                        size=len(shot.exposure.image(shot.sensor)),
                    )
                )  # fmt: skip
        for result in engine.ingest(sorted(files, key=lambda file: file.is_guider)).files:
            if result.outcome == "ingested":
                self._succeeded(mine, result.path)
            else:
                self._failed(mine, result.path, result.exception or "no such exposure")

    def _succeeded(self, mine: str, path: str) -> None:
        with self._redis.pipeline() as pipe:
            pipe.lrem(mine, 0, path)
            pipe.hset(keys.file(path), "ingest_time", str(time.time()))
            pipe.hincrby(keys.ingested(self._bucket, path.split("/")[1]), path.split("/")[2], 1)
            pipe.execute()

    def _failed(self, mine: str, path: str, exception: str) -> None:
        with self._redis.pipeline() as pipe:
            pipe.hincrby(keys.failed(self._bucket, path.split("/")[1]), path.split("/")[2], 1)
            pipe.hset(keys.file(path), "ing_fail_exc", exception)
            pipe.hincrby(keys.file(path), "ing_fail_count", 1)
            pipe.execute()
        if int(self._redis.hget(keys.file(path), "ing_fail_count") or 0) >= FAILURES:
            self._redis.lrem(mine, 0, path)

    def _give_up(self, mine: str, path: str, exception: str) -> None:
        with self._redis.pipeline() as pipe:
            pipe.hincrby(keys.failed(self._bucket, path.split("/")[1]), path.split("/")[2], 1)
            pipe.hset(keys.file(path), "md_fail_exc", exception)
            pipe.lrem(mine, 0, path)
            pipe.execute()

    # idle

    def start_idle(self) -> None:
        """Empty the lists of workers that seem idle, whoever they are."""
        self._start(self._idle, "old idle")

    def _idle(self) -> None:
        while not self._stop.wait(1.0):
            for key in self._redis.scan_iter("WORKER:*"):
                if (self._redis.object("idletime", key) or 0) > IDLE:
                    queue = keys.queue(key.split(":")[1])
                    while self._redis.lmove(key, queue, "RIGHT", "LEFT") is not None:
                        pass

    # presence

    def presence(self, instrument: str, group: str, snap: int, raft_sensor: str) -> str | None:
        """Tell where an image is."""
        found = self._redis.get(keys.group(instrument, group, snap, raft_sensor))
        return None if found is None else str(found)

    def _start(self, target: object, name: str) -> None:
        def run() -> None:
            try:
                target()  # type: ignore[operator]
            except BaseException as err:
                self.errors.append(err)

        thread = threading.Thread(target=run, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()
