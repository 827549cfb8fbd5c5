"""The SQL statements of `sql/queries`, by name. Only modules of record/, the doctor and housekeeping.py call this. A
file has its statements in alphabetical order, each with a head: `-- name:`, a sentence, the parameters."""

import re
from functools import cache
from pathlib import Path

from service.common.resources import SQL_DIR

_head = re.compile(r"^-- name: *(.*)$", re.MULTILINE)
_name = re.compile(r"[a-z][a-z0-9_]*")


def query(name: str) -> str:
    """The statement of this name. Raises KeyError if there is none."""
    return _all()[name]


def read_queries(folder: Path) -> dict[str, str]:
    """All statements, with their heads. Raises ValueError if a name is invalid or duplicated."""
    statements: dict[str, str] = {}
    for path in sorted(folder.glob("*.sql")):
        _, *parts = _head.split(path.read_text("utf-8"))
        for name, text in zip(parts[::2], parts[1::2], strict=True):
            if not _name.fullmatch(name) or name in statements:
                raise ValueError(f"{path.name}: the name {name!r} is bad or there twice")
            statements[name] = f"-- name: {name}{text.rstrip()}"
    return statements


@cache
def _all() -> dict[str, str]:
    return read_queries(SQL_DIR / "queries")
