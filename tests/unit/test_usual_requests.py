"""A request that is decoded in its usual form runs the same command as the one that its struct decodes to."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.engine.domain.decoding import decode
from service.engine.domain.errors import Refusal
from service.engine.operations import batch, lock
from service.engine.operations.base import Call, Operation
from service.engine.operations.lock import EXTEND, LOCK, UNLOCK
from service.engine.operations.redeem import REDEEM, VALIDATE
from service.engine.operations.table import ROWS
from service.engine.operations.usual_requests import decode_usual, usual_struct
from tests.unit.fastlane_fixtures import BOOK, caller

_CALL = Call(caller("one"))
_OPERATIONS = [row.operation for row in ROWS if usual_struct(row.operation.request)]
_BATCHED = {"lock": LOCK, "extend": EXTEND, "unlock": UNLOCK, "redeem": REDEEM, "validate": VALIDATE}

_ID = st.sampled_from([
    '"user"', '"u"', '"a b"', '"a bc"', '"abc "', '"."', '".."', '"..."', '""', '"-"', '"a\\u0062"',
    '"a/bc"', '"%-"', '"abé"', '"\x7f\x7f\x7f"', '"a\\"b"', "1",
    "null", '"a":"b"', '"!$&\'()*+,-.:;<=>@[]^_`{|}~"', f'"{"x" * 100}"', f'"{"x" * 101}"',
])  # fmt: skip
_TOKEN = st.sampled_from(['"t"', '""', '"a b"', f'"{"t" * 64}"', f'"{"t" * 65}"', '"a/b"', "null", "7"])
_NUMBERS = (
    "0 5 59.9 59.90 0.0001 0.00010 0.00001 99999999999 99999999999.9999 100000000000 1e2 1.0e-2 -0 -1 007".split()
)
_NO_NUMBERS = '""', '" 1"', '"1" ', '{"a":1}', "true", "[]", "null", '"1_0"', '"+1"', '".5"', '"5."', '"NaN"', '"٣"'
_AMOUNT = st.sampled_from([*_NUMBERS, *(f'"{number}"' for number in _NUMBERS), *_NO_NUMBERS])
_FIELDS = {
    "userId": _ID, "orderId": _ID, "lockToken": _TOKEN, "orderValue": _AMOUNT, "expectedFinalAmount": _AMOUNT,
    "amount": _AMOUNT,
    "code": st.sampled_from(['"ABCD"', '"abcd"', '"a"', "null", '"A B C"', "4"]),
    "bookId": st.sampled_from([f'"{BOOK}"', '"b"', "null"]),
    "lockSeconds": st.sampled_from(["1", "0", "-1", "600", "2147483648", "1.0", "1.5", '"1"', "null"]),
    "currency": st.sampled_from(['"USD"', '"JPY"', '"KWD"', '"usd"', '""', "null", "1"]),
    "items": st.sampled_from(["[]", "null", '[{"sku":"s","quantity":1,"unitPrice":"1_0"}]']),
    "metadata": st.sampled_from(["{}", "null", '{"key":1}', '{"a":{"b":1}}']),
    "other": st.just("1"),
}  # fmt: skip
_Members = list[tuple[str, str]]


def _members(operation: Operation) -> st.SearchStrategy[_Members]:
    """Members of the operation's requests, then some that a request may not have, or has twice."""
    own = [field.encode_name for field in msgspec.structs.fields(operation.request)]
    usual = st.fixed_dictionaries({}, optional={name: _FIELDS[name] for name in own})
    member = st.sampled_from([*_FIELDS]).flatmap(lambda name: st.tuples(st.just(name), _FIELDS[name]))
    more = st.just([]) | st.lists(member, max_size=2)
    return st.tuples(usual, more).map(lambda parts: [*parts[0].items(), *parts[1]])


_single = st.sampled_from(_OPERATIONS).flatmap(lambda operation: st.tuples(st.just(operation), _members(operation)))
_batch = st.lists(
    st.sampled_from([*_BATCHED]).flatmap(lambda op: st.tuples(st.just(op), _members(_BATCHED[op]))),
    min_size=1, max_size=3,
)  # fmt: skip
_CODE = (("code", '"ABCD"'),)
_space = st.sampled_from(["", "", " ", "\n\t"])


