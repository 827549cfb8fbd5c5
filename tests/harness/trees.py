"""Copies of the tree with something changed, whose processes are then run."""

import shutil
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
COPIED = ("service", "lua", "sql", "deploy", "pyproject.toml")


class Change(NamedTuple):
    """One place. `old` is in the file exactly once."""

    path: str
    old: str
    new: str

    def made(self, text: str) -> str:
        """The file's text with the change; ValueError where the file doesn't say `old` exactly once."""
        if (count := text.count(self.old)) != 1:
            raise ValueError(f"{self.path} says {count} times, not once: {self.old!r}")
        return text.replace(self.old, self.new)


class Mistake(NamedTuple):
    """Changes that break one thing, which something must find: `found_by` names tests, or a fault."""

    rule: str
    found_by: str
    changes: list[Change]


def read_mistakes(path: Path) -> list[Mistake]:
    """The mistakes of a list: below `= file : found by` the rule of each (`# …`), its old lines (`- …`) and new ones
    (`+ …`). A mistake with several changes has several of these pairs, in another file below `= file`."""
    mistakes: list[Mistake] = []
    file = found_by = old = ""
    for sign, lines in groupby(path.read_text().splitlines(), lambda line: line[:1]):
        text = "\n".join(line[2:] for line in lines)
        match sign:
            case "=":
                file, _, finder = text.partition(" : ")
                found_by = finder or found_by
            case "#":
                mistakes.append(Mistake(text, found_by, []))
            case "-":
                old = text
            case "+":
                mistakes[-1].changes.append(Change(file, old, text))
            case _:
                raise ValueError(f"{path}: {text}")
    return mistakes


def copied(tree: Path, names: Sequence[str] = COPIED) -> None:
    """Copy these files and folders of this tree into a new one, with their bytecode: its processes compile only what is
    changed. Bytecode that a process is just writing has the ending `.pyc.<number>`."""
    tree.mkdir(parents=True)
    for name in names:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("results", "*.pyc.*"))
        else:
            shutil.copy(ROOT / name, tree / name)


def changed(changes: Sequence[Change], tree: Path) -> Path:
    """A copy of this tree with these changes; this tree itself where there are none."""
    if not changes:
        return ROOT
    copied(tree)
    make(changes, tree)
    return tree


def make(changes: Sequence[Change], tree: Path) -> None:
    for change in changes:
        path = tree / change.path
        path.write_text(change.made(path.read_text()))
