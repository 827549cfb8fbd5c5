"""Books: accepted settings, and refusals that name the field."""

import json
from typing import Any
from uuid import UUID

import msgspec
import pytest

from service.engine.domain import discounts
from service.engine.domain.configuration import BookRow
from service.engine.domain.decoding import decode
from service.engine.domain.settings import defaults_of, in_json
from service.engine.formats.stored_settings import book_settings
from service.server.requests import book_requests
from service.server.requests.book_requests import BookStats, CreateBook, PatchBook
from service.server.requests.book_states import find_book_state
from tests.harness.stored_book import parse_settings
from tests.unit.refusals import catch_refusal

_create = msgspec.json.Decoder(CreateBook)
_patch = msgspec.json.Decoder(PatchBook)

_CARD = {"type": "balance", "value": 50}
_DINARS = {"type": "fixed", "value": 1, "currency": "KWD"}


def tiered(*tiers: tuple[Any, str, Any]) -> dict[str, Any]:
    """The discount of a book with these tiers: from, type, value."""
    rows = [{"from": from_, "type": type_, "value": value} for from_, type_, value in tiers]
    return {"discount": {"type": "tiered", "tiers": rows}}


def make(currency: str = "USD", **fields: Any) -> BookRow:
    return book_requests.create_book_row(
        decode(_create, json.dumps({"name": "Sale", **fields}).encode()),
        workspace=1,
        partition=0,
        book=1,
        book_id=UUID(int=7),
        version=1,
        workspace_currency=currency,
        now_ms=1000,
    )


def change(row: BookRow, **fields: Any) -> BookRow:
    return book_requests.update_book_row(row, decode(_patch, json.dumps(fields).encode()), 2, 2000)


def render(row: BookRow) -> dict[str, Any]:
    return msgspec.json.decode(msgspec.json.encode(book_requests.render_book(row)))


def test_defaults() -> None:
    """A book that has only a name gets the contract's defaults."""
    assert render(make()) == in_json(defaults_of(BookRow)) | {
        "bookId": str(UUID(int=7)),
        "name": "Sale",
        "description": "",
        "status": "active",
        "validFrom": None,
        "validUntil": None,
        "maxRedemptionsPerCode": 1,
        "maxRedemptionsPerUser": None,
        "maxRedemptions": None,
        "maxCodesPerUser": None,
        "requireAssignment": False,
        "requireLock": False,
        "lockSeconds": 300,
        "maxLockSeconds": 3600,
        "discount": None,
        "codePattern": "####-####-####",
        "charset": "23456789ABCDEFGHJKLMNPQRSTUVWXYZ",
        "totalCodes": None,
        "lowStockThreshold": None,
        "giftBookId": None,
        "keepFree": None,
        "tags": [],
        "metadata": {},
        "createdBy": None,
        "limits": None,
        "publicReasons": False,
        "budgets": [],
        "useLimits": [],
        "createdAt": "1970-01-01T00:00:01.000Z",
        "updatedAt": "1970-01-01T00:00:01.000Z",
    }


def test_null_is_the_default() -> None:
    """An optional field may be null, which is its default; for a code's uses null is no limit."""
    fields = [name for name in render(make()) if name not in ("bookId", "name", "createdAt", "updatedAt")]
    nulls: dict[str, Any] = dict.fromkeys(fields)
    row = make(**nulls)
    assert render(row) == render(make()) | {"maxRedemptionsPerCode": None}


