"""A proxy that makes a server look as far away as a network would: every byte arrives later, in both directions.

It delays; it does not limit bandwidth, lose packets, or imitate TCP's slow start. Threads that sleep are used because
the timers of an event loop are no finer than a millisecond.
"""

from __future__ import annotations

import multiprocessing
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.sharedctypes import Synchronized
from queue import SimpleQueue
from typing import Any

from autoingest.dev import embedded

_CONTEXT = multiprocessing.get_context("spawn")

Target = str | tuple[str, int]
"""A server: path of a Unix socket, or host and TCP port."""


@dataclass(frozen=True)
class Proxy:
    """A running proxy."""

    port: int
    """TCP port on 127.0.0.1."""
    _delay: Synchronized[float]
    _trips: Synchronized[int]

    def delay(self, milliseconds: float) -> None:
        """Set the round-trip time for bytes that arrive from now on."""
        self._delay.value = milliseconds / 2000

    def round_trips(self) -> int:
        """Return how often, since the last call, a client sent something after it had received an answer."""
        with self._trips.get_lock():
            count, self._trips.value = self._trips.value, 0
        return count


@contextmanager
def proxy(target: Target) -> Iterator[Proxy]:
    """Run a proxy in a process of its own."""
    port = embedded.free_port()
    delay: Any = _CONTEXT.Value("d", 0.0)
    trips: Any = _CONTEXT.Value("L", 0)
    process = _CONTEXT.Process(target=_serve, args=(port, target, delay, trips), daemon=True)
    process.start()
    try:
        deadline = time.monotonic() + 60
        while not embedded.listens(port):
            if time.monotonic() > deadline:
                raise RuntimeError("the proxy does not answer")
            time.sleep(0.01)
        yield Proxy(port, delay, trips)
    finally:
        process.kill()
        process.join()


def _serve(port: int, target: Target, delay: Any, trips: Any) -> None:
    with socket.create_server(("127.0.0.1", port), backlog=128) as listener:
        while True:
            client, _ = listener.accept()
            server = socket.socket(socket.AF_UNIX if isinstance(target, str) else socket.AF_INET)
            server.connect(target)
            _connect(client, server, delay, trips)


def _connect(client: socket.socket, server: socket.socket, delay: Any, trips: Any) -> None:
    """Pass on bytes between two sockets until either is closed."""
    answered = threading.Event()
    answered.set()

    def count() -> None:
        if answered.is_set():
            answered.clear()
            with trips.get_lock():
                trips.value += 1

    for side in (client, server):
        if side.family != socket.AF_UNIX:
            side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for source, target, notice in ((client, server, count), (server, client, answered.set)):
        waiting: SimpleQueue[tuple[float, bytes]] = SimpleQueue()
        threading.Thread(target=_receive, args=(source, waiting, delay, notice), daemon=True).start()
        threading.Thread(target=_send, args=(waiting, target), daemon=True).start()


def _receive(
    source: socket.socket, waiting: SimpleQueue[tuple[float, bytes]], delay: Any, notice: Callable[[], None]
) -> None:
    data = b" "
    while data:
        try:
            data = source.recv(65536)
        except OSError:
            data = b""
        notice()
        waiting.put((time.monotonic() + delay.value, data))


def _send(waiting: SimpleQueue[tuple[float, bytes]], target: socket.socket) -> None:
    with suppress(OSError):
        while True:
            due, data = waiting.get()
            if (left := due - time.monotonic()) > 0:
                time.sleep(left)
            if not data:
                break
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_RDWR)
