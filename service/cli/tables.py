"""What commands print: tables, with a line of headers and a line for each row; and JSON. Modules of cli/ call this."""

from collections.abc import Iterable, Sequence
from typing import Any

import click
import msgspec

AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
"""The option of commands that list something."""


def render_table(headers: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Render the columns two spaces apart, aligned to the left."""
    lines = [headers, *([str(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def render_json(value: Any) -> str:
    """The value as JSON, indented."""
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