@pytest.mark.parametrize(
    ("fields", "field", "code"),
    [
        ({"validFrom": "2026-01-01T00:00:00Z", "validUntil": "2026-01-01T01:00:00+01:00"}, "validUntil", "invalid"),
        ({"lockSeconds": 3601}, "lockSeconds", "invalid"),
        ({"maxLockSeconds": 299}, "lockSeconds", "invalid"),
        ({"giftBookId": str(UUID(int=7))}, "giftBookId", "invalid"),
        ({"giftBookId": "x"}, "giftBookId", "malformed"),
        ({"keepFree": 101, "codePattern": "X-######", "charset": "0123456789"}, "keepFree", "pattern_too_small"),
        ({"tags": ["x"] * 21}, "tags", "invalid"),
        ({"tags": ["x", ""]}, "tags[1]", "invalid"),
        ({"discount": {}}, "discount.type", "malformed"),
        ({"discount": {"type": "tiered"}}, "discount.tiers", "malformed"),
        ({"discount": {"type": "tiered", "tiers": [5]}}, "discount.tiers[0]", "malformed"),
        ({"discount": {"type": "tiered", "tiers": [{}]}}, "discount.tiers[0].from", "malformed"),
        ({"discount": tiered((1, "fixed", 1))["discount"] | {"value": 1}}, "discount.value", "malformed"),
        (tiered((1, "fixed", 1), (2, "free", 1)), "discount.tiers[1].type", "invalid"),
        (tiered((1, "fixed", 1), (2, "tiered", 1)), "discount.tiers[1].type", "invalid"),
        (tiered((1, "fixed", 1), (2, "fixed", 0)), "discount.tiers[1].value", "invalid"),
        (tiered((1, "fixed", 1), (2, "fixed", 0.001)), "discount.tiers[1].value", "invalid"),
        (tiered((1, "fixed", 101), (2, "percentage", 101)), "discount.tiers[1].value", "invalid"),
        (tiered((1, "fixed", 1), (1, "fixed", 2)), "discount.tiers[1].from", "invalid"),
        (tiered((1, "fixed", 1), (3, "fixed", 2), (2, "fixed", 3)), "discount.tiers[2].from", "invalid"),
        (tiered((1, "fixed", 1), ("2.001", "fixed", 2)), "discount.tiers[1].from", "invalid"),
        ({"discount": {"type": "buyXGetY", "buy": 1}}, "discount.get", "malformed"),
        ({"discount": {"type": "buyXGetY", "buy": 1, "get": 1, "value": 5}}, "discount.value", "malformed"),
        ({"discount": {"type": "fixed"}}, "discount.value", "malformed"),
        ({"discount": {"type": "fixed", "value": 0}}, "discount.value", "invalid"),
        ({"discount": {"type": "fixed", "value": 1.234}}, "discount.value", "invalid"),
        ({"discount": {"type": "percentage", "value": "100.0001"}}, "discount.value", "invalid"),
        ({"discount": {"type": "percentage", "value": 1, "maxAmount": "0.001"}}, "discount.maxAmount", "invalid"),
        ({"discount": _DINARS | {"minOrderValue": "1.2345"}}, "discount.minOrderValue", "invalid"),
        ({"discount": {"type": "balance"}}, "discount.value", "malformed"),
        ({"discount": _CARD | {"value": 0}}, "discount.value", "invalid"),
        ({"discount": _CARD | {"value": "50.001"}}, "discount.value", "invalid"),
        ({"discount": _CARD | {"maxAmount": 5}}, "discount.maxAmount", "invalid"),
        ({"discount": _CARD | {"tiers": []}}, "discount.tiers", "malformed"),
        ({"discount": _CARD, "maxRedemptionsPerCode": 1}, "maxRedemptionsPerCode", "invalid"),
    ],
)
def test_refusals(fields: dict[str, Any], field: str, code: str) -> None:
    """A book whose fields contradict each other, or whose discount is incomplete, is refused by the field's name."""
    refused_code, named = catch_refusal(make, **fields)
    assert (refused_code, named[0]) == (code, field)


def test_a_discount_has_the_digits_of_its_currency() -> None:
    """A discount's own currency sets its digits, else the workspace's; trailing zeros are no digits."""
    assert render(make("JPY", discount={"type": "fixed", "value": "500.00"}))["discount"]["value"] == "500"
    own = {"type": "fixed", "value": 1.5, "maxAmount": "2", "currency": "KWD"}
    assert render(make("JPY", discount=own))["discount"] == {
        "type": "fixed",
        "value": "1.500",
        "maxAmount": "2.000",
        "minOrderValue": None,
        "currency": "KWD",
    }
    assert catch_refusal(make, "JPY", discount={"type": "fixed", "value": 1.5}) == ("invalid", ["discount.value"])


def test_a_stored_discount_is_the_same() -> None:
    """A discount that is encoded for Postgres and decoded again is the same."""
    for discount in (
        {"type": "percentage", "value": "12.3456", "maxAmount": 50, "minOrderValue": "99999999999.99"},
        {"type": "fixed", "value": "0.0001", "currency": "CLF"},
        tiered((0, "fixed", "0.01"), ("99.99", "percentage", "12.3456"), (100, "fixed", "99999999999.99"))["discount"],
        {"type": "buyXGetY", "buy": 2, "get": 2**31 - 1, "maxAmount": "0.01", "currency": "USD"},
        {"type": "balance", "value": "0.001", "minOrderValue": 5, "currency": "KWD"},
    ):
        row = make(discount=discount).discount
        assert row is not None
        stored = msgspec.json.encode(discounts.encode_discount(row))
        assert discounts.decode_discount(msgspec.json.decode(stored)) == row


def test_a_percentage_has_no_trailing_zeros() -> None:
    """The response writes 20 % as "20", and 12.5 % as "12.5"."""
    for value, text in ((20, "20"), ("12.50", "12.5"), (100, "100"), ("0.0001", "0.0001")):
        row = make(discount={"type": "percentage", "value": value})
        assert render(row)["discount"]["value"] == text


