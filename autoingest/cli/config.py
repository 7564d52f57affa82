"""``autoingest config``."""

from __future__ import annotations

import json
from pathlib import Path

import click

from ..app.config import Config
from .output import echo


@click.group()
def config() -> None:
    """Check configuration files.

    \b
    Example:
        autoingest config check config/summit.yaml
    """  # noqa: D301 - click's mark is a real backspace


@config.command()
@click.argument("file", type=click.Path(path_type=Path))
def check(file: Path) -> None:
    """Check a configuration file; exit 0 if it fits, 2 with every error by key if not.

    The descriptions of instruments that it names are checked, too.

    \b
    Example:
        autoingest config check config/summit.yaml
    """  # noqa: D301 - click's mark is a real backspace
    loaded = Config.from_file(file)
    if described := loaded.ingest.instruments:
        from ..instruments import describe

        describe(described)
    echo(f"{file}: good, roles {', '.join(loaded.roles)} on {', '.join(loaded.buckets)}")


@config.command()
def schema() -> None:
    """Print the JSON schema of the configuration file.

    \b
    Example:
        autoingest config schema > autoingest.schema.json
    """  # noqa: D301 - click's mark is a real backspace
    echo(json.dumps(Config.model_json_schema(), indent=2))
