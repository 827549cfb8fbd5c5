"""A body that can't be decoded is malformed, and its refusal has every mistake.

tests/harness/kinds.py has what each field refuses.
"""

import json
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from litestar.datastructures import Headers

from service.engine.domain import plain_texts
from service.engine.domain.decoding import MAX_VALUES, convert, decode
from service.engine.domain.errors import Refusal
from service.engine.domain.field_types import LONGEST, MAX_SENT, find_fault
from service.engine.operations import lock, redeem, rollback
from service.engine.operations.base import Call, Command, Operation, parse_code
from service.engine.operations.batch import Batch, read_operation
from service.engine.operations.order_fields import order_amounts
from service.server.api.controllers.users import CreateUser, PatchUser
from service.server.api.durability import MAX_PREFERENCES, parse_preferred_wait_s
from service.server.requests.book_requests import CreateBook, PatchBook
from tests.unit.refusals import catch_refusal
from tests.unit.test_scripts import CALLER

REDEMPTION = "0190a7e0-0000-7000-8000-000000000000"
LOCK, UNLOCK, REDEEM, ROLLBACK = lock.LOCK, lock.UNLOCK, redeem.REDEEM, rollback.ROLLBACK


def prepare(operation: Operation, body: bytes) -> Command:
    """The command that a body comes to."""
    request = decode(operation.decoder, body)
    return operation.prepare(Call(CALLER), REDEMPTION if operation is ROLLBACK else "CODE-1", request)


@pytest.mark.parametrize(
    "body",
    [
        b"", b" ", b"{", b"nul", b"{'userId':'a'}", b'{"userId":"a"', b'{"userId":"a"}x', b'{"userId":"a",}', b"\x00",
        b'{"userId":"\xff"}', b'{"userId":"\xed\xa0\x80"}', b'{"userId":"\\ud800"}', b'{"userId":"\\ud800\\u0041"}',
        b'{"userId":"a","orderId":"\\udc00"}', b'{"userId":"a\nb"}', b'\xef\xbb\xbf{"userId":"a"}',
        '{"userId":"a"}'.encode("utf-16"), b'{"userId":"a","lockSeconds":NaN}', b'{"userId":"a","lockSeconds":01}',
        b'{"userId":"a","lockSeconds":+1}', b'{"userId":"a","lockSeconds":Infinity}',
        b'{"userId":' + b"[" * 100_000, b'{"userId":"a","orderId":' + b'{"a":' * 100_000,
    ],
)  # fmt: skip
def test_invalid_json_is_malformed(body: bytes) -> None:
    """A body of broken JSON, wrong bytes, lone surrogates, unknown literals or endless nesting is malformed."""
    code, fields = catch_refusal(prepare, LOCK, body)
    assert (code, len(fields)) == ("malformed", 1)


def test_a_body_of_very_many_values() -> None:
    """A body with a list that has too many values is refused undecoded; a text may have as many commas."""
    values = b",".join([b"1"] * MAX_VALUES)
    decoder = msgspec.json.Decoder(Batch)
    assert catch_refusal(decode, decoder, b'{"operations":[' + values + b"]}") == ("malformed", ["operations[0]"])
    assert catch_refusal(decode, decoder, b'{"operations":[1,' + values + b"]}") == ("too_large", [])
    assert catch_refusal(prepare, UNLOCK, b'{"lockToken":"1,' + values + b'"}') == ("invalid", ["lockToken"])