def test_each_type_has_its_own_fields() -> None:
    """A response has the fields of the discount's type, amounts with the currency's digits; PATCH changes types."""
    bounds = {"maxAmount": "50", "minOrderValue": None, "currency": "JPY"}
    row = make(discount=tiered((0, "percentage", "12.50"), (2000, "fixed", 30))["discount"] | bounds)
    assert render(row)["discount"] == bounds | {
        "type": "tiered",
        "tiers": [
            {"from": "0", "type": "percentage", "value": "12.5"},
            {"from": "2000", "type": "fixed", "value": "30"},
        ],
    }
    row = change(row, discount={"type": "buyXGetY", "buy": 2, "get": 1, "minOrderValue": 5})
    assert render(row)["discount"] == {
        "type": "buyXGetY", "buy": 2, "get": 1, "maxAmount": None, "minOrderValue": "5", "currency": "JPY",
    }  # fmt: skip
    row = change(row, **tiered(*[(n, "fixed", 1) for n in range(20)]))
    assert len(render(row)["discount"]["tiers"]) == 20
    assert render(change(row, discount=None))["discount"] is None


def test_tiers_have_the_digits_of_the_currency() -> None:
    """A tier's `from` and fixed value fit the currency, also a later one; a percentage may have four decimals."""
    row = make("KWD", **tiered((0, "percentage", "1.2345"), ("1.001", "fixed", "2.001"))).discount
    assert row is not None
    discounts.check_discount_digits(row)
    dollars = msgspec.structs.replace(row, currency="USD", digits=2)
    assert catch_refusal(discounts.check_discount_digits, dollars) == ("invalid", ["discount.tiers[1].from"])
    fixed = tiered((0, "percentage", "1.2345"), (1, "fixed", "2.5"))
    assert catch_refusal(make, "JPY", **fixed) == ("invalid", ["discount.tiers[1].value"])


def test_stored_terms_of_a_discount() -> None:
    """Redis stores the terms in one word, and as the least value the larger of minOrderValue and the first `from`."""
    discount = tiered((10, "percentage", "12.5"), (20, "fixed", 3))["discount"]
    for least, stored in ((None, "100000"), (5, "100000"), (15, "150000")):
        terms = _stored_terms(make(discount=discount | {"minOrderValue": least}))
        assert terms == ["tiered", "100000:percentage:125000,200000:fixed:30000", "-", stored, "USD", "2"]
    terms = _stored_terms(make(discount={"type": "buyXGetY", "buy": 2, "get": 1, "maxAmount": 7}))
    assert terms == ["buyXGetY", "2:1", "70000", "-", "USD", "2"]


def _stored_terms(row: BookRow) -> list[str]:
    settings = parse_settings(book_settings(row))
    return [settings[name] for name in "discount discount_terms cap least currency digits".split()]


def test_cards_have_no_limit_of_redemptions() -> None:
    """A book with a balance has no limit for each code, also if it is left out, or the balance comes later; it keeps a
    value and a least order value."""
    row = make(discount=_CARD | {"minOrderValue": 5}, lockSeconds=60)
    assert (row.max_redemptions_per_code, row.card) == (None, row.discount)
    assert render(row)["discount"] == {
        "type": "balance", "value": "50.00", "maxAmount": None, "minOrderValue": "5.00", "currency": "USD",
    }  # fmt: skip
    assert (parse_settings(book_settings(row))["per_code"], _stored_terms(row)) == (
        "-", ["balance", "500000", "-", "50000", "USD", "2"],
    )  # fmt: skip
    assert catch_refusal(change, row, maxRedemptionsPerCode=2) == ("invalid", ["maxRedemptionsPerCode"])
    assert (
        render(change(row, maxRedemptionsPerCode=None, discount=_CARD | {"value": 60}))["discount"]["value"] == "60.00"
    )
    usual = make()
    assert (usual.max_redemptions_per_code, usual.card) == (1, None)
    assert change(usual, discount=_CARD).max_redemptions_per_code is None
    assert catch_refusal(change, usual, discount=_CARD, maxRedemptionsPerCode=1)[1] == ["maxRedemptionsPerCode"]


def test_patch_changes_only_named_fields() -> None:
    """A PATCH changes only the fields that it names; null restores the default."""
    row = make(validUntil="2026-12-01T00:00:00Z", tags=["a"], lockSeconds=60, maxRedemptionsPerUser=3)
    changed = render(change(row, validUntil=None, lockSeconds=None, description="new"))
    assert changed == render(row) | {
        "validUntil": None,
        "lockSeconds": 300,
        "description": "new",
        "updatedAt": "1970-01-01T00:00:02.000Z",
    }


