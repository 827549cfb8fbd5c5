"""What a mutant is: a rule of the contract, the small change that breaks it, and the tests that must turn red."""

import shlex
from pathlib import Path
from typing import NamedTuple

SWAPPED = "the two checks swapped"


class Mutant(NamedTuple):
    """One change. `old` is in the file exactly once."""

    rule: str
    """What the change breaks, in the contract's words."""
    path: str
    """The file, from the root of the tree."""
    old: str
    new: str
    tests: str
    """Files of tests, and `-k` where a few of them suffice; of tests of scripts only those on fakeredis are run."""
    said: str = ""
    """The change in words, where the two texts don't show it at a glance."""

    @property
    def files(self) -> list[str]:
        """The files of tests."""
        words = shlex.split(self.tests)
        return words[: words.index("-k")] if "-k" in words else words

    @property
    def only(self) -> str:
        """What pytest's -k is told; '' for all tests of the files."""
        words = shlex.split(self.tests)
        wanted = words[words.index("-k") + 1] if "-k" in words else ""
        if not all(file.startswith("tests/lua/") for file in self.files):
            return wanted
        return f"fakeredis and ({wanted})" if wanted else "fakeredis"

    def mutated(self, text: str) -> str:
        """The file's text with the change; ValueError where the file doesn't say `old` exactly once."""
        if (found := text.count(self.old)) != 1:
            raise ValueError(f"{self.path} says {found} times, not once: {self.old!r} ({self.rule})")
        return text.replace(self.old, self.new)

    def change(self) -> str:
        """The change in a line, for a cell of a table."""
        file, old, new = Path(self.path).name, _line(self.old), _line(self.new)
        if self.said:
            return f"{file}: {self.said}"
        return f"{file}: `{old}` → `{new}`" if new else f"{file}: `{old}` left out"


def _line(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
