"""The hand-written mutants of written.txt: of Python and SQL, and of Lua where no operator makes the change."""

import re
import shlex
from functools import cache
from pathlib import Path
from typing import NamedTuple

_LIST = Path(__file__).with_name("written.txt")


class Written(NamedTuple):
    """One change. `old` is in the file exactly once."""

    rule: str
    """What the change breaks, in the contract's words."""
    path: str
    """The file, from the root of the tree."""
    tests: str
    """Files of tests, and `-k` where a few of them suffice; of tests of scripts only those on fakeredis are run."""
    old: str
    new: str

    @property
    def files(self) -> list[str]:
        """The files of tests."""
        words = shlex.split(self.tests)
        return words[: words.index("-k")] if "-k" in words else words

    @property
    def only(self) -> str:
        """The value of pytest's -k; '' for all tests of the files."""
        words = shlex.split(self.tests)
        wanted = words[words.index("-k") + 1] if "-k" in words else ""
        if not all(file.startswith("tests/lua/") for file in self.files):
            return wanted
        return f"fakeredis and ({wanted})" if wanted else "fakeredis"

    def mutated(self, text: str) -> str:
        """The file's text with the change; ValueError where the file doesn't contain `old` exactly once."""
        if (count := text.count(self.old)) != 1:
            raise ValueError(f"{self.path} contains {count} times, not once: {self.old!r} ({self.rule})")
        return text.replace(self.old, self.new)

    def __str__(self) -> str:
        return f"{self.path} written: {self.rule}"


def parse_list(text: str) -> tuple[Written, ...]:
    """The mutants: below `= file : tests` of each its rule (`# …`), the old lines (`- …`) and the new ones (`+ …`)."""
    rows: list[Written] = []
    path = tests = rule = ""
    old: list[str] = []
    new: list[str] = []
    for line in [*text.splitlines(), "#"]:
        if line[:1] in ("#", "=") and old:
            rows.append(Written(rule, path, tests, "\n".join(old), "\n".join(new)))
            old, new = [], []
        if line.startswith("= "):
            path, tests = re.split(" : ", line[2:], maxsplit=1)
        elif line.startswith("#"):
            rule = line[2:]
        elif line:
            {"-": old, "+": new}[line[0]].append(line[2:])
    return tuple(rows)


@cache
def written() -> tuple[Written, ...]:
    """All hand-written mutants."""
    return parse_list(_LIST.read_text())
