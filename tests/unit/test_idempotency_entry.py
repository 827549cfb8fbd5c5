"""Users in stored answers: who is replaced, and who is a merchant's text."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as some

from service.engine.formats.idempotency_entry import (
    PACKED_BYTES,
    answer_payload,
    parse_answer,
    parse_entry,
    without_users,
)
from service.engine.formats.script_replies import COUPON_VIEW

GONE = {"ann": "deleted-1"}
EVENT = {"eventId": "1-2", "userId": "ann", "orderId": "ann", "text": "redeemed, code C by user ann in order ann."}
LONG = "x" * PACKED_BYTES


def replace(body: dict[str, Any]) -> dict[str, Any]:
    """The body of a stored answer, after the deletion of `ann`."""
    entry = f"print 0 {answer_payload(201, msgspec.json.encode(body), '/v1/books/1')}"
    status, stored, location = parse_answer(parse_entry(without_users(entry, GONE)).payload)
    assert (status, location) == (201, "/v1/books/1")
    return msgspec.json.decode(stored)


@pytest.mark.parametrize("more", [{}, {"description": LONG}])
@pytest.mark.parametrize(
    "body",
    [
        {"bookId": "1", "metadata": {"userId": "ann"}},
        {"bookId": "1", "metadata": [{"userId": "ann", "text": " by user ann"}]},
        {"metadata": {"eventId": "1-2", "userId": "ann"}, "userId": "bob"},
        {"userId": None, "metadata": {"userId": "ann"}},
        {"userId": 7, "metadata": {"userId": "ann"}},
        {"eventId": "1-2", "text": "unreadable.", "userId": None, "recorded": '"userId":"ann"'},
    ],
)
def test_a_merchants_text_stays_as_written(body: dict[str, Any], more: dict[str, str]) -> None:
    """A name in metadata names no user of ours: the answer stays, and no other kind of answer is assumed."""
    assert replace(body | more) == body | more


@pytest.mark.parametrize("more", [{}, {"description": LONG}])
def test_the_user_of_an_answer_is_replaced(more: dict[str, str]) -> None:
    """The answer's own user is replaced, whatever the answer is of; of a quarantined event in its text, too."""
    coupon = {"code": "C", "userId": "ann", "metadata": {"userId": "ann"}, "text": " by user ann"}
    assert replace(coupon | more) == coupon | more | {"userId": "deleted-1"}
    gone = {"userId": "deleted-1", "text": "redeemed, code C by user deleted-1 in order ann."}
    assert replace(EVENT | more) == EVENT | more | gone


_texts = some.sampled_from(
    ["201", "-", "ann", "@1-2", "@.", "B", "Uabc", "zabc", "z", "2", "{", '{"userId":"ann"}', ""]
)
_bodies = some.sampled_from(
    ['{"eventId":"1","userId":"ann"}', '{"userId":"ann"', '{"userId":"ann","eventId":1,"text":2}']
)


@given(some.lists(_texts | _bodies | some.text(max_size=9), max_size=len(COUPON_VIEW) + 6).map(" ".join))
def test_no_entry_stops_the_others(entry: str) -> None:
    """Whatever an entry has, its users are replaced or it stays as it is."""
    without_users(f"print 0 {entry}", GONE)
