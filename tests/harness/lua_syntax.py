"""The syntax tree of a Lua file: its statements, and the markers that record which tests reach them."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import tree_sitter_lua
from tree_sitter import Language, Node, Parser

LUA_DIR = Path(__file__).parents[2] / "lua"
MARKER = "_T"
"""The function called before each marked statement."""
_parser = Parser(Language(tree_sitter_lua.language()))
_BLOCKS = ("chunk", "block")
_NO_STATEMENTS = ("comment", "function_declaration", "hash_bang_line")


@cache
def files() -> tuple[str, ...]:
    """All Lua files, as paths below lua/, in a fixed order: a marker's number depends on it."""
    return tuple(sorted(path.relative_to(LUA_DIR).as_posix() for path in LUA_DIR.rglob("*.lua")))


@cache
def source_of(file: str) -> bytes:
    return (LUA_DIR / file).read_bytes()


@cache
def tree_of(file: str) -> Node:
    """The file's tree; ValueError where it doesn't parse."""
    return parse(source_of(file), file)


def parse(source: bytes, name: str) -> Node:
    """A text's tree; ValueError where it doesn't parse."""
    root = _parser.parse(source).root_node
    if root.has_error:
        raise ValueError(f"{name} is not Lua")
    return root


def nodes_of(node: Node) -> Iterator[Node]:
    """The node and all below it, in the order of the text."""
    yield node
    for child in node.children:
        yield from nodes_of(child)


def text_of(node: Node) -> str:
    return (node.text or b"").decode()


def is_statement(node: Node) -> bool:
    """Whether the node is a statement of a block that can be marked; a function's declaration can't."""
    return node.parent is not None and node.parent.type in _BLOCKS and node.is_named and node.type not in _NO_STATEMENTS


def statement_around(node: Node) -> Node | None:
    """The innermost statement that has to run for the node to run, else None."""
    around: Node | None = node
    while around is not None and not is_statement(around):
        around = around.parent
    return around


def marker_of(file: str, statement: Node) -> int:
    """The statement's number, which no other statement of any file has."""
    return files().index(file) * 100_000 + statement.start_byte


def marked(file: str) -> bytes:
    """The file's text with a call of the marker before each statement."""
    source, parts, at = source_of(file), [], 0
    for node in nodes_of(tree_of(file)):
        if is_statement(node):
            parts += [source[at : node.start_byte], b"%s(%d);" % (MARKER.encode(), marker_of(file, node))]
            at = node.start_byte
    return b"".join([*parts, source[at:]])
