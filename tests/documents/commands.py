"""The commands that documents name: targets of make, commands of scrip, modules, and their options."""

import argparse
import re
import runpy
import shlex
import sys
import warnings
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from unittest import mock

import click

from service.cli.main import main
from tests.harness.commands import subcommands
from tests.harness.trees import ROOT


def source(path: str) -> str:
    return (ROOT / path).read_text("utf-8")


MAKEFILE = source("Makefile")
MODULES = {"bench": "loadtests.bench", "load": "loadtests.load", "lab": "tests.lab"}
"""The program to which a target of make passes ARGS."""
PARTS = {
    "loadtests.bench": re.findall(
        r"\w+", re.findall(r'^PARTS = "(.+)"', source("loadtests/bench.py"), re.MULTILINE)[0]
    ),
    "tests.lab": re.findall(r'^    "(\w+)": Part\(', source("tests/lab/__main__.py"), re.MULTILINE),
}
"""Programs that have options for each of their parts."""
PROGRAMS = {*MODULES.values(), "loadtests.orders", "loadtests.replay", "tests.schemathesis.run"}
"""The programs of this tree that have options."""
_block = re.compile(r"^ *```sh\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)
_any_block = re.compile(r"^ *```.*?^ *```$", re.DOTALL | re.MULTILINE)
_span = re.compile(r"`([^`]+)`")


class _ParserFound(BaseException):
    """Ends a program when it has its parser."""


@cache
def options_of(module: str, part: str = "") -> frozenset[str]:
    """The options of a program, from its own parser; none if it has no parser."""
    found: list[str] = []

    def parse_args(parser: argparse.ArgumentParser, *_: object) -> None:
        found.extend(name for action in parser._actions for name in action.option_strings)
        raise _ParserFound

    def run(command: click.Command, *_: object, **__: object) -> None:
        found.extend(name for one in command.params for name in ("--help", *one.opts))
        raise _ParserFound

    arguments = [module, *([part] if part else [])]
    with (
        mock.patch.object(argparse.ArgumentParser, "parse_args", parse_args),
        mock.patch.object(click.Command, "main", run),
        mock.patch.object(sys, "argv", arguments),
        warnings.catch_warnings(action="ignore"),  # the module may be imported already
        suppress(_ParserFound),
    ):
        runpy.run_module(module, run_name="__main__")
    return frozenset(found)


def is_option(word: str) -> bool:
    return bool(re.match(r"--?[a-z]", word))


def wrong_scrip(words: list[str]) -> list[str]:
    """What `scrip` would not understand of these words: a command, or an option of one."""
    command: click.Command = main
    is_value = False
    for number, word in enumerate(words):
        options = {name: one for one in command.params for name in one.opts if isinstance(one, click.Option)}
        if is_option(word):
            name, equals, _ = word.partition("=")
            if name not in {"--help", "-h", *options}:
                return [word]
            is_value = not equals and name in options and not options[name].is_flag
        elif is_value:
            is_value = False
        elif isinstance(command, click.Group):
            known = subcommands(command)
            if word not in known:
                return words[: number + 1]
            command = known[word]
        elif not any(isinstance(one, click.Argument) for one in command.params):
            return [word]
    return []


def wrong_program(module: str, part: str, words: list[str]) -> list[str]:
    """What a program of Python would not understand: itself, or an option."""
    if find_spec(module) is None:
        return [module]
    if not (options := [word for word in words if is_option(word)]):
        return []
    known = options_of(module, part) if module in PROGRAMS else frozenset()
    return [word for word in options if word.partition("=")[0] not in known]


def wrong_make(words: list[str]) -> list[str]:
    """What make would not understand: a target, a variable, a part, a suite or an option in ARGS."""
    targets = [word for word in words if "=" not in word and not is_option(word)]
    wrong = [target for target in targets if not re.search(rf"^{re.escape(target)}:", MAKEFILE, re.MULTILINE)]
    values = dict(word.split("=", 1) for word in words if "=" in word)
    wrong += [
        name for name in values if not re.search(rf"\$\({name}\)|\$\(or \$\({name}\)|^{name} ", MAKEFILE, re.MULTILINE)
    ]
    part, target = values.get("PART", ""), targets[0] if targets else ""
    module = MODULES.get(target, "")
    if part and part not in PARTS.get(module, {one for parts in PARTS.values() for one in parts}):
        wrong.append(part)
    if "SUITE" in values and not (ROOT / "tests" / values["SUITE"]).is_dir():
        wrong.append(values["SUITE"])
    given = shlex.split(values.get("ARGS", ""))
    if target == "run":
        return wrong + wrong_scrip(["run", *given])
    return wrong + (wrong_program(module, part, given) if module else [])


def wrong_words(words: list[str]) -> list[str]:
    """What the named program would not understand of a command; nothing if the program is another's."""
    if "--" in words:
        words = words[words.index("--") + 1 :]
    if words[:3] == ["docker", "compose", "run"]:
        words = ["scrip", *[word for word in words[3:] if word != "--rm"][1:]]
    program, given = words[0].removeprefix(".venv/bin/"), words[1:]
    if program == "scrip":
        return wrong_scrip(given)
    if program == "make":
        return wrong_make(given)
    if program == "python" and given[:1] == ["-m"] and given[1].split(".")[0] in {"loadtests", "tests", "service"}:
        part = given[2] if given[1] in PARTS and len(given) > 2 and not is_option(given[2]) else ""
        return wrong_program(given[1], part, given[2:])
    return []


def read_commands(text: str) -> Iterator[list[str]]:
    """The words of each command in a text: lines of a shell's blocks, and spans of code."""
    for block in _block.findall(text):
        for line in block.replace("\\\n", " ").splitlines():
            yield _words(line)
    for span in _span.findall(_any_block.sub("", text)):
        yield _words(span.replace("\n", " "))


def _words(line: str) -> list[str]:
    try:
        words = shlex.split(line, comments=True)
    except ValueError:  # a span that is no command, such as an apostrophe
        return []
    while words and re.fullmatch(r"[A-Z_]+=(?!\$\().*", words[0]) and len(words) > 1:  # variables of the environment
        words = words[1:]
    return words


@cache
def known_options() -> frozenset[str]:
    """The options of all programs of this tree."""

    def walk(command: click.Command) -> Iterator[str]:
        yield from (name for one in command.params for name in one.opts)
        if isinstance(command, click.Group):
            for one in subcommands(command).values():
                yield from walk(one)

    parts = (options_of(program, part) for program in PARTS for part in PARTS[program])
    return frozenset({"--help", *walk(main)}).union(*parts, *map(options_of, PROGRAMS - PARTS.keys()))
