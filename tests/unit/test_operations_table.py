"""The rows of the hot operations agree with the scripts, the fast lane and each other."""

import inspect
import json
import re
from pathlib import Path
from uuid import uuid4

import msgspec
import pytest

import service
from service.access.caller import SCOPES, Caller
from service.common.resources import LUA_DIR
from service.domain.field_types import RESERVED_CODES
from service.fastlane.routes import WITH_CODE, WITHOUT_CODE
from service.hot.scripts import HOT, LIMITED
from service.operations import table
from service.operations.base import Call, Command, Rendered
from service.operations.run import finish, with_limits
from service.operations.table import ROWS, Row

EVERY = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.operation_id)


@EVERY
def test_the_row_names_its_script(row: Row) -> None:
    """The script exists, requests may run it with and without limits, and it takes as many keys as the row says."""
    head = (LUA_DIR / f"{row.script}.lua").read_text().split("]]", 1)[0]
    keys = re.search(r"^KEYS +(.*?)^ARGV", head, re.DOTALL | re.MULTILINE)
    assert keys
    assert len(re.findall(r"^ *\d+ +\w+ +(?:string|hash|stream)\b", keys[1], re.MULTILINE)) == row.keys
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
    """A fast row is found by its route's word; no other row is."""
    found = [*WITH_CODE.values(), *WITHOUT_CODE.values()]
    assert {row.operation_id for row in found} == {row.operation_id for row in ROWS if row.fast}
    assert len(found) == len(set(map(id, found)))


def test_words_of_paths_are_no_codes() -> None:
    """A word that follows /v1/coupons/ in a route can't be a code, which the same place may name."""
    words = {row.route.split("/")[3] for row in ROWS if row.route.startswith("POST /v1/coupons/")}
    assert {word.upper() for word in words} <= RESERVED_CODES


def test_the_console_knows_every_success() -> None:
    """What the console counts as done is each row's `done`; it shows any other name as a refusal."""
    script = (Path(service.__file__).parent / "pages/console/assets/overview.js").read_text()
    (good,) = re.findall(r"^const GOOD = new Set\((.*)\);$", script, re.MULTILINE)
    assert set(json.loads(good)) == {row.done for row in ROWS if row.done}


def test_finish_may_run_twice() -> None:
    """A reply of a caller with limits is rendered twice where the answer waits for the record."""
    caller = Caller(uuid4(), 3, uuid4(), 2, "live", frozenset(SCOPES), limits="1 - - -")
    render = lambda reply, durability: Rendered(200, msgspec.json.encode([*reply, durability]))  # noqa: E731
    command = with_limits(Call(caller), Command("lock", (), (), render))
    reply = [0, "payload", "", "", "9 60"]
    once, again = finish(command, reply, "accepted"), finish(command, reply, "recorded")
    assert (once.body, once.rates) == (b'[0,"payload","","","accepted"]', "9 60")
    assert (again.body, again.rates) == (b'[0,"payload","","","recorded"]', "9 60")
