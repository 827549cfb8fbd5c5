"""The mutation operators: each turns a node of a Lua file's syntax tree into the changes that break it: some 3,700
mutants. `written.txt` has mistakes that no operator makes, `equivalents.txt` mutants that change nothing."""

import re
from collections.abc import Callable, Iterator
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from tree_sitter import Node

from tests.harness.lua_syntax import files, marker_of, nodes_of, source_of, statement_around, text_of, tree_of

_COMPARISONS = {"<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "~=", "~=": "=="}
_ARITHMETIC = {"+": "-", "-": "+", "*": "/", "/": "*", "%": "*"}
_FUNCTIONS = {"math.min": "math.max", "math.max": "math.min", "math.floor": "math.ceil", "math.ceil": "math.floor"}
_WRITES = """DEL HDEL HINCRBY HSET HSETNX INCR PEXPIRE SADD SET SMOVE SREM UNLINK XADD XTRIM ZADD ZREM
    ZREMRANGEBYSCORE ZINCRBY""".split()
_OUTCOMES = {"OUT.OK": "OUT.REPEATED", "OUT.REPEATED": "OUT.OK", "OUT.recovering": "OUT.invalid"}
_SURROUNDING = ("arguments", "expression_list", "field", "parenthesized_expression", "unary_expression")
_plain_find = re.compile(r"(string\.)?find\(\w+(\.\w+)?, '[\w !]+', 1, true\)$")
_COMMITS = ("commit()", "commit_without_event()")


class Edit(NamedTuple):
    """A stretch of the text and what replaces it. `old` and `new` show the change where the stretch doesn't."""

    start: int
    end: int
    text: str
    old: str
    new: str


class Mutant(NamedTuple):
    """One change of one file."""

    file: str
    operator: str
    line: int
    start: int
    end: int
    text: str
    """What replaces the bytes from `start` to `end`."""
    change: str
    """The change in one line."""
    marker: int | None
    """Of the statement that has to run for the change to matter; None where every run of the script reads it."""

    @property
    def source_line(self) -> str:
        """The line of the file that it changes, or the first of them."""
        return source_of(self.file).decode().splitlines()[self.line - 1].strip()

    @property
    def row(self) -> str:
        """The row of equivalents.txt that would name it."""
        return f"{self.file} ¦ {self.operator} ¦ {self.change} ¦ {self.source_line}"

    def mutated(self) -> bytes:
        source = source_of(self.file)
        return source[: self.start] + self.text.encode() + source[self.end :]

    def __str__(self) -> str:
        return f"lua/{self.file}:{self.line} {self.operator}: {self.change}"


def _replace(node: Node, text: str) -> Edit:
    return Edit(node.start_byte, node.end_byte, text, text_of(node), text)


def _operands(node: Node) -> tuple[Node, str, Node]:
    left, operator, right = (child for child in node.children if child.type != "comment")
    return left, operator.type, right


def _comparison(node: Node) -> Iterator[Edit]:
    """The neighbouring comparison; for a range in Redis, a bound that is no longer excluded."""
    if node.type != "binary_expression":
        return
    left, operator, right = _operands(node)
    if operator in _COMPARISONS and not (operator in ("==", "~=") and _is_decided(node)):
        yield _replace(node, f"{text_of(left)} {_COMPARISONS[operator]} {text_of(right)}")
    elif operator == ".." and text_of(left) == "'('":
        yield _replace(node, text_of(right))


def _boundary(node: Node) -> Iterator[Edit]:
    """A number, but no index, plus 1, or minus 1 where a comparison does the other; a truth is its opposite."""
    if node.type in ("true", "false") and not _is_plain(node):
        yield _inside(node, "false" if node.type == "true" else "true")
    if node.type != "number" or node.parent is None or node.parent.type == "bracket_index_expression":
        return
    step, parent = 1, node.parent
    if parent.type == "binary_expression" and node == parent.children[2] and parent.children[1].type in ("<", ">="):
        step = -1
    text = text_of(node)
    yield _inside(node, str(int(text) + step) if text.isdigit() else f"({text} + {step})")


def _arithmetic(node: Node) -> Iterator[Edit]:
    """The opposite operator or rounding; a sign is dropped."""
    if node.type == "binary_expression":
        left, operator, right = _operands(node)
        if operator in _ARITHMETIC:
            yield _replace(node, f"{text_of(left)} {_ARITHMETIC[operator]} {text_of(right)}")
    elif node.type == "unary_expression" and node.children[0].type == "-":
        yield _inside(node, text_of(node.children[1]))
    elif node.type == "function_call" and (name := text_of(node.children[0])) in _FUNCTIONS:
        yield _replace(node, _FUNCTIONS[name] + text_of(node.children[1]))


def _logic(node: Node) -> Iterator[Edit]:
    """One operand of `and` or `or` alone, harder to notice than the other operator; no `not`; one bound less."""
    if node.type == "binary_expression":
        left, operator, right = _operands(node)
        if operator in ("and", "or"):
            if right.type not in ("nil", "false"):  # another false value
                yield _replace(node, text_of(left))
            yield _replace(node, text_of(right))
    elif node.type == "unary_expression" and node.children[0].type == "not" and not _is_decided(node):
        yield _replace(node, text_of(node.children[1]))
    elif node.type == "function_call" and text_of(node.children[0]) in ("math.min", "math.max"):
        arguments = [text_of(child) for child in node.children[1].named_children]
        for left_out in range(len(arguments)):
            rest = [argument for number, argument in enumerate(arguments) if number != left_out]
            yield _replace(node, f"{text_of(node.children[0])}({', '.join(rest)})")


def _statement(node: Node) -> Iterator[Edit]:
    """A call or an assignment left out; what declares a name stays, since Redis fails without it."""
    if (
        statement_around(node) == node
        and node.type in ("function_call", "assignment_statement")
        and not _is_write(node)
    ):
        yield _replace(node, "")


def _write(node: Node) -> Iterator[Edit]:
    """A command that writes, a commit or an event left out; a caller that waits for the event's number gets one."""
    if node.type == "function_call" and _is_write(node):
        reply = "EPOCH .. '-1'" if text_of(node).startswith("append(") else "nil"
        yield _replace(node, "" if statement_around(node) == node else reply)


def _condition(node: Node) -> Iterator[Edit]:
    """A condition that always or never holds."""
    if node.type in ("if_statement", "elseif_statement", "while_statement", "repeat_statement"):
        condition = node.child_by_field_name("condition") or node
        operator = condition.children[1].type if condition.type == "binary_expression" else ""
        if operator != "and":  # what kills the operands kills this, too
            yield _replace(condition, "true")
        if operator != "or":
            yield _replace(condition, "false")


def _outcome(node: Node) -> Iterator[Edit]:
    """Another outcome: done for the first time or again, or another refusal."""
    if node.type == "dot_index_expression" and (name := text_of(node)).startswith("OUT."):
        yield _replace(node, _OUTCOMES.get(name, "OUT.recovering"))


def _order(node: Node) -> Iterator[Edit]:
    """Two checks swapped: an `if` and the next `if` of the same block, with what is declared between them put first."""
    if node.type != "if_statement":
        return
    between, other = [], node.next_named_sibling
    while other is not None and other.type in ("comment", "variable_declaration"):
        if other.type != "comment":
            between.append(text_of(other))
        other = other.next_named_sibling
    if other is not None and other.type == "if_statement":
        text = "\n".join([*between, text_of(other), text_of(node)])
        first, second = text_of(node).split("\n")[0], text_of(other).split("\n")[0]
        yield Edit(node.start_byte, other.end_byte, text, f"{first} … {second}", "swapped")


OPERATORS: dict[str, Callable[[Node], Iterator[Edit]]] = {
    "comparison": _comparison,
    "boundary": _boundary,
    "arithmetic": _arithmetic,
    "logic": _logic,
    "statement": _statement,
    "write": _write,
    "condition": _condition,
    "outcome": _outcome,
    "order": _order,
}


def _is_plain(node: Node) -> bool:
    """Whether it only says that letters, digits or blanks are searched as text, as patterns of them are, too."""
    call = node.parent.parent if node.parent else None
    return call is not None and _plain_find.match(text_of(call)) is not None


def _is_decided(node: Node) -> bool:
    """Whether it is a condition or an operand of one: what kills the operators of those kills its opposite, too."""
    parent = node.parent
    if parent is None:
        return False
    if parent.type == "binary_expression":
        return parent.children[1].type in ("and", "or")
    return parent.child_by_field_name("condition") == node


def _is_write(node: Node) -> bool:
    text = text_of(node)
    if text in _COMMITS or text.startswith("append("):
        return True
    arguments = node.child_by_field_name("arguments")
    if not text.startswith(("redis.call(", "redis.pcall(")) or arguments is None or not arguments.named_children:
        return False
    return text_of(arguments.named_children[0]).strip("'\"") in _WRITES


def _inside(node: Node, text: str) -> Edit:
    """A small change, shown with its surroundings, so that two of one line differ."""
    surrounding = node
    while surrounding.parent is not None and surrounding.parent.type in _SURROUNDING:
        surrounding = surrounding.parent
    if surrounding.parent is not None and surrounding.parent.type in (
        "binary_expression",
        "function_call",
        "for_numeric_clause",
    ):
        surrounding = surrounding.parent
    before, old = node.start_byte - surrounding.start_byte, (surrounding.text or b"")
    new = old[:before] + text.encode() + old[before + node.end_byte - node.start_byte :]
    return Edit(node.start_byte, node.end_byte, text, old.decode(), new.decode())


def _line(text: str) -> str:
    return " ".join(text.split())


def edits_of(node: Node, operator: str) -> Iterator[Edit]:
    """What an operator makes of a node and of all below it."""
    for below in nodes_of(node):
        yield from OPERATORS[operator](below)


@cache
def mutants_of(file: str) -> tuple[Mutant, ...]:
    mutants = []
    for node in nodes_of(tree_of(file)):
        statement = statement_around(node)
        marker = marker_of(file, statement) if statement is not None else None
        for name, operator in OPERATORS.items():
            for edit in operator(node):
                change = f"{_line(edit.old)} → {_line(edit.new) or 'left out'}"
                line = node.start_point[0] + 1
                mutants.append(Mutant(file, name, line, edit.start, edit.end, edit.text, change, marker))
    return tuple(mutants)


@cache
def all_mutants() -> tuple[Mutant, ...]:
    return tuple(mutant for file in files() for mutant in mutants_of(file))


@cache
def equivalents() -> tuple[tuple[str, str], ...]:
    """The reviewed mutants that change nothing which a test of the contract may see: the rows of equivalents.txt, each
    with its reason, the lines above it that begin with a `#`."""
    rows, reason = list[tuple[str, str]](), ""
    lines = filter(None, Path(__file__).with_name("equivalents.txt").read_text().splitlines())
    for is_reason, block in groupby(lines, lambda line: line.startswith("#")):
        if is_reason:
            reason = " ".join(line[1:].strip() for line in block)
        else:
            rows += [(row, reason) for row in block]
    return tuple(rows)
