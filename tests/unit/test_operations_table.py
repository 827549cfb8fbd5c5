"""The rows of the hot operations agree with the scripts, the fast lane and each other."""

import dataclasses
import inspect

import msgspec
import pytest

from service.domain.field_types import RESERVED_CODES
from service.fastlane.routes import WITH_CODE, WITHOUT_CODE
from service.hot.scripts import HOT, LIMITED
from service.operations import table
from service.operations.base import Call, Command, Rendered
from service.operations.run import finish, with_limits
from service.operations.table import ROWS, Row
from tests.unit.test_scripts import CALLER, keys_of

EVERY = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.operation_id)


@EVERY
def test_the_row_names_its_script(row: Row) -> None:
    """A row's script exists with the row's number of keys, and requests may run it with and without limits."""
    assert len(keys_of(row.script)) == row.keys
    assert row.script in HOT
    assert f"{row.script}+" in LIMITED


def test_each_row_is_listed_once() -> None:
    """Every row of the module is in ROWS; operation ids, routes and batch names are unique."""
    assert {id(row) for _, row in inspect.getmembers(table, lambda member: isinstance(member, Row))} == set(
        map(id, ROWS)
    )
    for names in (
        [row.operation_id for row in ROWS],
        [row.route for row in ROWS],
        [row.batch for row in ROWS if row.batch],
    ):
        assert len(set(names)) == len(names)


def test_the_fast_lane_has_every_fast_row() -> None:
    """The fast lane has each fast row under its route, and no other row."""
    rows = [*WITH_CODE.values(), *WITHOUT_CODE.values()]
    assert {row.operation_id for row in rows} == {row.operation_id for row in ROWS if row.fast}
    assert len(rows) == len(set(map(id, rows)))


def test_path_segments_are_no_codes() -> None:
    """No segment that follows /v1/coupons/ in a route can be a code, which the same place may name."""
    words = {row.route.split("/")[3] for row in ROWS if row.route.startswith("POST /v1/coupons/")}
    assert {segment.upper() for segment in words} <= RESERVED_CODES


def test_finish_may_run_twice() -> None:
    """`finish` renders the reply of a caller with limits twice where the answer waits for the record."""
    caller = dataclasses.replace(CALLER, limits="1 - - -")
    render = lambda reply, durability: Rendered(200, msgspec.json.encode([*reply, durability]))  # noqa: E731
    command = with_limits(Call(caller), Command("lock", (), (), render))
    reply = [0, "payload", "", "", "9 60"]
    once, again = finish(command, reply, "accepted"), finish(command, reply, "recorded")
    assert (once.body, once.rates) == (b'[0,"payload","","","accepted"]', "9 60")
    assert (again.body, again.rates) == (b'[0,"payload","","","recorded"]', "9 60")
