import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from autoingest.cli import cli
from autoingest.cli.site import day


def autoingest(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "autoingest", *arguments], capture_output=True, text=True, timeout=60, check=False
    )


def commands(command: click.Command, name: str = "autoingest") -> Iterator[tuple[str, click.Command]]:
    """Every command and group, each with its whole name."""
    yield name, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for part in command.list_commands(context):
            found = command.get_command(context, part)
            assert found
            yield from commands(found, f"{name} {part}")


@pytest.mark.parametrize(("name", "command"), list(commands(cli)))
def test_help_has_an_example_and_fits_the_terminal(name: str, command: click.Command) -> None:
    text = command.get_help(click.Context(command, info_name=name, terminal_width=80, max_content_width=80))
    assert "      autoingest " in text.partition("xample")[2]
    assert [line for line in text.splitlines() if len(line) > 80] == []


def test_help_is_printed() -> None:
    result = autoingest("queue", "drop", "--help")
    assert result.returncode == 0, result.stderr
    assert "autoingest queue drop" in result.stdout


def test_help_imports_no_butler() -> None:
    code = "import sys, autoingest.cli; print([m for m in sys.modules if m.startswith(('lsst', 'aiohttp', 'redis'))])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_check_accepts_and_refuses(tmp_path: Path) -> None:
    file = tmp_path / "site.yaml"
    file.write_text("buckets: [b]\ningest: {repo: r}\n")
    assert autoingest("config", "check", str(file)).returncode == 0
    file.write_text("buckets: [b]\ningest: {repo: r, works: 3}\n")
    result = autoingest("config", "check", str(file))
    assert result.returncode == 2
    assert "ingest.works: there is no such key; did you mean workers?" in result.stderr
    assert "Traceback" not in result.stderr


def test_examples_are_listed_printed_and_valid(tmp_path: Path) -> None:
    listed = autoingest("config", "example").stdout
    assert [line.split()[0] for line in listed.splitlines()] == ["ceph-summit", "dev", "lfa", "summit"]
    file = tmp_path / "summit.yaml"
    file.write_text(autoingest("config", "example", "summit").stdout)
    assert autoingest("config", "check", str(file)).returncode == 0
    refused = autoingest("config", "example", "mars")
    assert refused.returncode == 2
    assert "ceph-summit, dev, lfa, summit" in refused.stderr


def test_schema_describes_every_field() -> None:
    schema = json.loads(autoingest("config", "schema").stdout)
    for name, block in schema["$defs"].items():
        for key, field in block["properties"].items():
            assert "description" in field or "$ref" in field, f"{name}.{key}"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--config", "nowhere.yaml"), "nowhere.yaml"),
        (("--config", "{file}", "--roles", "ingest,cook"), "'cook'"),
    ],
)
def test_run_refuses_clearly(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    file = tmp_path / "site.yaml"
    file.write_text("buckets: [b]\ningest: {repo: r}\n")
    result = autoingest("run", *(argument.format(file=file) for argument in arguments))
    assert result.returncode == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_time_limit_begins_with_the_command() -> None:
    """Parsing the arguments starts no timer: nobody would stop it, and it would end the process later."""
    before = threading.active_count()
    context = click.Context(cli)
    audit = cli.get_command(context, "audit")
    assert audit is not None
    assert (
        audit.make_context("audit", ["--config", __file__, "--timeout", "1h"], parent=context).params["limit"] == 1000
    )
    assert threading.active_count() == before


@pytest.mark.parametrize("way", ["option", "variable", "development", "none"])
def test_command_finds_its_site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    """In this order: --config, AUTOINGEST_CONFIG, the development set-up in this folder."""
    ways = ["option", "variable", "development", "none"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AUTOINGEST_CONFIG", raising=False)
    words = ["status"]
    if ways.index(way) <= ways.index("development"):
        (tmp_path / "autoingest-data").mkdir()
        (tmp_path / "autoingest-data/config.yaml").touch()
    if ways.index(way) <= ways.index("variable"):
        monkeypatch.setenv("AUTOINGEST_CONFIG", "variable.yaml")
    if way == "option":
        words += ["--config", "option.yaml"]
    context = click.Context(cli)
    group = cli.get_command(context, "queue")
    assert isinstance(group, click.Group)
    command = group.commands["status"]
    if way == "none":
        with pytest.raises(click.UsageError, match="AUTOINGEST_CONFIG"):
            command.make_context("status", words[1:])
        return
    found = command.make_context("status", words[1:]).params["config_file"]
    assert found == Path({"development": "autoingest-data/config.yaml"}.get(way, f"{way}.yaml"))


@pytest.mark.parametrize("text", ["20251231", "2025-12-31"])
def test_ways_to_write_a_day(text: str) -> None:
    assert day(text) == "20251231"


@pytest.mark.parametrize("text", ["2025-1231", "20251232", "2025-12-32", "31.12.2025", "", "2025123"])
def test_what_is_no_day(text: str) -> None:
    with pytest.raises(click.BadParameter, match="not an observing day"):
        day(text)