def test_only_the_parts_that_a_body_may_have_are_searched_for_amounts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A long list is refused by its bound before its items are searched for odd amounts, one by one."""
    searched: list[Any] = []
    monkeypatch.setattr(plain_texts, "check_texts", lambda _, value: searched.append(value))
    body = b'{"tags":[' + b",".join([b'"1_0"'] * 10_000) + b"]}"
    code, _ = catch_refusal(decode, msgspec.json.Decoder(CreateBook), body)
    assert (code, searched) == ("malformed", [])


def test_the_fault_of_a_long_text() -> None:
    """Of a text that is too long anyway only the first characters are looked at."""
    looked_at: list[str] = []
    assert find_fault("a" * 100_000, lambda one: looked_at.append(one) or True) == "100000 characters"
    assert len(looked_at) == LONGEST


def test_many_preferences() -> None:
    """A `Prefer` with very many preferences is refused: each would be compared with the one that is known."""
    many = [f"a{'b' * number}" for number in range(MAX_PREFERENCES)]
    assert parse_preferred_wait_s(Headers({"prefer": ", ".join(many)})) is None
    more = Headers({"prefer": ", ".join([*many, "durability=recorded"])})
    assert catch_refusal(parse_preferred_wait_s, more) == ("malformed", ["Prefer"])


@pytest.mark.parametrize(
    ("kind", "body", "reasons"),
    [
        (
            lock.LockRequest,
            '{"user_id":"a","orderId":"a b","lockSeconds":0}',
            {
                "user_id": "is not a field of this request; perhaps userId is meant",
                "userId": "is required",
                "orderId": "must have 1 to 100 printable ASCII characters without space, / \\ ? # %, "
                'but is "a b", with a space at position 2',
                "lockSeconds": "must be at least 1, but is 0",
            },
        ),
        (
            redeem.RedeemRequest,
            '{"userId":7,"orderValue":"1e3","lockToken":7,"items":[{"sku":"x","quantity":"2"},{"unitPrice":[]}]}',
            {
                "orderValue": 'must be a decimal number such as 25.00, but is "1e3"',
                "userId": "must be a string, but is 7",
                "lockToken": "must be a string",
                "items[0].quantity": 'must be a whole number, but is "2"',
                "items[0].unitPrice": "is required",
                "items[1].unitPrice": "must be a decimal number",
                "items[1].sku": "is required",
                "items[1].quantity": "is required",
            },
        ),
        (
            CreateBook,
            '{"name":"x","status":"on","discount":{"type":"tiered","tiers":[{"from":"1 %","type":"half","value":0}]}}',
            {
                "status": 'must be one of active, archived, inactive, but is "on"',
                "discount.tiers[0].from": 'must be a decimal number such as 25.00, but is "1 %"',
                "discount.tiers[0].type": 'must be one of fixed, percentage, but is "half"',
            },
        ),
        (
            CreateBook,
            '{"name":"x","discount":{"type":"percent","value":3},"tags":[1],"giftBookId":"7","validFrom":"today"}',
            {
                "discount.type": 'must be one of balance, buyXGetY, fixed, percentage, tiered, but is "percent"',
                "validFrom": 'must be a time such as 2036-11-27T00:00:00Z, but is "today"',
                "tags[0]": "must be a string, but is 1",
                "giftBookId": 'must be a UUID, but is "7"',
            },
        ),
        (
            CreateBook,
            '{"name":"%s","discount":{"type":"percentage","value":300},"createdBy":""}' % ("x" * 300),
            {
                "createdBy": 'must have 1 to 255 characters, but is ""',
                "discount.value": "must be at most 100, but is 300",
                "name": "must have 1 to 255 characters, but has 300",
            },
        ),
    ],
)
def test_every_mistake(kind: type[msgspec.Struct], body: str, reasons: dict[str, str]) -> None:
    """A refusal has every mistake of the request with what was sent, the first one first, without a secret."""
    with pytest.raises(Refusal) as caught:
        decode(msgspec.json.Decoder(kind), body.encode())
    first, *_ = caught.value.errors
    assert (first.field, dict(caught.value.errors)) == (next(iter(reasons)), reasons)
    assert caught.value.detail.startswith(f"{first.field} {first.reason}.")


@pytest.mark.parametrize(
    ("code", "fault"),
    [
        ("DEVX 190", "a space at position 5"),
        ("devx190\n", "a line break at position 8"),
        ("GR\u00dcN-10", "`\u00dc` (latin capital letter u with diaeresis) at position 3"),
        ("SALE\u201310", "`\u2013` (en dash) at position 5"),
        ("SALE\xa010", "the character (no-break space) at position 5"),
        ("SALE.10", "`.` at position 5"),
        ("SALE\x0010", "the character (control) at position 5"),
        ("ABC", "3 characters"),
        ("A" * 65, "65 characters"),
    ],
)
def test_a_text_that_is_no_code(code: str, fault: str) -> None:
    """The refusal names the first character that no code has, and its position; else the length."""
    with pytest.raises(Refusal) as caught:
        parse_code(code)
    said = f"No coupon has this code: a code has 4 to 64 of A-Z a-z 0-9 - _, and this one has {fault}."
    assert (caught.value.code, caught.value.detail) == ("coupon_not_found", said)


def test_a_word_of_an_address_is_no_code() -> None:
    """The refusal of a reserved word says that."""
    with pytest.raises(Refusal, match="coupon_not_found") as caught:
        parse_code("redeem")
    assert caught.value.detail == "No coupon has this code: redeem is a reserved word."


@pytest.mark.parametrize(
    ("order", "field", "says"),
    [
        ({"currency": "usd"}, "currency", "in upper case such as USD, but is usd"),
        ({"currency": "euro"}, "currency", "in upper case such as USD, but is euro"),
        ({"orderValue": "10.005", "currency": "USD"}, "orderValue", "at most 2 digits after the point, but is 10.005"),
        (
            {"orderValue": "5.00", "currency": "USD", "items": [3, "32"]},
            "items",
            "are worth 96.00 together, more than the orderValue of 5.00",
        ),
        ({"orderValue": "10", "currency": "USD", "items": [3, "3.35"]}, "items", "are worth 10.05 together"),
        (
            {"orderValue": "1000", "currency": "JPY", "items": [3, "335"]},
            "items",
            "more than the orderValue of 1000.00",
        ),
    ],
)
def test_an_order_that_contradicts_itself(order: dict[str, Any], field: str, says: str) -> None:
    """The refusal has what was sent, and names the field."""
    if "items" in order:
        order = order | {"items": [dict(zip(("sku", "quantity", "unitPrice"), ("a", *order["items"]), strict=True))]}
    with pytest.raises(Refusal) as caught:
        order_amounts(msgspec.convert({"userId": "ann", **order}, redeem.RedeemRequest))
    ((named, reason),) = caught.value.errors
    assert (named, says in reason) == (field, True), reason


@pytest.mark.parametrize(
    "order", [("10", "USD", "3.34"), ("1000", "JPY", "334"), ("10.00", None, "3"), (None, None, "9")]
)
def test_a_units_price_may_be_rounded_up(order: tuple[str | None, str | None, str]) -> None:
    """Items are worth the order at most, but for each unit's price, which may be rounded up to a whole cent."""
    value, currency, price = order
    items = [{"sku": "a", "quantity": 3, "unitPrice": price}]
    body = {"userId": "ann", "orderValue": value, "currency": currency, "items": items}
    assert order_amounts(msgspec.convert(body, redeem.RedeemRequest))[2].startswith("3:3:")


