"""The program's entry; also ``python -m autoingest``."""

from __future__ import annotations

import signal


def _end(number: int, _frame: object) -> None:
    raise SystemExit(128 + number)


def main() -> None:
    """Run the command line."""
    # The kernel keeps SIGTERM from a container's first process until that asks for it: ask before anything is imported.
    signal.signal(signal.SIGTERM, _end)
    from .cli import main as run

    run()


if __name__ == "__main__":
    main()
