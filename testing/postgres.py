"""A folder for a PostgreSQL server's data."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def postgres_folder() -> Iterator[Path]:
    """Make a folder outside pytest's own, which every run closes to other users.

    Where root runs the tests, the server is another user's and would lose its data as soon as a second run begins.
    """
    with tempfile.TemporaryDirectory(prefix="autoingest-postgres-") as folder:
        yield Path(folder)
