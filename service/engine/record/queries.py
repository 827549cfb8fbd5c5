"""The SQL statements of `sql/queries`, by name. Only modules of record/, the doctor and housekeeping.py call this. A
file has its statements in alphabetical order, each with a head: `-- name:`, a sentence, the parameters. `{book}` in a
statement is a list of columns.sql."""

import re
from functools import cache
from pathlib import Path

from service.common.resources import SQL_DIR

_head = re.compile(r"^-- name: *(.*)$", re.MULTILINE)
_name = re.compile(r"[a-z][a-z0-9_]*")
_columns = re.compile(r"^-- columns: *([a-z_]+)\n(?:--.*\n)*((?:[^-\n].*\n)+)", re.MULTILINE)
_list = re.compile(r"\{([a-z_]+)\}")


def query(name: str) -> str:
    """The statement of this name. Raises KeyError if there is none."""
    return _all()[name]


def read_queries(folder: Path) -> dict[str, str]:
    """All statements, with their heads. Raises ValueError if a name is invalid or duplicated, and KeyError if a list of
    columns is missing."""
    statements: dict[str, str] = {}
    columns = {
        name: listed.rstrip()
        for path in folder.glob("columns.sql")
        for name, listed in _columns.findall(path.read_text("utf-8"))
    }
    for path in sorted(folder.glob("*.sql")):
        _, *parts = _head.split(path.read_text("utf-8"))
        for name, text in zip(parts[::2], parts[1::2], strict=True):
            if not _name.fullmatch(name) or name in statements:
                raise ValueError(f"{path.name}: the name {name!r} is bad or there twice")
            whole = _list.sub(lambda found: columns[found[1]], text.rstrip())
            statements[name] = f"-- name: {name}{whole}"
    return statements


@cache
def _all() -> dict[str, str]:
    return read_queries(SQL_DIR / "queries")
