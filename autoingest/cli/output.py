"""What commands print: any text on any terminal, file or pipe."""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import click

from ..model.text import harmless

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer
    from rich.console import Console
    from rich.table import Column, Table


def echo(message: object = "", *, err: bool = False, nl: bool = True) -> None:
    """Print a text, or JSON as bytes; control characters are escaped."""
    text = message.decode() if isinstance(message, bytes) else str(message)
    click.echo(harmless(text, lines=True), err=err, nl=nl)


def console(**options: Any) -> Console:
    """Return a console for tables and progress, which escapes control characters in what it is given.

    Square brackets are no markup. Standard output is as wide as the terminal, or as wide as need be in a file or a
    pipe.
    """
    from rich.console import Console
    from rich.segment import Segment

    class Escaping(Console):
        def _render_buffer(self, buffer: Iterable[Segment]) -> str:
            return super()._render_buffer(
                segment if segment.control else segment._replace(text=harmless(segment.text, lines=True))
                for segment in buffer
            )

    wide = not options.get("stderr") and not sys.stdout.isatty()
    return Escaping(width=250 if wide else None, markup=False, emoji=False, highlight=False, **options)


def table(*columns: Column | str, **options: Any) -> Table:
    """Return a table without lines, whose columns are as narrow as they can be."""
    from rich.table import Table

    return Table(*columns, box=None, pad_edge=False, padding=(0, 2, 0, 0), title_justify="left", **options)


class _Output(io.FileIO):
    """A file descriptor; when nobody reads it any more, the process ends as other programs do, by SIGPIPE."""

    def write(self, data: ReadableBuffer) -> int:
        try:
            return super().write(data) or 0
        except BrokenPipeError:
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGPIPE)
            raise


def prepare_streams() -> None:
    """Make stdout and stderr take any text, whatever their encoding, and stdout end the process when it is closed."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # it is closed
            setattr(sys, name, io.TextIOWrapper(io.FileIO(os.open(os.devnull, os.O_WRONLY), "w", closefd=False)))
    if isinstance(sys.stderr, io.TextIOWrapper):
        sys.stderr.reconfigure(errors="backslashreplace")
    sys.stdout.flush()
    sys.stdout = io.TextIOWrapper(
        io.BufferedWriter(_Output(sys.stdout.fileno(), "w", closefd=False)),
        encoding=sys.stdout.encoding,
        errors="backslashreplace",
        line_buffering=sys.stdout.isatty(),
    )
