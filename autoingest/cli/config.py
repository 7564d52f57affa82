"""``autoingest config``."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

import click

from ..app.config import Config
from .output import echo


@click.group()
def config() -> None:
    """Print example configurations, and check configuration files.

    \b
    Examples:
        autoingest config example summit > summit.yaml
        autoingest config check summit.yaml
    """  # noqa: D301 - click's mark is a real backspace


@config.command()
@click.argument("file", type=click.Path(path_type=Path))
def check(file: Path) -> None:
    """Check a configuration file; exit with 0 if it is valid, or with 2 and every error by key.

    The instrument descriptions listed in `ingest.instruments` are checked as well.

    \b
    Example:
        autoingest config check summit.yaml
    """  # noqa: D301 - click's mark is a real backspace
    loaded = Config.from_file(file)
    if described := loaded.ingest.instruments:
        from ..instruments import describe

        describe(described)
    echo(f"{file}: valid, roles {', '.join(loaded.roles)} on {', '.join(loaded.buckets)}")


@config.command()
def schema() -> None:
    """Print the JSON schema of the configuration file.

    \b
    Example:
        autoingest config schema > autoingest.schema.json
    """  # noqa: D301 - click's mark is a real backspace
    echo(json.dumps(Config.model_json_schema(), indent=2))


@config.command()
@click.argument("name", required=False)
def example(name: str | None) -> None:
    """Print the example configuration NAME; without NAME, list the examples.

    \b
    Examples:
        autoingest config example
        autoingest config example summit > summit.yaml
    """  # noqa: D301 - click's mark is a real backspace
    examples = {Path(file.name).stem: file.read_text() for file in (files("autoingest") / "data/config").iterdir()}
    if name is None:
        for known, text in sorted(examples.items()):
            echo(f"{known:<12} {text.splitlines()[0].removeprefix('# ')}")
    elif name in examples:
        echo(examples[name], nl=False)
    else:
        raise click.BadParameter(
            f"{name!r} is not an example; the examples are {', '.join(sorted(examples))}", param_hint="NAME"
        )
