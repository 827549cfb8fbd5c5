"""Single coupons: what a flat request says of the coupon and of its book, and what it can't say."""

from typing import Any

import pytest
from msgspec import json

from service.domain.code_requests import CodeLine
from service.domain.decoding import decode
from service.domain.discounts import FixedDiscount, PercentageDiscount
from service.domain.errors import Refusal, invalid
from service.domain.single_coupon_requests import (
    Generated,
    TimeSpecific,
    UserSpecific,
    make_book,
    make_code_line,
    rename_book_fields,
)

WINDOW = {"validFrom": "2027-01-01T00:00:00Z", "validUntil": "2027-02-01T00:00:00Z", "maxUsesPerUser": 2}
DISCOUNT = {"discountType": "percentage", "discountValue": 20}


def said(kind: Any, body: dict[str, Any]) -> Any:
    """The request as it is decoded."""
    return decode(json.Decoder(kind), json.encode(body))


@pytest.mark.parametrize(
    ("kind", "body", "field", "code"),
    [
        (UserSpecific, {}, "userId", "malformed"),
        (UserSpecific, {"userId": None}, "userId", "malformed"),
        (TimeSpecific, WINDOW | {"validFrom": None}, "validFrom", "malformed"),
        (TimeSpecific, WINDOW | {"validUntil": None}, "validUntil", "malformed"),
        (TimeSpecific, WINDOW | {"maxUsesPerUser": None}, "maxUsesPerUser", "malformed"),
        (TimeSpecific, {}, "validFrom", "malformed"),
        (Generated, {"colour": "red"}, "colour", "malformed"),
        (Generated, {"name": "n"}, "name", "malformed"),
        (Generated, {"code": "ABC"}, "code", "invalid"),
        (Generated, {"code": "a bcd"}, "code", "invalid"),
        (Generated, {"code": "generate"}, "code", "invalid"),
        (Generated, {"userId": "a b"}, "userId", "invalid"),
        (Generated, {"validFrom": "1969-12-31T23:59:59Z"}, "validFrom", "invalid"),
        (Generated, {"validUntil": "9999-12-31T23:59:59-01:00"}, "validUntil", "invalid"),
        (Generated, {"maxTotalUses": 0}, "maxTotalUses", "invalid"),
        (Generated, {"maxUsesPerUser": 2**31}, "maxUsesPerUser", "invalid"),
        (Generated, {"description": "x" * 2001}, "description", "invalid"),
        (Generated, {"createdBy": ""}, "createdBy", "invalid"),
        (Generated, {"discountType": "percentage"}, "discountValue", "invalid"),
        (Generated, {"discountValue": 20}, "discountType", "invalid"),
        (Generated, {"discountType": "tiered", "discountValue": 20}, "discountType", "invalid"),
        (Generated, {"maxDiscountAmount": 5}, "maxDiscountAmount", "invalid"),
        (Generated, {"minOrderValue": 5}, "minOrderValue", "invalid"),
        (Generated, {"currency": "USD"}, "currency", "invalid"),
        (Generated, DISCOUNT | {"discountValue": "100.01"}, "discountValue", "invalid"),
        (Generated, DISCOUNT | {"discountValue": 0}, "discountValue", "invalid"),
        (Generated, DISCOUNT | {"discountValue": "NaN"}, "discountValue", "malformed"),
        (Generated, DISCOUNT | {"maxDiscountAmount": -1}, "maxDiscountAmount", "invalid"),
        (Generated, DISCOUNT | {"minOrderValue": 10**11}, "minOrderValue", "invalid"),
        (Generated, DISCOUNT | {"currency": "usd"}, "currency", "invalid"),
    ],
)
def test_what_makes_no_sense(kind: Any, body: dict[str, Any], field: str, code: str) -> None:
    """It is refused with the field named as the request has it, never as the book would."""
    with pytest.raises(Refusal) as caught:
        said(kind, body)
    assert (caught.value.code, [error.field for error in caught.value.errors]) == (code, [field])


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
def test_how_often_in_all(kind: Any, body: dict[str, Any], uses: int | None) -> None:
    """The limit is the code's own: 1 where none is said, but none for a time's."""
    single = said(kind, body)
    assert make_code_line(single, "ABCD") == CodeLine("ABCD", owner_id=body.get("userId"), max_redemptions=uses)
    assert make_book(single, "ABCD").max_redemptions_per_code == uses


def test_the_book_has_what_was_said() -> None:
    """Window, limit, discount and words are the book's; its name is the description's beginning, or the code's."""
    single = said(TimeSpecific, WINDOW | DISCOUNT | {"description": "x" * 300, "createdBy": "ann", "currency": "EUR"})
    book = make_book(single, "ABCD")
    assert (book.name, book.description, book.created_by) == ("x" * 255, "x" * 300, "ann")
    assert (book.valid_from, book.valid_until) == (single.valid_from, single.valid_until)
    assert book.max_redemptions_per_user == 2
    assert isinstance(book.discount, PercentageDiscount)
    assert (book.discount.value, book.discount.currency) == (20, "EUR")
    for body in ({}, {"description": ""}, {"description": None}):
        assert make_book(said(Generated, body), "ABCD").name == "Coupon ABCD"
    fixed = said(Generated, {"discountType": "fixed", "discountValue": 5})
    assert isinstance(make_book(fixed, "ABCD").discount, FixedDiscount)


def test_codes_are_kept_in_upper_case() -> None:
    """A code that is given is the canonical one from there on."""
    assert said(Generated, {"code": "sUmMeR-1"}).code == "SUMMER-1"


def test_flat_names() -> None:
    """What only the workspace's currency shows is named in the request's words; other refusals pass as they are."""
    with pytest.raises(Refusal) as caught, rename_book_fields():
        raise invalid("discount.value", "has too many digits")
    assert (caught.value.errors[0].field, caught.value.detail) == (
        "discountValue",
        "discountValue: has too many digits",
    )
    with pytest.raises(Refusal) as caught, rename_book_fields():
        raise Refusal("code_exists")
    assert caught.value.code == "code_exists"
