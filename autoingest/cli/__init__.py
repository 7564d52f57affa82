"""The command line. Commands import what they need when they run, so that ``--help`` is quick."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from contextlib import suppress

import click

from .. import __version__
from ..errors import AutoingestError
from .output import echo, prepare_streams

_INTERRUPTED = "interrupted; changes made so far are kept"

TRACEBACK = 10
"""Number of innermost calls that the traceback of an internal error shows."""

_COMMANDS = {
    "run": ("autoingest.cli.run", "run", "Run roles: enqueue, ingest, idle, presence, events, reconcile, status."),
    "demo": ("autoingest.cli.demo", "demo", "Take a simulated exposure from its notifications to the Butler."),
    "simulate": ("autoingest.cli.simulate", "simulate", "Simulate a camera: write exposures, send notifications."),
    "status": ("autoingest.cli.status", "status", "Show processes and what they do, queues, and outages."),
    "doctor": ("autoingest.cli.doctor", "doctor", "Check all that the site needs, and say what to do."),
    "explain": ("autoingest.cli.explain", "explain", "Tell what happened to an exposure or an image."),
    "pause": ("autoingest.cli.pause", "pause", "Stop taking files from a bucket's queue; nothing is lost."),
    "resume": ("autoingest.cli.pause", "resume", "Take files from a paused bucket's queue again."),
    "log": ("autoingest.cli.pause", "log_command", "Show what operators have done, and when."),
    "queue": ("autoingest.cli.queue", "queue", "Inspect queues; requeue or drop dead letters."),
    "trigger": ("autoingest.cli.trigger", "trigger", "Queue files that are in the store but not in the Butler."),
    "reconcile": (
        "autoingest.cli.reconcile",
        "reconcile",
        "Compare store, Butler and Redis by exposure; queue missing files.",
    ),
    "events": ("autoingest.cli.events", "events", "Show which exposures are complete; handle refused events."),
    "audit": ("autoingest.cli.audit", "audit", "Check that every object is accounted for exactly once."),
    "ceph": ("autoingest.cli.ceph", "ceph", "Configure Ceph notifications and bucket policies."),
    "config": ("autoingest.cli.config", "config", "Print example configurations; check configuration files."),
    "repo": ("autoingest.cli.repo", "repo", "Create, complete and compare Butler repositories."),
}


class _Lazy(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in _COMMANDS:
            return None
        module, attribute, _ = _COMMANDS[name]
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, _, text) in _COMMANDS.items()])


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def cli() -> None:
    """Ingest Rubin Observatory images into a Butler repository as their object store announces them.

    \b
    Example, with nothing else installed:
        autoingest demo
    """  # noqa: D301 - click's mark is a real backspace


def main() -> None:
    """Run the command line and end the process.

    An error is reported in one line. Exit codes: 2 for invalid arguments, an invalid configuration or a server that
    does not answer; 130 after Ctrl-C; 1 for an internal error, whose traceback is printed before the last line.
    """
    prepare_streams()
    code = _run()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError as err:
        code = _tell(f"the output can't be written: {err.strerror}", 2)
    # Everything is closed by now. The threads of the store's client may still look at the interpreter; taking it down
    # under them aborts the process now and then.
    os._exit(code)


def _run() -> int:
    try:
        result = cli.main(standalone_mode=False)
        return result if isinstance(result, int) else 0
    except click.ClickException as err:
        err.show()
        return err.exit_code
    except click.Abort as err:
        if isinstance(err.__context__, KeyboardInterrupt):
            return _tell(_INTERRUPTED, 130)
        return _tell("not confirmed; nothing was changed", 1)
    except KeyboardInterrupt:
        return _tell(_INTERRUPTED, 130)
    except (AutoingestError, OSError) as err:
        return _tell(str(err), 2)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except Exception as err:
        traceback.print_exc(limit=-TRACEBACK)
        return _tell(f"error in the program: {type(err).__name__}: {err}", 1)


def _tell(message: str, code: int) -> int:
    with suppress(OSError):
        echo(f"autoingest: {message}", err=True)
    return code
