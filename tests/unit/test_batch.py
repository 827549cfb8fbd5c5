"""A batch's operations are the single requests' own, with the same fields, read with the same precision."""

from decimal import Decimal
from typing import Any, cast, get_args

import msgspec
import pytest

from service.engine.domain.decoding import decode
from service.engine.domain.errors import Refusal
from service.engine.operations.assign import ASSIGN_ANY, ASSIGN_CODE
from service.engine.operations.base import Operation
from service.engine.operations.batch import AnyOperation, BatchAssign, read_operation, split_batch
from service.engine.operations.redeem import REDEEM
from service.engine.operations.table import ROWS
from service.server.api.controllers.batches import _cut
from tests.unit.fastlane_fixtures import caller
from tests.unit.refusals import catch_refusal

_SINGLE = {row.batch: [row.operation] for row in ROWS if row.batch} | {"assign": [ASSIGN_ANY, ASSIGN_CODE]}


def _read(text: str) -> tuple[Operation, str | None, Any]:
    row, code, asked = read_operation(caller("one"), msgspec.Raw(text.encode()))
    return row.operation, code, asked


def test_the_same_fields() -> None:
    """Each operation has the fields of its single requests, `op` and `code`, and no others."""
    for kind in get_args(AnyOperation):
        fields = {field.encode_name for field in msgspec.structs.fields(kind)}
        tag = kind.__struct_config__.tag
        single = {field.encode_name for one in _SINGLE[tag] for field in msgspec.structs.fields(one.request)}
        assert fields == single | {"code"}, tag
        assert kind.__struct_config__.tag_field == "op"
        assert kind.__struct_config__.forbid_unknown_fields


@pytest.mark.parametrize("number", ["0.1", "12345678901234567890", "0.12345678901234567890", '"10.10"', "1e-7", "3"])
def test_precision(number: str) -> None:
    """A batch decodes an amount digit for digit, as the single request does, and numbers in metadata too."""
    rest = f'"userId": "u", "orderValue": {number}, "metadata": {{"a": 0.1, "b": 9007199254740993}}'
    operation, code, asked = _read(f'{{"metadata": {{}}, "op": "redeem", {rest}, "code": "ABCD"}}')
    single = decode(REDEEM.decoder, f"{{{rest}}}".encode())
    assert (operation, code) == (REDEEM, "ABCD")
    assert str(asked.order_value) == str(single.order_value) == str(Decimal(number.strip('"')))
    assert asked.metadata == single.metadata == {"a": 0.1, "b": 9007199254740993}


@pytest.mark.parametrize("amount", ["1_000", " 1", "1e3"])
def test_amounts_in_another_notation(amount: str) -> None:
    """An amount that a single request may not have is refused in a batch, in an item too; elsewhere it is a text."""
    items = '"items": [{"sku": "a", "quantity": 1, "unitPrice": "?"}]'
    for field in ('"orderValue": "?"', items):
        asked = f'{{"op": "redeem", "code": "ABCD", "userId": "u", {field.replace("?", amount)}}}'
        single = f'{{"userId": "u", {field.replace("?", amount)}}}'.encode()
        assert catch_refusal(_read, asked) == catch_refusal(decode, REDEEM.decoder, single)
    assert _read('{"op": "redeem", "code": "ABCD", "userId": "1e3"}')[2].user_id == "1e3"


def test_assign_is_one_of_two() -> None:
    """`assign` with a code assigns that code, with a book any of its codes; with both or neither it is malformed."""
    assert _read('{"op": "assign", "code": "ABCD", "bookId": null, "userId": "u"}')[:2] == (ASSIGN_CODE, "ABCD")
    operation, code, asked = _read('{"op": "assign", "bookId": "b", "userId": "u"}')
    assert (operation, code, asked.book_id) == (ASSIGN_ANY, None, "b")
    for more in ("", ', "code": "ABCD", "bookId": "b"', ', "code": null, "bookId": null'):
        assert catch_refusal(_read, f'{{"op": "assign", "userId": "u"{more}}}') == ("malformed", ["code"])


@pytest.mark.parametrize(
    ("text", "code", "field"),
    [
        ('{"op": "steal"}', "invalid", "op"), ('{"op": "Redeem"}', "invalid", "op"),
        ("{}", "malformed", "op"), ('{"op": 1}', "malformed", "op"), ("5", "malformed", "body"),
        ('{"op": "lock", "userId": "u"}', "malformed", "code"),
        ('{"op": "lock", "userId": "u", "code": "ABCD", "colour": 1}', "malformed", "colour"),
        ('{"op": "lock", "userId": "a b", "code": "ABCD"}', "invalid", "userId"),
        ('{"op": "redeem", "userId": "u", "code": "ABCD", "orderValue": true}', "malformed", "orderValue"),
        ('{"op": "redeem", "userId": "u", "code": "ABCD", "bookId": "b"}', "malformed", "bookId"),
    ],
)  # fmt: skip
def test_refused_operations(text: str, code: str, field: str) -> None:
    """A refused operation names its field."""
    assert catch_refusal(_read, text) == (code, [field])


def test_an_operation_that_does_not_exist() -> None:
    """The refusal lists the operations, and quotes the one that was sent."""
    with pytest.raises(Refusal) as caught:
        _read('{"op": "redem"}')
    (error,) = caught.value.errors
    assert error.reason == 'must be one of assign, extend, lock, redeem, unlock, validate, but is "redem"'


def test_a_bad_operation_leaves_the_others_alone() -> None:
    """`split_batch` divides a batch without decoding its operations."""
    body = b'{"operations": [1, {"op": "\xff"}, {"op": "x", "op": []}, "y", {"op": "unlock"}]}'
    assert [bytes(cast("msgspec.Raw", raw)) for raw in split_batch(caller("one"), body)] == [
        b"1", b'{"op": "\xff"}', b'{"op": "x", "op": []}', b'"y"', b'{"op": "unlock"}',
    ]  # fmt: skip


def test_pieces() -> None:
    """A piece of a batch has 64 operations, or 16 KiB that must be decoded, and one operation at least."""
    large, half, usual = msgspec.Raw(b" " * 45_000), msgspec.Raw(b" " * 8_000), BatchAssign(user_id="u", code="ABCD")
    for operations, lengths in (
        ([usual] * 130, [64, 64, 2]),
        ([large] * 3, [1, 1, 1]),
        ([half] * 5, [2, 2, 1]),
        ([usual, large, half, half, usual], [1, 1, 3]),
    ):
        pieces = [operations[piece] for piece in _cut(operations)]
        assert [len(piece) for piece in pieces] == lengths
        assert [operation for piece in pieces for operation in piece] == operations
