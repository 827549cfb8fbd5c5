"""The SQL statements of `sql/queries`, by name. Only modules of record/, the doctor and housekeeping.py call this. A
file has its statements in alphabetical order, each with a head: `-- name:`, a sentence, the parameters.

`{book}` in a statement is a list of columns.sql. `{sent}` are the columns of what clients send with a redemption
(service/engine/domain/sent_fields.py), `{settings}` those of a book's settings (service/engine/domain/settings.py). In
a statement that writes settings `{settings_values}` are their parameters, after its own, `{settings_changes}` both, and
`{settings_parameters}`, in its head, the parameters with their types. A list in a comment, `-- , {name}`, goes on with
the line before it, where the formatter of SQL can't read the list itself."""

import re
from functools import cache
from pathlib import Path

from service.common.resources import SQL_DIR
from service.engine.domain.configuration import BookRow
from service.engine.domain.settings import described
from service.engine.formats.events import SENT

_head = re.compile(r"^-- name: *(.*)$", re.MULTILINE)
_name = re.compile(r"[a-z][a-z0-9_]*")
_columns = re.compile(r"^-- columns: *([a-z_]+)\n(?:--.*\n)*((?:[^-\n].*\n)+)", re.MULTILINE)
_list = re.compile(r"\{([a-z_]+)\}")
_parameter = re.compile(r"\$(\d+)")

SETTINGS = [*described(BookRow)]
"""The columns of a book that come from the table of settings, in the order of their parameters."""


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
            lists = columns | {"sent": ", ".join(SENT)} | _settings(text)
            whole = _list.sub(lambda found: lists[found[1]], text.rstrip().replace("-- , {", ", {"))  # noqa: B023, called here
            whole = _list.sub(lambda found: lists[found[1]], whole)  # noqa: B023, of a list
            statements[name] = f"-- name: {name}{whole}"
    return statements


def _settings(text: str) -> dict[str, str]:
    """The lists of settings in a statement with these parameters of its own."""
    first = max(map(int, _parameter.findall(text)), default=0) + 1
    values = [f"${first + number}" for number in range(len(SETTINGS))]
    changes = [f"{name} = {value}" for name, value in zip(SETTINGS, values, strict=True)]
    lists = {"settings": SETTINGS, "settings_values": values, "settings_changes": changes}
    types = ("boolean" if field.kind is bool else "int" for field in described(BookRow).values())
    head = (f"{value} {name} {type_}" for value, name, type_ in zip(values, SETTINGS, types, strict=True))
    return {name: ", ".join(words) for name, words in lists.items()} | {"settings_parameters": "  ".join(head)}


@cache
def _all() -> dict[str, str]:
    return read_queries(SQL_DIR / "queries")
