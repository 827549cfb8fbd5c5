"""The commands' help texts."""

import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from service.cli.main import COMMANDS, main
from tests.harness.commands import subcommands

ROOT = Path(__file__).parents[2]


def _commands(group: click.Group, *names: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """The commands that a user sees, and groups of them, with their names."""
    for name, command in subcommands(group).items():
        if not command.hidden:
            yield (*names, name), command
            if isinstance(command, click.Group):
                yield from _commands(command, *names, name)


@pytest.mark.parametrize(
    ("names", "command"),
    [((), main), *_commands(main)],
    ids=lambda one: "-".join(one) if isinstance(one, tuple) else "",
)
def test_the_example_of_a_command(
    names: tuple[str, ...], command: click.Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each command's help has a whole first line, and ends with an example that the command can parse."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "orders.jsonl").touch()
    assert not command.get_short_help_str(limit=60).endswith("...")
    assert command.epilog
    before, _, example = command.epilog.partition("scrip ")
    assert before.startswith("Example: ")
    words = shlex.split(example)
    assert tuple(words[: len(names)]) == names
    parsed: click.Command | None = main
    while isinstance(parsed, click.Group):
        _, parsed, words = parsed.resolve_command(click.Context(parsed), words)
    assert parsed
    assert parsed.make_context("scrip", words)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("doctor redis://ops:hunter2@10.0.0.1/0", "unexpected extra argument (redis://…@10.0.0.1/0)"),
        ("recover --discard --apply", "Choose one of --plan, --apply and --discard."),
        ("recover --apply --json", "--json belongs to --plan."),
    ],
)
def test_wrong_arguments(words: str, says: str) -> None:
    """They are refused before a server is asked, and the message has no password."""
    result = CliRunner().invoke(main, words.split())
    assert (result.exit_code, says in result.output, "hunter2" in result.output) == (2, True, False), result.output


def test_the_list_of_commands() -> None:
    """The list in `scrip --help` has each command's own first sentence, in alphabetical order."""
    sentences = {name: command.get_short_help_str(limit=60) for name, command in subcommands(main).items()}
    assert {name: sentence for name, (_, sentence) in COMMANDS.items()} == sentences
    assert [*COMMANDS] == sorted(COMMANDS)


def test_the_version() -> None:
    """`scrip --version` prints the version of pyproject.toml. The changelog begins with what is unreleased, and has no
    newer version."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    first, *released = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert CliRunner().invoke(main, ["--version"]).output == f"scrip {version}\n"
    assert first == "Unreleased"
    assert [newer for newer in released if _numbers(newer) > _numbers(version)] == []


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in version.split("."))
