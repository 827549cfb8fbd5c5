"""No script makes text of a number but by `whole`: `..` and table.concat keep 14 digits, Redis's own conversion 17, and
a time has 15 from the year 5138 on.

Literals, calls of TEXT_CALLS and names of TEXT are text. A name is in that list only after a review of all its
assignments; a plain number can't be assigned to such a name any more."""

import re
from functools import cache

import pytest
from tree_sitter import Node

from tests.harness.lua_syntax import files, nodes_of, parse, source_of, text_of

TEXT_CALLS = {"whole", "string.format", "string.match", "string.sub", "table.concat", "workspace_number"}
TEXT_CALLS |= {"gift_text", "id_of", "renews_at", "unpack", "unpack_values", "view_of_account"}
TEXT = set(
    """a assigned_at at balance_after book book_id books_key bucket bucket_key by c code counted counted_at
    counters coupon_key currency decided digits discount discount_terms due_by e4 ended ends ends_text entry EPOCH
    erased event field figures fingerprint full generation gift_view had head hold HOLDER holder id
    idempotency_key items its_currency its_digits its_own its_token its_value keep_ms kept key last lock
    lock_ms mark marks max_lock_ms member ms_text name names new_bucket new_entry new_key new_token NONCE notice
    now_text number of off old_key order order_bucket orders_key outbox outcome owner payload period periods
    place place_text prefix pseudonym redeemed REPLID request rest saved score set share shares sign slot
    started state status stored text token user user_bucket users users_key users_locks value verb version view
    W w wanted was_set whose why workspace UP_TO_MARK""".split()
)
TEXT_LISTS = set("parts lacking events records book_ids books reasons set_aside sums words".split())
CALLS = {"redis.call", "redis.pcall", "command"}
ADVICE = "may be a number: put whole(…) around it, or review its name for TEXT; a number needs a name outside TEXT"
CHECKED = {"binary_expression", "function_call", "dot_index_expression", "assignment_statement", "field"}


@cache
def checked_nodes(source: bytes) -> list[Node]:
    """The nodes in which numbers may become text."""
    return [node for node in nodes_of(parse(source, "script")) if node.type in CHECKED]


def find_numbers_as_text(source: bytes) -> list[str]:
    """Each place at which a number may become text otherwise than by `whole`, with what to write there."""
    places = [place for node in checked_nodes(source) for place in find_problems(node)]
    return [f"line {place.start_point[0] + 1}: {text_of(place)} {ADVICE}" for place in places]


def find_problems(node: Node) -> list[Node]:
    """The values in this node that must be text and may be numbers, and the numbers given to reviewed names."""
    match node.type:
        case "binary_expression" if operator_of(node) == "..":
            return [value for value in node.named_children if not is_text(value)]
        case "function_call" if name_of(node) in CALLS:
            return [value for value in arguments_of(node) if not is_text(value) and not is_small_number(value)]
        case "function_call" if name_of(node) == "table.concat":
            return [value for value in arguments_of(node)[:1] if text_of(value) not in TEXT_LISTS]
        case "dot_index_expression" if text_of(node) in CALLS and not is_checked_call(node):
            return [node]
        case "assignment_statement" | "field" if len(node.named_children) == 2 and sets_number(*node.named_children):
            return node.named_children[1:]
    return []


def is_text(node: Node) -> bool:
    """Whether the expression's value is text; the operands of a `..` are checked on their own."""
    match node.type:
        case "identifier" | "dot_index_expression":
            return last_name(node) in TEXT or text_of(node).startswith("OUT.")
        case "bracket_index_expression":
            return last_name(node) in {"ARGV", "KEYS", *TEXT}
        case "function_call":
            return name_of(node) in TEXT_CALLS
        case "parenthesized_expression":
            return is_text(node.named_children[0])
        case "binary_expression":
            operator = operator_of(node)
            first = {"and": 1, "or": 0}.get(operator, 2)  # the operand before `and` is the value only where it is false
            return operator in ("..", "and", "or") and all(map(is_text, node.named_children[first:]))
    return node.type == "string"


def sets_number(name: Node, value: Node) -> bool:
    """Whether one reviewed name is set to a plain number."""
    is_number = re.match(r"\d|#|tonumber\(|math\.", text_of(value))
    return last_name(name) in TEXT and is_number is not None