def _text(members: _Members, space: str, colon: str) -> str:
    return "{" + f",{space}".join(f'"{name}"{colon}{value}' for name, value in members) + space + "}"


def _outcome(operation: Operation, read: Any, body: bytes) -> Any:
    try:
        request = read(operation, body)
        command = operation.prepare(_CALL, "ABCD", request)
    except Refusal as refusal:
        return refusal.code, refusal.detail, refusal.errors
    return command.script, command.keys, command.args


@pytest.fixture(autouse=True, scope="module")
def _one_token() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lock, "_draw_token", lambda: "t")
        yield


@given(_single, _space, st.sampled_from([":", ": ", " :"]))
def test_single_requests(request_: tuple[Operation, _Members], space: str, colon: str) -> None:
    """Both decoders lead to one command or one refusal, for valid and invalid values, and for fields given twice."""
    operation, members = request_
    body = _text(members, space, colon).encode()
    expected = _outcome(operation, lambda one, text: one.decode(_CALL.caller, text), body)
    assert (
        _outcome(operation, lambda one, text: decode_usual(one.usual_decoder, text) or decode(one.decoder, text), body)
        == expected
    )


@given(_batch, _space)
def test_batches(operations: list[tuple[str, _Members]], space: str) -> None:
    """A batch leads to the same commands and refusals as its operations do, each read by itself."""
    texts = [
        _text([("op", f'"{op}"'), *(() if op == "validate" else _CODE), *members], space, ":")
        for op, members in operations
    ]
    body = f'{{"operations":{space}[{",".join(texts)}]}}'.encode()
    try:
        read = [_batched(one) for one in batch.split_batch(_CALL.caller, body)]
    except Refusal:  # no JSON
        return
    assert read == [_batched(msgspec.Raw(text.encode())) for text in texts]


def _batched(operation: msgspec.Raw | msgspec.Struct) -> Any:
    try:
        row, code, request = batch.read_operation(_CALL.caller, operation)
        command = row.operation.prepare(_CALL, code, request)
    except Refusal as refusal:
        return refusal.code, refusal.detail, refusal.errors
    return command.script, command.keys, command.args


@pytest.mark.parametrize(
    ("operation", "body", "is_usual"),
    [
        (LOCK, '{"userId": "user", "orderId": "A-1", "lockSeconds": 60}', True),
        (REDEEM, '{"userId":"user","orderId":"A-1","orderValue":"59.90","currency":"USD","lockToken":"t"}', True),
        (REDEEM, '{"userId":"user"}', True),
        (REDEEM, '{"userId":"user","orderValue":59.999,"currency":"USD"}', False),
        (REDEEM, '{"userId":"user","orderId":null}', False),
        (REDEEM, '{"userId":"user","userId":"other"}', False),
        (REDEEM, '{"userId":"user","metadata":{}}', False),
        (REDEEM, '{"userId":"user-%"}', False),
        (REDEEM, '{"userId":"us"}', False),
        (REDEEM, '{"userId":"user","orderValue":"0000000000000000059.90"}', False),
        (REDEEM, '{"userId": "a user"}', False),
        (UNLOCK, '{"lockToken":"t"}', True),
        (VALIDATE, '{"code":"ABCD"}', True),
        (VALIDATE, '{"code":"ABCD"', False),
    ],
)
def test_what_is_usual(operation: Operation, body: str, is_usual: bool) -> None:
    """Requests with ids, a token and an amount are usual; others are decoded by their own struct."""
    usual = usual_struct(operation.request)
    assert usual
    assert (decode_usual(msgspec.json.Decoder(usual), body.encode()) is not None) == is_usual


def test_a_batch_is_usual_as_a_whole() -> None:
    """One unusual operation makes a batch one of undecoded operations."""
    usual = '{"op":"lock","code":"ABCD","userId":"user"}'
    for more, kind in ((usual, msgspec.Struct), ('{"op":"lock","code":"ABCD","userId":"user-é"}', msgspec.Raw)):
        body = f'{{"operations":[{usual},{more}]}}'.encode()
        assert all(isinstance(one, kind) for one in batch.split_batch(_CALL.caller, body))
