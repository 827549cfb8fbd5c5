"""The log events of the service, as its source names them; reference.py makes docs/reference/log-events.md of them."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from service.common.remedies import REMEDIES

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / "docs/reference/log-events.md"
LEVELS = ("critical", "error", "warning", "info")

_HEAD = """\
# Log events

For operators. At the end you know what a line of the log says, and what to do about it.

Each process writes JSON lines to stderr, or text to a terminal. Each line has `event`, `level`, `timestamp`, `process`,
`release` and `logger`; warnings and errors have `remedy`, which says what to do; a line about an exception has
`exception`. No line has a whole code, key or token. Libraries' own lines have sentences as `event`.

`python -m tests.reference` writes this table from the source and `service/common/remedies.py`.

| event | level | fields | what to do |
|---|---|---|---|
"""


@dataclass
class Event:
    """What the calls of one name have in common or add."""

    levels: set[str] = field(default_factory=set[str])
    fields: set[str] = field(default_factory=set[str])

    @property
    def is_alarming(self) -> bool:
        """Whether a line may be a warning or an error."""
        return self.levels != {"info"}


@cache
def read_events() -> dict[str, Event]:
    """All events by name. Raises ValueError for a call that can't be read."""
    events: dict[str, Event] = {}
    for path in sorted((ROOT / "service").rglob("*.py")):
        module = ast.parse(path.read_text("utf-8"))
        classes = [node for node in ast.walk(module) if isinstance(node, ast.ClassDef)]
        inside = {id(node): of for of in classes for node in ast.walk(of)}
        for call in _log_calls(module):
            try:
                levels, names, fields = _read_call(call, module, inside.get(id(call)))
            except (StopIteration, TypeError) as error:
                raise ValueError(f"{path.relative_to(ROOT)}:{call.lineno}: not a log event by its name") from error
            for name in names:
                event = events.setdefault(name, Event())
                event.levels |= levels
                event.fields |= fields - {"exc_info"}
    return dict(sorted(events.items()))


def render() -> str:
    lines = []
    for name, event in read_events().items():
        levels = ", ".join(level for level in LEVELS if level in event.levels)
        fields = " ".join(f"`{one}`" for one in sorted(event.fields))
        lines.append(f"| `{name}` | {levels} | {fields} | {REMEDIES.get(name, '')} |\n")
    return _HEAD + "".join(lines)


def _log_calls(module: ast.Module) -> Iterator[ast.Call]:
    for node in ast.walk(module):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            logger = ast.unparse(node.func.value).removeprefix("self.").partition("(")[0]
            if node.func.attr in (*LEVELS, "log") and logger in ("log", "_log", "logger", "structlog.get_logger"):
                yield node


def _read_call(call: ast.Call, module: ast.Module, of: ast.ClassDef | None) -> tuple[set[str], set[str], set[str]]:
    """Levels, names and fields of a call, in a class or in none."""
    assert isinstance(call.func, ast.Attribute)
    args, levels = iter(call.args), {call.func.attr}
    if levels == {"log"}:
        levels = {level.lower() for level in _choices(next(args))}
    names, fields = _choices(next(args)), set[str]()
    for keyword in call.keywords:
        fields |= {keyword.arg} if keyword.arg else _keys(keyword.value, module)
    if "workspace" in fields:
        fields.add("workspace_id")  # service/common/logs.py adds it
    if of and ast.unparse(call.func.value) == "self._log":
        bindings = (node for node in ast.walk(of) if isinstance(node, ast.Assign) and _is_own_log(node))
        for binding in bindings:
            fields |= {keyword.arg for keyword in binding.value.keywords if keyword.arg}  # type: ignore[attr-defined]
    return levels, names, fields


def _is_own_log(node: ast.Assign) -> bool:
    called = ast.unparse(node.value).partition("(")[0]
    return ast.unparse(node.targets[0]) == "self._log" and called.endswith("log.bind")


def _choices(node: ast.expr) -> set[str]:
    """The texts, or names, that an expression may be."""
    if isinstance(node, ast.IfExp):
        return _choices(node.body) | _choices(node.orelse)
    if isinstance(node, ast.Name):
        return {node.id}
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return {node.value}
    raise TypeError(ast.unparse(node))


def _keys(node: ast.expr, module: ast.Module) -> set[str]:
    """The keys of a dictionary: a variable that is assigned one, or a function of the module that returns one."""
    name = ast.unparse(node).partition("(")[0]
    for one in ast.walk(module):
        if isinstance(one, ast.Assign) and ast.unparse(one.targets[0]) == name and isinstance(one.value, ast.Dict):
            return _texts(one.value)
        if isinstance(one, ast.FunctionDef) and one.name == name:
            return {key for part in ast.walk(one) if isinstance(part, ast.Dict) for key in _texts(part)}
    raise TypeError(name)


def _texts(node: ast.Dict) -> set[str]:
    return {str(key.value) for key in node.keys if isinstance(key, ast.Constant)}