def test_patch_is_checked_with_the_rest() -> None:
    """A PATCH that conflicts with the rest of the book is refused."""
    row = make(validFrom="2026-12-01T00:00:00Z", maxLockSeconds=300)
    for fields, field in (
        ({"validUntil": "2026-12-01T00:00:00Z"}, "validUntil"),
        ({"lockSeconds": 301}, "lockSeconds"),
        ({"maxLockSeconds": 10}, "lockSeconds"),
    ):
        assert catch_refusal(change, row, **fields) == ("invalid", [field])


def test_a_pattern_has_room_for_keep_free() -> None:
    """A pattern has 10,000 possibilities for each code of keepFree, whichever of the three fields a PATCH changes."""
    small = {"codePattern": "X-######", "charset": "0123456789"}
    row = make(keepFree=100, **small)
    assert render(row)["keepFree"] == 100
    for fields in ({"keepFree": 101}, {"codePattern": "X-#####"}, {"charset": "012345678"}):
        assert catch_refusal(change, row, **fields) == ("pattern_too_small", ["keepFree"])
    assert change(row, keepFree=None, codePattern="####").keep_free is None
    assert change(row, keepFree=10_000_000, codePattern=None, charset=None).keep_free == 10_000_000


def test_a_gift_book_is_another_one() -> None:
    """A book may name another book for gifts, but not itself, at PATCH either; null clears."""
    row = make(giftBookId=str(UUID(int=8)))
    assert row.gift_book_id == UUID(int=8)
    assert catch_refusal(change, row, giftBookId=str(row.book_id)) == ("invalid", ["giftBookId"])
    assert change(row, giftBookId=None).gift_book_id is None


@pytest.mark.parametrize("fields", [{"totalCodes": 5}, {"bookId": "x"}, {"name": None}])
def test_fixed_fields(fields: dict[str, Any]) -> None:
    """A PATCH can't change a book's id and first codes, nor clear its name."""
    assert catch_refusal(change, make(), **fields) == ("malformed", [*fields])


@pytest.mark.parametrize(
    ("fields", "counts", "state", "why"),
    [
        ({}, {"available": 2}, "active", None),
        ({"validFrom": 1000, "validUntil": 1001}, {"available": 1}, "active", None),
        ({"validFrom": 1001}, {"available": 1}, "not begun", None),
        ({"validUntil": 1000}, {"redeemed": 1}, "ended", None),
        ({"status": "inactive", "validUntil": 1000}, {"available": 1}, "paused", None),
        ({"status": "archived"}, {}, "archived", None),
        ({"maxRedemptions": 3}, {"available": 9}, "sold out", "Its limit of redemptions is reached."),
        ({"maxRedemptions": 4}, {"available": 9}, "active", None),
        ({"maxRedemptions": 4, "lowStockThreshold": 2}, {"available": 9}, "low", "Fewer than 2 redemptions are left."),
        ({}, {"redeemed": 1, "exhausted": 2}, "sold out", "All its codes are redeemed or used up."),
        ({}, {"redeemed": 1, "inactive": 2}, "sold out", "All its codes are redeemed, used up or switched off."),
        ({}, {"inactive": 2}, "switched off", "All its codes are switched off."),
        ({}, {}, "no codes", None),
        ({}, {"redeemed": 9, "locked": 2, "assigned": 1}, "active", "None is available: 2 held and 1 assigned."),
        ({"lowStockThreshold": 2}, {"assigned": 1}, "low", "None is available: 1 assigned."),
        ({"lowStockThreshold": 2}, {"available": 1}, "low", "Fewer than 2 codes are available."),
        ({"lowStockThreshold": 2}, {"available": 2}, "active", None),
        ({"validUntil": 1001, "maxRedemptions": 3}, None, "active", None),
    ],
)
def test_a_state_in_words(fields: dict[str, Any], counts: dict[str, int] | None, state: str, why: str | None) -> None:
    """A book that refuses everybody at 1000 ms, with 3 redemptions, is neither active nor low; else it tells why none
    of its codes is available."""
    times = {name: value for name, value in fields.items() if name in ("validFrom", "validUntil")}
    row = make(**{name: value for name, value in fields.items() if name not in times})
    row = msgspec.structs.replace(row, valid_from_ms=times.get("validFrom"), valid_until_ms=times.get("validUntil"))
    stats = None
    if counts is not None:
        names = set(BookStats.__struct_fields__) - {"discount_total", "budgets", "balance"}
        stats = BookStats(
            discount_total="0.00",
            budgets=[],
            balance=None,
            **dict.fromkeys(names, 0) | {"codes": sum(counts.values())} | counts,
        )
    found = find_book_state(row, 1000, stats, 3)
    assert (found.state, found.why) == (state, why)
