"""The rows of the hot operations agree with the scripts, the fast lane and each other."""

import dataclasses
import re

import msgspec
import pytest

from service.engine.domain.field_types import RESERVED_CODES
from service.engine.hot.scripts import HOT, LIMITED, compose
from service.engine.operations import table
from service.engine.operations.base import Call, Command, Rendered
from service.engine.operations.run import finish, with_limits
from service.engine.operations.table import ROWS, Row
from service.server.fastlane.routes import FAST_ROWS, find_route, find_route_of
from tests.harness.routes.table import ROUTES
from tests.unit.test_scripts import CALLER

EVERY = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.operation_id)


@EVERY
def test_the_row_names_its_script(row: Row) -> None:
    """A row's script exists, and requests may run it with and without limits."""
    assert row.script in HOT
    assert f"{row.script}+" in LIMITED


@EVERY
def test_the_row_says_whether_its_script_reads(row: Row) -> None:
    """The script of a row that reads has no command that writes; the script of each other row has one."""
    assert row.reads != bool(re.search(r"'(SET|DEL|XADD|[HZ]SET|HINCRBY|ZADD|ZREM|HDEL)'", compose(row.script, "n")))


def test_each_row_is_listed_once() -> None:
    """Every row of the module is in ROWS; operation ids, routes and batch names are unique."""
    assert {id(row) for row in vars(table).values() if isinstance(row, Row)} == set(map(id, ROWS))
    for name in ("operation_id", "route", "batch"):
        names = [value for row in ROWS if (value := getattr(row, name))]
        assert len(set(names)) == len(names)


def test_the_fast_lane_has_every_fast_row() -> None:
    """The fast lane finds the row and the name of each fast route, and no other route."""
    for row in ROWS:
        match = find_route(f"{re.sub(r'{.*}', 'Name-1', row.route)} HTTP/1.1\r\n".encode())
        assert bool(match) == row.fast
        if match:
            number = match.lastindex or 0
            assert (FAST_ROWS[number - 1], match[number]) == (row, b"Name-1" * ("{" in row.route))


def test_the_fast_lane_finds_routes_of_any_form() -> None:
    """A name may stand anywhere in a path, or nowhere; a path that goes on, or has another name, is another route."""
    rows = [row for row in ROWS if row.route.startswith("POST ")]
    find = find_route_of(rows)
    for number, row in enumerate(rows, 1):
        path = re.sub(r"{.*}", "name_1", row.route).encode()
        match = find(path + b" HTTP/1.1\r\n")
        assert match
        assert (match.lastindex, match[number], match.end()) == (number, b"name_1" * ("{" in row.route), len(path))
        dotted = path.replace(b"name_1", b"n.1") + b"%20"
        for other in (path + b"/x/y", path + b"?", dotted, b"GET" + path[4:], path[1:]):
            assert find(other + b" HTTP/1.1\r\n") is None


def test_path_segments_are_no_codes() -> None:
    """The reserved words are the segments that follow /v1/coupons/ in a route, where another has a code."""
    words = {found[1].upper() for route in ROUTES if (found := re.match(r"\w+ /v1/coupons/([\w-]+)", route.name))}
    assert words == RESERVED_CODES


def test_finish_may_run_twice() -> None:
    """`finish` renders the reply of a caller with limits twice where the answer waits for the record."""
    caller = dataclasses.replace(CALLER, limits="1 - - -")
    render = lambda reply, durability: Rendered(200, msgspec.json.encode([*reply, durability]))  # noqa: E731
    command = with_limits(Call(caller), Command("lock", (), (), render))
    reply = [0, "payload", "", "", "9 60"]
    once, again = finish(command, reply, "accepted"), finish(command, reply, "recorded")
    assert (once.body, once.rates) == (b'[0,"payload","","","accepted"]', "9 60")
    assert (again.body, again.rates) == (b'[0,"payload","","","recorded"]', "9 60")
