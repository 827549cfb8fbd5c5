"""A batch's operations are the single requests' own, with the same fields, read with the same precision."""

from decimal import Decimal
from typing import Any, get_args

import msgspec
import pytest

from service.domain.decoding import decode
from service.domain.errors import Refusal
from service.operations.assign import ASSIGN_ANY, ASSIGN_CODE
from service.operations.base import Operation
from service.operations.batch import AnyOperation, read, split
from service.operations.lock import EXTEND, LOCK, UNLOCK
from service.operations.redeem import REDEEM, VALIDATE
from tests.unit.fastlane_fixtures import caller

_SINGLE: dict[str, list[Operation]] = {
    "assign": [ASSIGN_ANY, ASSIGN_CODE], "lock": [LOCK], "extend": [EXTEND], "unlock": [UNLOCK], "redeem": [REDEEM],
    "validate": [VALIDATE],
}  # fmt: skip


def _read(text: str) -> tuple[Operation, str | None, Any]:
    row, code, asked = read(caller("one"), msgspec.Raw(text.encode()))
    return row.operation, code, asked


def _refusal(text: str) -> tuple[str, list[str]]:
    with pytest.raises(Refusal) as caught:
        _read(text)
    return caught.value.code, [error.field for error in caught.value.errors]


def test_the_same_fields() -> None:
    """Each operation has the fields that its single requests have, `op`, `code`, and no others."""
    for kind in get_args(AnyOperation):
        fields = {field.encode_name for field in msgspec.structs.fields(kind)}
        tag = kind.__struct_config__.tag
        single = {field.encode_name for one in _SINGLE[tag] for field in msgspec.structs.fields(one.request)}
        assert fields == single | {"code"}, tag
        assert kind.__struct_config__.tag_field == "op"
        assert kind.__struct_config__.forbid_unknown_fields


@pytest.mark.parametrize("number", ["0.1", "12345678901234567890", "0.12345678901234567890", '"10.10"', "1e-7", "3"])
def test_precision(number: str) -> None:
    """An amount is what was written, digit for digit, as in the single request; so are numbers in metadata."""
    rest = f'"userId": "u", "orderValue": {number}, "metadata": {{"a": 0.1, "b": 9007199254740993}}'
    operation, code, asked = _read(f'{{"metadata": {{}}, "op": "redeem", {rest}, "code": "ABCD"}}')
    single = decode(REDEEM.decoder, f"{{{rest}}}".encode())
    assert (operation, code) == (REDEEM, "ABCD")
    assert str(asked.order_value) == str(single.order_value) == str(Decimal(number.strip('"')))
    assert asked.metadata == single.metadata == {"a": 0.1, "b": 9007199254740993}


def test_assign_is_one_of_two() -> None:
    """With a code it is that one's, with a book any of its; with both or neither it can't be read."""
    assert _read('{"op": "assign", "code": "ABCD", "bookId": null, "userId": "u"}')[:2] == (ASSIGN_CODE, "ABCD")
    operation, code, asked = _read('{"op": "assign", "bookId": "b", "userId": "u"}')
    assert (operation, code, asked.book_id) == (ASSIGN_ANY, None, "b")
    for more in ("", ', "code": "ABCD", "bookId": "b"', ', "code": null, "bookId": null'):
        assert _refusal(f'{{"op": "assign", "userId": "u"{more}}}') == ("malformed", ["code"])


@pytest.mark.parametrize(
    ("text", "code", "field"),
    [
        ('{"op": "steal"}', "invalid", "op"), ('{"op": ""}', "invalid", "op"), ('{"op": "Redeem"}', "invalid", "op"),
        ("{}", "malformed", "op"), ('{"op": 1}', "malformed", "op"), ('{"op": null}', "malformed", "op"),
        ("5", "malformed", "body"), ("null", "malformed", "body"), ("[]", "malformed", "body"),
        ('{"op": "lock", "userId": "u"}', "malformed", "code"),
        ('{"op": "lock", "userId": "u", "code": 5}', "malformed", "code"),
        ('{"op": "lock", "userId": "u", "code": "ABCD", "colour": 1}', "malformed", "colour"),
        ('{"op": "lock", "userId": "a b", "code": "ABCD"}', "invalid", "userId"),
        ('{"op": "redeem", "userId": "u", "code": "ABCD", "orderValue": true}', "malformed", "orderValue"),
        ('{"op": "redeem", "userId": "u", "code": "ABCD", "bookId": "b"}', "malformed", "bookId"),
    ],
)  # fmt: skip
def test_what_an_operation_cannot_be(text: str, code: str, field: str) -> None:
    """Refused with the field named."""
    assert _refusal(text) == (code, [field])


def test_a_bad_operation_leaves_the_others_to_be_read() -> None:
    """A batch is split without a look into its operations."""
    body = b'{"operations": [1, {"op": "\xff"}, {"op": "x", "op": []}, "y", {"op": "unlock"}]}'
    assert [bytes(raw) for raw in split(body)] == [
        b"1", b'{"op": "\xff"}', b'{"op": "x", "op": []}', b'"y"', b'{"op": "unlock"}',
    ]  # fmt: skip
