"""Commands that pages show are commands of the programs that they call."""

import re
from pathlib import Path

import click
import pytest

from autoingest.app.config import CONFIG_VARIABLE
from autoingest.cli import cli
from testing import documents

CALLS = sorted({tuple(call) for call in documents.calls("autoingest")})


@pytest.mark.parametrize("arguments", CALLS, ids=" ".join)
def test_call_is_accepted(arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every command, argument and option is known, and every value is one that the option takes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(CONFIG_VARIABLE, "site.yaml")
    command: click.Command = cli
    context = click.Context(cli, info_name="autoingest")
    left = list(arguments)
    while isinstance(command, click.Group):
        name, command, left = command.resolve_command(context, left)  # type: ignore[assignment]
        assert command is not None
        if not isinstance(command, click.Group):
            break
        context = click.Context(command, info_name=name, parent=context)
    # Files and folders of a site need not be here.
    for parameter in command.params:
        if isinstance(parameter.type, click.Path):
            monkeypatch.setattr(parameter.type, "exists", False)
    command.make_context(arguments[0], left, parent=context)


def test_commands_in_the_text_exist() -> None:
    """What stands between backticks may leave options out, but names none that there isn't."""
    unknown = []
    for page in documents.pages():
        for words in re.findall(r"`autoingest ([^`\n]+)`", page.read_text()):
            command: click.Command | None = cli
            context = click.Context(cli)
            for word in words.split():
                if isinstance(command, click.Group) and word[0].islower():
                    command = command.get_command(context, word)
                    if command is None:
                        unknown.append((page.name, words))
                        break
                elif word.startswith("--") and command:
                    known = {option for parameter in command.params for option in parameter.opts}
                    if word.partition("=")[0] not in known | {"--help", "--version"}:
                        unknown.append((page.name, words))
    assert unknown == []


def test_kubectl() -> None:
    """kubectl is called with verbs, resources and options that it has."""
    verbs = {
        "create": {"namespace", "secret"}, "get": {"service", "pods", "secret"}, "scale": {"deployment", "statefulset"},
        "exec": set(), "rollout": {"restart"}, "logs": set(),
    }  # fmt: skip
    options = {"-n", "--from-literal", "--from-file", "--replicas", "--namespace"}
    count = 0
    for call in documents.calls("kubectl"):
        own = call[: call.index("--")] if "--" in call else call
        assert {word.partition("=")[0] for word in own if word.startswith("-")} <= options, call
        if own[0] in ("-n", "--namespace"):
            own = own[2:]
        verb, what = own[:2]
        assert verb in verbs, call
        assert what in verbs[verb] if verbs[verb] else "/" in what, call
        count += 1
    assert count