def is_small_number(node: Node) -> bool:
    """Whether the node is an integer literal of at most 9 digits."""
    return re.fullmatch(r"-?\d{1,9}", text_of(node)) is not None


def is_checked_call(node: Node) -> bool:
    """Whether `redis.call` is called here, or gets the name `call` or `pcall` in a table, whose calls are checked."""
    parent = node.parent
    assert parent
    is_field = parent.type == "field" and text_of(parent.named_children[0]) in ("call", "pcall")
    if parent.type == "expression_list" and text_of(node) == "redis.pcall":  # local … command = … redis.pcall
        assert parent.parent
        return "command" in text_of(parent.parent.named_children[0])
    return is_field or (parent.type == "function_call" and parent.named_children[0] == node)


def operator_of(node: Node) -> str:
    return node.children[1].type


def name_of(call: Node) -> str:
    return text_of(call.named_children[0])


def arguments_of(call: Node) -> list[Node]:
    return call.named_children[1].named_children


def last_name(node: Node) -> str:
    """The name after the last point, without an index; a list of names has none."""
    name = text_of(node).partition("[")[0]
    return "" if "," in name else name.rpartition(".")[2]


@pytest.mark.parametrize("name", files())
def test_numbers_become_text_by_whole_alone(name: str) -> None:
    """Each value that a script joins, lists or passes to Redis is a literal, `whole(…)`, or has a reviewed name."""
    assert find_numbers_as_text(source_of(name)) == []


@pytest.mark.parametrize(
    "line",
    [
        "local key = W .. now",
        "local key = now .. W",
        "local key = 'x' .. r.c.uses",
        "local key = 'x' .. (r.deadline or '-')",
        "local key = 'x' .. (c.user and c.uses or '-')",
        "local key = 'x' .. #list .. 'y'",
        "local key = 'x' .. code + 1",
        "local key = 1 + code .. 'x'",
        "local key = 'x' .. code * 2",
        "local key = 'x' .. tonumber(code)",
        "local key = 'x' .. math.max(1, 2)",
        "local key = 'x' .. 15.5",
        "local key = 'x' .. deadlines[1]",
        "local key = 'x' .. clock(workspace) .. 'y'",
        "redis.call('ZADD', key, deadline, code)",
        "redis.call('ZADD', key, l.deadline + 1, code)",
        "redis.call('SET', key, code, 'PX', 1e15)",
        "redis.pcall('XADD', outbox, 'd', now)",
        "local text = table.concat(numbers, ' ')",
        "local text = table.concat({ now, 1 }, ' ')",
        "code = tonumber(code)",
        "local e = { user = user, at = tonumber(at) }",
        "c.assigned_at = math.floor(at / 1000)",
        "local order = #list",
        "local run = redis.call",
        "local call = redis.pcall",
    ],
)
def test_a_number_is_reported(line: str) -> None:
    """The check reports each way in which a number becomes text or a reviewed name becomes a number, with advice."""
    problems = find_numbers_as_text(line.encode())
    assert problems
    assert all(problem.startswith("line 1: ") and ADVICE in problem for problem in problems)


@pytest.mark.parametrize(
    "line",
    [
        "local key = W .. 'c:' .. code",
        "local key = 'x' .. whole(c.uses) .. (c.user or '-') .. (c.max and whole(c.max) or '-')",
        "local key = ARGV[1] .. OUT.OK .. KEYS[i + 1]",
        "redis.call('ZRANGEBYSCORE', W .. 'kd:' .. c.code, '(' .. whole(now), '+inf', 'LIMIT', 0, 20)",
        "redis.call('ZRANGE', key, -1, -1)",
        "redis.call('DEL', unpack(names))",
        "redis = { call = redis.pcall, pcall = redis.pcall }",
        "-- 'x' .. now",
    ],
)
def test_text_passes(line: str) -> None:
    """The check accepts literals, `whole(…)` and reviewed names."""
    assert find_numbers_as_text(line.encode()) == []


@pytest.mark.parametrize("reviewed", [TEXT, TEXT_CALLS, TEXT_LISTS], ids=["TEXT", "TEXT_CALLS", "TEXT_LISTS"])
def test_every_reviewed_name_is_in_use(reviewed: set[str]) -> None:
    """Without a reviewed name the check reports some script, so that no name outlives its review."""
    for name in tuple(reviewed):
        reviewed.remove(name)
        assert any(find_numbers_as_text(source_of(file)) for file in files()), name
        reviewed.add(name)
