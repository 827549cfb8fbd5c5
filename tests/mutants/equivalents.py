"""The reviewed mutants that change nothing which a test of the contract may see."""

from functools import cache
from pathlib import Path
from typing import NamedTuple

from tests.mutants.operators import Mutant

_LIST = Path(__file__).with_name("equivalents.txt")


class Equivalent(NamedTuple):
    """A row of equivalents.txt, with the reason above it."""

    file: str
    operator: str
    change: str
    line: str
    reason: str

    def is_of(self, mutant: Mutant) -> bool:
        """Whether the row names this mutant."""
        return self[:4] == (mutant.file, mutant.operator, mutant.change, mutant.source_line)


def row_of(mutant: Mutant) -> str:
    """The row that names a mutant."""
    return f"{mutant.file} ¦ {mutant.operator} ¦ {mutant.change} ¦ {mutant.source_line}"


def parse_list(text: str) -> tuple[Equivalent, ...]:
    """The rows: `file ¦ operator ¦ change ¦ source line`, below the lines of their reason, which begin with a `#`."""
    rows, reason = [], ""
    for line, before in zip(text.splitlines(), ["", *text.splitlines()], strict=False):
        if line.startswith("#"):
            reason = f"{reason} {line[1:].strip()}" if before.startswith("#") else line[1:].strip()
        elif line:
            file, operator, change, source = line.split(" ¦ ")
            rows.append(Equivalent(file, operator, change, source, reason))
    return tuple(rows)


@cache
def equivalents() -> tuple[Equivalent, ...]:
    """All rows."""
    return parse_list(_LIST.read_text())


def equivalent_of(mutant: Mutant) -> Equivalent | None:
    """The row that names it."""
    return next((row for row in equivalents() if row.is_of(mutant)), None)
