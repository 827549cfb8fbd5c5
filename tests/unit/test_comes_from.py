"""docs/comes-from.md names requests that there are, and tests that there are."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.common.config import Settings
from service.serving.app import create_app

ROOT = Path(__file__).parents[2]


def _rows() -> Iterator[tuple[str, str, str]]:
    text = (ROOT / "docs" / "comes-from.md").read_text()
    for line in text.splitlines():
        if line.startswith("| ") and not line.startswith("| what"):
            what, request, test = (cell.strip() for cell in line.strip("|").split("|"))
            yield what, request, test


ROWS = list(_rows())
PATHS = create_app(Settings()).openapi_schema.to_schema()["paths"]
PAGES = {"/checkout", "/schema", "/schema/openapi.json"}


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_a_row(row: tuple[str, str, str]) -> None:
    """No cell is empty, and the test named is in its file."""
    assert all(row)
    found = re.fullmatch(r"`(tests/\w+/test_\w+\.py)::(test_\w+)`", row[2])
    assert found, row[2]
    tree = ast.parse(Path(ROOT / found[1]).read_text())
    names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    assert found[2] in names, row[2]
    for method, path in re.findall(r"(GET|POST|PATCH|DELETE) (/[^`?\s]*)", row[1]):
        assert path in PAGES or method.lower() in PATHS[path], (method, path)