def test_a_bound_of_mistakes() -> None:
    """A refusal has at most 20 mistakes, of a body above 16 KiB the first one; its detail has three."""
    for count, named in ((30, 20), (3000, 1)):
        body = "".join(f',"f{number}":1' for number in range(count))
        with pytest.raises(Refusal) as caught:
            decode(LOCK.decoder, f'{{"userId":"a"{body}}}'.encode())
        assert len(caught.value.errors) == named
        assert caught.value.detail.endswith("And 17 more." if named > 1 else "f0 is not a field of this request.")


@pytest.mark.parametrize(
    ("operation", "body"),
    [
        (LOCK, '{"userId":"a","orderId":null,"lockSeconds":null}'),
        (LOCK, '{"userId":"!\\"$&\'()*+,-.:;<=>@[]^_`{|}~","lockSeconds":2147483647}'),
        (LOCK, ' {"userId" : "\\u0061"} \n'),
        (REDEEM, '{"userId":"a","orderValue":"25.000000","currency":"USD"}'),
        (REDEEM, '{"userId":"a","orderValue":25,"metadata":{},"items":[]}'),
        (REDEEM, '{"userId":"a","orderValue":2.5e1,"metadata":null,"items":null,"currency":null,"lockToken":null}'),
        (REDEEM, '{"userId":"a","orderValue":99999999999.99}'),
        (REDEEM, '{"userId":"a","metadata":{"a":"%s"}}' % ("x" * 1016)),
        (REDEEM, '{"userId":"a","metadata":{"a":18446744073709551616,"b":[{"c":null}],"d":1e5,"\\ud83d\\ude00":true}}'),
        (REDEEM, '{"userId":"a","items":[{"sku":"x y","quantity":1000000,"unitPrice":"0.0001"}]}'),
        (ROLLBACK, "{}"),
        (ROLLBACK, '{"reason":null,"restore":null}'),
        (ROLLBACK, '{"reason":"%s","restore":false}' % ("é" * 500)),
    ],
)
def test_accepted_bodies(operation: Operation, body: str) -> None:
    """An optional field may be null, a bound itself is accepted, and escapes are decoded."""
    assert prepare(operation, body.encode()).args


def test_decoded_values() -> None:
    """`convert` applies the same rules to the operations of a batch and to queries."""
    asked: dict[str, Any] = {"userId": "a", "lockSeconds": 5}
    assert convert(asked, lock.LockRequest).lock_seconds == 5
    for more, code in (({"lockSeconds": 0}, "invalid"), ({"lockSeconds": 1.5}, "malformed"), ({"x": 1}, "malformed")):
        assert catch_refusal(convert, {**asked, **more}, lock.LockRequest) == (code, [*more])


def test_metadata_stays_as_it_was_sent() -> None:
    """Metadata keeps the order of names, large numbers and all letters."""
    metadata = '{"b":18446744073709551615,"a":["é😀",null,true,0.1]}'
    request = decode(REDEEM.decoder, f'{{"userId":"a","metadata":{metadata}}}'.encode())
    command = REDEEM.prepare(Call(CALLER), "CODE-1", request)
    kept = next(argument for argument in command.args if argument.startswith("{"))
    assert kept == f'{{"metadata":{metadata}}}'
    assert msgspec.json.decode(kept)["metadata"]["a"][0] == "é😀"


