"""Makes the Butler process do to itself what a header's card ``POISON`` says; in effect where ``PYTHONPATH`` names it.

It stands for a library that crashes on what is in a file.
"""

import importlib.abc
import importlib.util
import os
import resource
import signal
import stat
import sys
import time
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

HARM = "POISON"

_last_harm = [-1.0]


def harm(what: Any) -> None:
    match what:
        case "exit":
            sys.stderr.write("the library gives up\n")
            sys.stderr.flush()
            os._exit(3)
        case "SystemExit":
            raise SystemExit(4)
        case "KeyboardInterrupt":
            raise KeyboardInterrupt
        case "RecursionError":
            harm(what)
        case "ENAMETOOLONG":
            os.stat("/" + "x" * 300)
        case "ENOSPC":
            raise OSError(28, "No space left on device")
        case "hang":
            while True:
                pass
        case "sleep":
            time.sleep(1e6)
        case "memory":
            taken = []
            while True:
                if resource.getrlimit(resource.RLIMIT_DATA)[0] == resource.RLIM_INFINITY:
                    os.kill(os.getpid(), signal.SIGKILL)  # as the kernel does once all memory is used
                taken.append(bytearray(16 * 2**20))
        case "pod":
            # As the kernel does where it kills all of a container, unless the process may not take that much.
            if resource.getrlimit(resource.RLIMIT_DATA)[0] != resource.RLIM_INFINITY:
                raise MemoryError
            os.kill(os.getppid(), signal.SIGKILL)
            time.sleep(1e6)
        case "pod always":
            os.kill(os.getppid(), signal.SIGKILL)
            time.sleep(1e6)
        case "flood":
            for _ in range(20_000):
                os.write(2, b"x" * 999 + b"\n")
        case "garbage":  # as an answer
            for descriptor in range(3, 64):
                try:
                    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                        os.write(descriptor, b"\xff" * 64)
                        break
                except OSError:
                    continue
        case "closed":
            os.closerange(3, 64)
            time.sleep(1e6)
        case "pair":
            now = time.monotonic()
            if now - _last_harm[0] < 0.1:
                os.abort()
            _last_harm[0] = now
        case str() if what.startswith("SIG"):
            os.kill(os.getpid(), signal.Signals[what])
            time.sleep(1e6)


class Finder(importlib.abc.MetaPathFinder):
    """Puts the harm in front of the functions that tell what a file is, once they are imported."""

    name = "autoingest.instruments"

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != self.name:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        assert spec is not None
        assert spec.loader is not None
        load = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            load(module)
            for name in ("identify", "identify_guider"):
                setattr(module, name, poisoned(getattr(module, name)))

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def poisoned(function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def call(header: Any, url: Any) -> Any:
        harm(header.get(HARM))
        return function(header, url)

    return call


if "autoingest.butler" in sys.orig_argv:
    sys.meta_path.insert(0, Finder())
