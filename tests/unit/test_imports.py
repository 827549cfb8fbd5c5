"""What test modules do when they are imported: many minutes may go by before their tests run."""

import ast
from collections.abc import Iterator
from pathlib import Path

_TESTS = Path(__file__).parents[1]
_MOMENTARY = {"time", "time_ns", "monotonic", "perf_counter", "now", "utcnow", "today", "free_port"}
"""Names of functions whose values are of a moment."""


def momentary_calls(text: str) -> list[int]:
    """The lines of calls of these functions that run on import: not those in functions, but defaults and decorators."""
    return [
        node.lineno
        for node in _run_on_import(ast.parse(text))
        if isinstance(node, ast.Call)
        and (node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")) in _MOMENTARY
    ]


def _run_on_import(node: ast.AST) -> Iterator[ast.AST]:
    yield node
    for name, child in ast.iter_fields(node):
        is_body = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) and name == "body"
        for one in child if isinstance(child, list) else [child]:
            if isinstance(one, ast.AST) and not is_body:
                yield from _run_on_import(one)


def test_no_value_is_of_the_moment_of_import() -> None:
    """No test module takes the time, or a free port, when it is imported."""
    found = {
        f"{path.relative_to(_TESTS)}:{line}"
        for path in _TESTS.rglob("*.py")
        for line in momentary_calls(path.read_text())
    }
    assert found == set()


def test_the_check_can_fail() -> None:
    """Constants, defaults, decorators and class attributes are of the moment of import; calls in functions are not."""
    text = """
NOW = time.time()
def f(at=datetime.now(UTC)): return time.time()
class A:
    PORT = free_port()
@mark(time_ns())
def g(): now()
h = lambda at: time.time()
"""
    assert momentary_calls(text) == [2, 3, 5, 6]