_WITH_METADATA = [CreateBook, PatchBook, CreateUser, PatchUser, redeem.RedeemRequest, redeem.ValidateRequest]


@pytest.mark.parametrize("kind", _WITH_METADATA)
@pytest.mark.parametrize(
    ("metadata", "is_kept"),
    [
        ('{"a":1E-999999}', False),
        ('{"a":1E-9999999999999999999}', False),
        ('{"a":[{"b":0.1234567890123456789}]}', False),
        ('{"a":1,"\\u0061":2}', False),
        ('{"a":[{"b":{},"b":{}}]}', False),
        ('{"a":' + " " * MAX_SENT + "1}", False),
        ('{"a":[0.10,1e5,-0.0,5e-324,1.7976931348623157e308,123456789012345678901234567890]}', True),
        ('{"a":{"a":{"b":":\\":","c:":"{}"}} , "b" : ["\\\\",":"]}', True),
    ],
)
def test_metadata_is_kept_exactly(kind: type[msgspec.Struct], metadata: str, is_kept: bool) -> None:
    """Metadata that would lose a digit or a member is refused."""
    needed = {"CreateBook": '"name":"a",', "PatchBook": "", "PatchUser": ""}.get(kind.__name__, '"userId":"a",')
    if kind is redeem.ValidateRequest:
        needed += '"code":"CODE-1",'
    body, decoder = f'{{{needed}"metadata":{metadata}}}'.encode(), msgspec.json.Decoder(kind)
    if is_kept:
        assert decode(decoder, body).metadata == json.loads(metadata)  # type: ignore[attr-defined]
    else:
        assert catch_refusal(decode, decoder, body) == ("invalid", ["metadata"])


def test_metadata_in_a_batch_is_kept_exactly() -> None:
    """An operation whose metadata would lose a member is refused."""
    operation = b'{"op":"redeem","code":"CODE-1","userId":"a","metadata":{"a":1,"a":2}}'
    assert catch_refusal(read_operation, CALLER, msgspec.Raw(operation)) == ("invalid", ["metadata"])


@pytest.mark.parametrize("kind", [CreateBook, redeem.RedeemRequest, redeem.ValidateRequest])
@pytest.mark.parametrize(
    "text",
    [
        "1_000", "_1", " 1", "1 ", "\\n1", "\\u00201", "1\\t", "1\u00a0", "1\u2003", "+1", "1e3", "1E-2", "1e999", ".5",
        "5.", "- 1", "", "-", "\uff11", "\u0663", "\\u0663", "1\uff11.00", "--1",
    ],
)  # fmt: skip
def test_an_amount_in_a_string_is_plain(kind: type[msgspec.Struct], text: str) -> None:
    """An amount has ASCII digits, a point between them and a minus; other text that Decimal accepts is malformed."""
    for name, field in _AMOUNTS[kind]:
        body = name.replace("?", f'"{text}"').encode()
        assert catch_refusal(decode, msgspec.json.Decoder(kind), body) == ("malformed", [field])


@pytest.mark.parametrize("amount", ["1", "0", "-0", "007", "12.50", "1.5000000", "\\u0031", "0" * 100])
def test_plain_amounts_are_read(amount: str) -> None:
    """A plain amount is accepted, with escaped digits too; so is a JSON number with an exponent."""
    decoder = REDEEM.decoder
    request = decode(decoder, f'{{"userId":"u","orderValue":"{amount}"}}'.encode())
    assert request.order_value == Decimal(amount.replace("\\u0031", "1"))
    assert decode(decoder, b'{"userId":"1e3","orderValue":1e3,"metadata":{"a":"1_000"}}').order_value == 1000


_TIER = '{"from":1,"type":"fixed","value":1}'
_TIERED = '{"name":"n","discount":{"type":"tiered","tiers":[' + _TIER + ',{"from":2,"type":"fixed","value":?}]}}'
_ITEMS = '"items":[{"sku":"1e3","quantity":1,"unitPrice":"1"},{"sku":"a","quantity":1,"unitPrice":?}]}'
_AMOUNTS: dict[type[msgspec.Struct], list[tuple[str, str]]] = {
    CreateBook: [
        ('{"name":"n","discount":{"type":"fixed","value":?}}', "discount.value"),
        ('{"name":"n","discount":{"type":"buyXGetY","buy":1,"get":1,"maxAmount":?}}', "discount.maxAmount"),
        (_TIERED, "discount.tiers[1].value"),
    ],
    redeem.RedeemRequest: [
        ('{"userId":"u","orderValue":?}', "orderValue"),
        ('{"userId":"u",' + _ITEMS, "items[1].unitPrice"),
    ],
    redeem.ValidateRequest: [('{"code":"c",' + _ITEMS, "items[1].unitPrice")],
}
