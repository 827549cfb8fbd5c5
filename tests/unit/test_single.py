"""Single coupons: a flat request makes a coupon and its book."""

from typing import Any

import pytest
from msgspec import json

from service.engine.domain.decoding import decode
from service.engine.domain.discounts import FixedDiscount, PercentageDiscount
from service.engine.domain.errors import Refusal, invalid
from service.server.requests.code_requests import CodeLine
from service.server.requests.single_coupon_requests import (
    Generated,
    TimeSpecific,
    UserSpecific,
    make_book,
    make_code_line,
    rename_book_fields,
)
from tests.unit.refusals import catch_refusal

WINDOW = {"validFrom": "2027-01-01T00:00:00Z", "validUntil": "2027-02-01T00:00:00Z", "maxUsesPerUser": 2}
DISCOUNT = {"discountType": "percentage", "discountValue": 20}


def decode_single(kind: Any, body: dict[str, Any]) -> Any:
    return decode(json.Decoder(kind), json.encode(body))


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"discountType": "percentage"}, "discountValue"),
        ({"discountValue": 20}, "discountType"),
        ({"discountType": "tiered", "discountValue": 20}, "discountType"),
        ({"maxDiscountAmount": 5}, "maxDiscountAmount"),
        ({"minOrderValue": 5}, "minOrderValue"),
        ({"currency": "USD"}, "currency"),
    ],
)
def test_refusals(body: dict[str, Any], field: str) -> None:
    """A refusal names the field of the request, not the book's field that it becomes."""
    code, fields = catch_refusal(decode_single, Generated, body)
    assert (code, fields[0]) == ("invalid", field)


@pytest.mark.parametrize(
    ("kind", "body", "uses"),
    [
        (UserSpecific, {"userId": "u"}, 1),
        (UserSpecific, {"userId": "u", "maxTotalUses": 3}, 3),
        (TimeSpecific, WINDOW, None),
        (TimeSpecific, WINDOW | {"maxTotalUses": None}, None),
        (TimeSpecific, WINDOW | {"maxTotalUses": 3}, 3),
        (Generated, {}, 1),
        (Generated, {"maxTotalUses": 3}, 3),
    ],
)
def test_total_uses(kind: Any, body: dict[str, Any], uses: int | None) -> None:
    """The limit is the code's own: 1 by default, none for a time-specific coupon."""
    single = decode_single(kind, body)
    assert make_code_line(single, "ABCD") == CodeLine("ABCD", owner_id=body.get("userId"), max_redemptions=uses)
    assert make_book(single, "ABCD").max_redemptions_per_code == uses


def test_the_book_has_the_fields_of_the_request() -> None:
    """The book gets window, limit, discount and description; its name is the description's beginning, or the code's."""
    single = decode_single(
        TimeSpecific, WINDOW | DISCOUNT | {"description": "x" * 300, "createdBy": "ann", "currency": "EUR"}
    )
    book = make_book(single, "ABCD")
    assert (book.name, book.description, book.created_by) == ("x" * 255, "x" * 300, "ann")
    assert (book.valid_from, book.valid_until) == (single.valid_from, single.valid_until)
    assert book.max_redemptions_per_user == 2
    assert isinstance(book.discount, PercentageDiscount)
    assert (book.discount.value, book.discount.currency) == (20, "EUR")
    for body in ({}, {"description": ""}, {"description": None}):
        assert make_book(decode_single(Generated, body), "ABCD").name == "Coupon ABCD"
    fixed = decode_single(Generated, {"discountType": "fixed", "discountValue": 5})
    assert isinstance(make_book(fixed, "ABCD").discount, FixedDiscount)


def test_flat_names() -> None:
    """An error about the book's discount gets the request's field name; other refusals pass unchanged."""
    with pytest.raises(Refusal) as caught, rename_book_fields():
        raise invalid("discount.value", "has too many digits")
    assert caught.value.errors[0].field == "discountValue"
    assert caught.value.detail == "discountValue has too many digits."
    with pytest.raises(Refusal) as caught, rename_book_fields():
        raise Refusal("code_exists")
    assert caught.value.code == "code_exists"
