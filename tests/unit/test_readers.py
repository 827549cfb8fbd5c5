"""Each reader of a hot request reads the same: in parts, whole by a shape, and as an operation of a batch. What shapes
learn is bounded."""

import hashlib
import random
import re
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import msgspec
import pytest

from service.engine.domain.errors import Refusal
from service.engine.operations import batch, lock
from service.engine.operations.base import Call, Operation
from service.engine.operations.caller import Caller
from service.engine.operations.lock import LOCK, UNLOCK
from service.engine.operations.redeem import REDEEM, VALIDATE
from service.engine.operations.usual_requests import decode_usual, usual_struct
from service.server.fastlane import bounded_protocol, protocol, shapes
from service.server.fastlane.connection_room import Room
from service.server.fastlane.shapes import (
    ATTEMPTS_A_SECOND,
    MAX_NOTED,
    MAX_SHAPES,
    MAX_TEXT,
    RequestShape,
    RequestShapes,
)
from tests.unit.fastlane_fixtures import BOOK, Client, caller, request, statuses

_REQUESTS = """\
/v1/coupons/lock/ABCD-1 {"userId":"u-1","orderId":"o-1"}
/v1/coupons/lock/ABCD-1 {"orderId": "o-1", "userId": "u-1"}
/v1/coupons/lock/ABCD-1 {"userId":"u-1","lockSeconds":60}
/v1/coupons/redeem/ABCD-1 {"userId":"u-1","orderId":"o-1","orderValue":59.9,"lockToken":"tttttttttttttttt"}
/v1/coupons/redeem/ABCD-1 {"userId":"u-1","orderValue":"59.90","currency":"USD"}
/v1/coupons/redeem/ABCD-1 {"lockToken":"tttt","userId": "u-1"}
/v1/coupons/redeem/ABCD-1 {"userId":"u-1","orderValue":60,"currency":"JPY"}
/v1/coupons/extend/ABCD-1 {"lockToken":"tttt"}
/v1/coupons/extend/ABCD-1 {"lockToken": "tttt", "lockSeconds": 60}
/v1/coupons/unlock/ABCD-1 {"lockToken":"tttt"}
/v1/coupons/validate {"code":"ABCD-1","userId":"u-1","orderValue":59.9}
/v1/coupons/validate {"code":"ABCD-1"}
/v1/coupons/assign {"bookId":"019aa0b2-6f0c-7b52-8a0e-5d1f3d1f9c11","userId":"u-1"}
/v1/coupons/assign/ABCD-1 {"userId":"u-1"}"""
_MORE = """\
User-Agent: x/1
Idempotency-Key: k-1
X-Request-Id: r-1
traceparent: 00-1-1-01
X-Forwarded-For: 1.2.3.4, ::1
X-Other: \xe9
""".replace("\n", "\r\n")
_BASES = [
    request(path, body.encode(), more)
    for path, _, body in (line.partition(" ") for line in _REQUESTS.splitlines())
    for more in ("", _MORE)
]
_VALUES = b"u-1 o-1 ABCD-1 k-1 r-1 59.9 59.90 tttttttttttttttt tttt 60 USD 1.2.3.4 one".split()
_INSERTED = (
    rb'\r\n | \r | \n | \t | " | \\ | / | % | { | } | , | : | \0 | \x80 | 0 | 1 | - | . | .. | e5 | null | 007 | \\" |'
    rb' \\u0041 | "userId":"zzz", | "code":"zzz", | Content-Length: 5\r\n | Host: b\r\n | Connection: close\r\n |'
    rb"Transfer-Encoding: chunked\r\n | Authorization: Bearer two\r\n | Idempotency-Key: k-2\r\n |"
    rb"Expect: 100-continue\r\n | Prefer: durability=recorded\r\n | GET / HTTP/1.1\r\n\r\n |  "
)
_TOKENS = [token.strip(b" ").decode("unicode_escape").encode("latin-1") or b" " for token in _INSERTED.split(b"|")]
_EDGES = b"- . .. 0 00 007 01.5 1. .5 0.5 59.999 59.99999 99999999999 100000000000 JPY two".split()
_EDGES += [b"x" * size for size in (0, 2, 64, 65, 100, 101, 128, 129, 255, 256)]
_EDGES += [b"A%cA" % other for other in b'?/%# "\\\t\x7f\xe9']
_IDS = r""""user" "u" "a|b" "a|bc" "abc|" "." ".." "..." "" "-" "a\u0062" "a/bc" "%-" "abé" "a\"b" 1 null""".split()
_IDS += ['"a":"b"', '"\x7f\x7f\x7f"', '"!$&\'()*+,-.:;<=>@[]^_`{|}~"', f'"{"x" * 100}"', f'"{"x" * 101}"']
_NUMBERS = (
    "0 5 59.9 59.90 0.0001 0.00010 0.00001 99999999999 99999999999.9999 100000000000 1e2 1.0e-2 -0 -1 007".split()
)
_AMOUNTS = [*_NUMBERS, *(f'"{number}"' for number in _NUMBERS), '" 1"', '"1" ', '{"a":1}', "true", "[]", "null", '""']
_AMOUNTS += '"1_0" "+1" ".5" "5." "NaN" "٣"'.split()
_MEMBERS: dict[str, list[str]] = {
    "userId": _IDS, "orderId": _IDS, "orderValue": _AMOUNTS, "expectedFinalAmount": _AMOUNTS, "amount": _AMOUNTS,
    "lockToken": ['"t"', '""', '"a b"', f'"{"t" * 64}"', f'"{"t" * 65}"', '"a/b"', "null", "7"],
    "code": ['"ABCD"', '"abcd"', '"a"', "null", '"A B C"', "4"],
    "bookId": [f'"{BOOK}"', '"b"', "null"],
    "lockSeconds": ["1", "0", "-1", "600", "2147483648", "1.0", "1.5", '"1"', "null"],
    "currency": ['"USD"', '"JPY"', '"KWD"', '"usd"', '""', "null", "1"],
    "items": ["[]", "null", '[{"sku":"s","quantity":1,"unitPrice":"1_0"}]'],
    "metadata": ["{}", "null", '{"key":1}', '{"a":{"b":1}}'],
    "other": ["1"],
}  # fmt: skip
"""What members of a body may be; `|` is a space."""
_ALPHABETS = [b"0123456789", b"12.", b"ABCXYZabcxyz", b".", b"0", bytes(range(33, 127)), bytes(range(256))]
_ALPHABETS += [b"A%c" % other for other in b'?/%# "\\.-_\t\x7f\xe9']
_CALL = Call(caller("one"))
_SIZES = (0, 1, 2, 3, 4, 5, 17, 64, 65, 100, 101, 128, 129, 255, 256)
_MUTATIONS = 100


@pytest.fixture(autouse=True)
def _same_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "_draw_token", lambda: "t")
    for module in (protocol, bounded_protocol):
        monkeypatch.setattr(module, "new_request_id", lambda: "r")


@pytest.fixture
def attempts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the bound on attempts a second."""
    monkeypatch.setattr(shapes, "ATTEMPTS_A_SECOND", 1e9)


def _with_length(data: bytes) -> bytes:
    """The request with its body's length."""
    head, end, body = data.partition(b"\r\n\r\n")
    return re.sub(rb"Content-Length: \d+", b"Content-Length: %d" % len(body), head, count=1) + end + body


def _mutate(draw: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(draw.choice((0, 1, 1, 1, 2, 3))):
        at = draw.randrange(len(changed) + 1)
        match draw.randrange(8):
            case 0:
                changed[at : at + draw.randint(1, 3)] = b""
            case 1:
                changed[at:at] = draw.choice(_TOKENS)
            case 2:
                changed[at : at + 1] = bytes([draw.randrange(256)])
            case 3:
                changed[at:at] = changed[at : at + draw.randint(1, 40)]
            case 4:  # lines, or members, in another order
                separator = draw.choice((b"\r\n", b","))
                parts = bytes(changed).split(separator)
                one, other = draw.randrange(len(parts)), draw.randrange(len(parts))
                parts[one], parts[other] = parts[other], parts[one]
                changed = bytearray(separator.join(parts))
            case _:
                new = bytes(draw.choices(draw.choice(_ALPHABETS), k=draw.choice(_SIZES)))
                old = draw.choice([value for value in _VALUES if value in changed] or [b"-"])
                changed = bytearray(bytes(changed).replace(old, new))
    out = bytes(changed)
    if draw.random() < 0.7:
        out = _with_length(out)
    return out + draw.choice((b"", b"", b"", b"", b"\r\n", draw.choice(_TOKENS), data))


def _with_members(base: bytes) -> Iterator[bytes]:
    """The request with each text of each member, in its place or first, as a second one too."""
    head, end, body = base.partition(b"\r\n\r\n")
    for name, texts in _MEMBERS.items():
        for number, text in enumerate(texts):
            member = f'"{name}":{text.replace("|", " ")}'.encode()
            replaced, found = re.subn(rb'"%b": ?("[^"]*"|[^,}]*)' % name.encode(), lambda _: member, body)  # noqa: B023
            yield _with_length(head + end + (replaced if found and number % 8 else b"{" + member + b"," + body[1:]))


def _as_operation(data: bytes) -> bytes:
    """The request as an operation of a batch."""
    path, body = data.split(b" ", 2)[1].split(b"/")[3:], data.partition(b"\r\n\r\n")[2]
    return b'{"op":"%b"%b,' % (path[0], b"".join(b',"code":"%b"' % code for code in path[1:])) + body[1:]


def _in_a_batch(operation: msgspec.Raw | msgspec.Struct) -> Any:
    try:
        row, code, asked = batch.read_operation(_CALL.caller, operation)
        command = row.operation.prepare(_CALL, code, asked)
    except Refusal as refusal:
        return refusal.code, refusal.detail, refusal.errors
    return command.script, command.keys, command.args


def _client(*bases: bytes) -> Client:
    """A client that has sent these requests twice each."""
    client = Client()
    for base in bases * 2:
        client.protocol._misses = 3
        client.answer(base, Refusal("coupon_not_found"))
    return client


def _ask(client: Client, data: bytes, cut: int) -> Any:
    """Send this in one part or two; the commands and the response."""
    decider: Any = client.lane and client.lane.decider
    before = len(decider.asked)
    for part in (data[:cut], data[cut:]):
        if part:
            client.send(part)
    while decider.waiting:
        decider.reply(Refusal("coupon_not_found"))
    wire = client.wire
    return decider.asked[before:], decider.keys[before:], wire.sent, wire.closed, client.protocol._state


@pytest.mark.usefixtures("attempts")
@pytest.mark.parametrize("base", _BASES, ids=range(len(_BASES)))
async def test_a_shape_reads_what_the_other_way_reads(base: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests with other values, and with mutated heads, bodies and lengths, lead to the same command, keys and
    response by a shape as without one; many are read by it."""
    taught, draw, read = _client(base), random.Random(base), RequestShape.read
    assert taught.protocol._usual
    matched: list[str] = []

    def note(shape: RequestShape, text: str) -> Any:
        result = read(shape, text)
        if result:
            matched.append(text)
        return result

    monkeypatch.setattr(RequestShape, "read", note)
    values = [value for value in _VALUES if value in base]
    sent = [_with_length(base.replace(value, edge)) for value in values for edge in _EDGES]
    sent += [base.replace(value, value + b"1" * more) for value in values for more in (1, 2)]  # with a wrong length
    sent += [_mutate(draw, base) for _ in range(_MUTATIONS)]
    sent += _with_members(base)
    for number, data in enumerate(sent):
        cut = draw.randrange(len(data)) if number % 8 == 0 else 0
        taught.room = Room()  # no other has the turn
        by_shape, other = Client(beside=taught), Client()
        by_shape.protocol._usual = {**taught.protocol._usual}
        by_shape.protocol._misses = other.protocol._misses = 8
        assert _ask(by_shape, data, cut) == _ask(other, data, cut), data
    assert len(matched) > len(sent) // 20


@pytest.mark.parametrize("base", _BASES[::2], ids=range(len(_BASES[::2])))
def test_a_batch_reads_what_each_operation_is(base: bytes) -> None:
    """Two operations in a batch lead to the same commands and refusals as each does, decoded by its own struct."""
    texts = [_as_operation(data) for data in _with_members(base)]
    compared = 0
    for pair in zip(texts, [*texts[7:], *texts[:7]], strict=True):
        try:
            operations = batch.split_batch(_CALL.caller, b'{"operations":[%b]}' % b",".join(pair))
        except Refusal:  # no JSON
            continue
        compared += 1
        assert [*map(_in_a_batch, operations)] == [_in_a_batch(msgspec.Raw(text)) for text in pair], pair
    assert compared > len(texts) // 2


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


def _count_shapes(client: Client) -> int:
    return sum(map(len, client.protocol._shapes._shapes.values()))


_USUAL = request(body=b'{"userId":"user-1"}', more="")


@pytest.mark.usefixtures("attempts")
async def test_all_connections_share_shapes() -> None:
    """A text that came twice is learned, and the next connection adopts it after its fourth request."""
    client = _client(_USUAL)
    other = Client(beside=client)
    for _ in range(4):
        assert other.protocol._usual == {}
        other.send(_USUAL)
        client.decider.reply(Refusal("coupon_not_found"))
    assert [*other.protocol._usual.values()] == [*client.protocol._usual.values()] != []


@pytest.mark.usefixtures("attempts")
async def test_no_shape_has_a_credential_or_an_id() -> None:
    """A learned shape keeps no value of the request that it was learned from."""
    client = _client(request("/v1/coupons/redeem/ABCD", b'{"userId":"user-1"}', "Idempotency-Key: mine\r\n", "one"))
    (shape,) = client.protocol._usual.values()
    kept = repr([getattr(shape, name) for name in RequestShape.__slots__]) + repr(client.protocol._shapes._noted)
    assert not [text for text in ("Bearer one", "user-1", "mine", "ABCD") if text in kept]


_NOT_LEARNED = (
    request(body=b'{"userId":"user-1","metadata":{}}', more=""),
    request(body=b'{"userId":"u"}', more=""),
    request(body=b'{"userId":"user-1"}', more=f"X-Long: {'x' * MAX_TEXT}\r\n"),
    request(body=b'{"userId":"user-1"}', more="Cookie: a=b\r\n"),
    request(body=b'{"userId":"user-1"}', more="Idempotency-Key: a b\r\n"),
    request(body=b'{"userId":"user-1"}', more="", key="three"),
    _USUAL.replace(b"Bearer one", b"bearer one"),
    _USUAL.replace(b"Length: ", b"Length: 0"),
)


@pytest.mark.usefixtures("attempts")
@pytest.mark.parametrize("sent", _NOT_LEARNED, ids=range(len(_NOT_LEARNED)))
async def test_what_is_not_learned(sent: bytes) -> None:
    """Unusual, long and refused requests, and those with a session or another scheme, are not learned."""
    client = Client()
    for _ in range(3):
        client.protocol._misses = 3
        client.send(sent)
        while client.decider.waiting:
            client.decider.reply(Refusal("coupon_not_found"))
    assert _count_shapes(client) == 0


@pytest.mark.usefixtures("attempts")
async def test_the_least_recently_adopted_shape_goes() -> None:
    """An operation has at most MAX_SHAPES; one that a connection has adopted stays."""
    bases = [_USUAL.replace(b"Host: scrip", b"Host: scrip%d" % number) for number in range(MAX_SHAPES + 1)]
    client = _client(*bases[:-1])
    for base in (bases[0], bases[-1], bases[-1]):
        client.protocol._misses, client.protocol._usual = 3, {}
        client.answer(base, Refusal("coupon_not_found"))
    shapes_ = client.protocol._shapes._shapes[_USUAL[shapes.OPERATION]]
    matched = [[shape.read(base.decode()) is not None for shape in shapes_].count(True) for base in bases]
    assert (len(shapes_), matched) == (MAX_SHAPES, [1, 0, 1, 1, 1])


async def test_attempts_are_bounded() -> None:
    """A process tries to learn once in a tenth of a second, and notes at most MAX_NOTED texts."""
    store, client = RequestShapes(), _client(_USUAL)
    row, values = client.protocol._row, client.protocol._values
    times = [number / ATTEMPTS_A_SECOND / 4 for number in range(1, 4 * MAX_NOTED * 2)]
    for number, now_s in enumerate(times):
        data = request(body=b'{"userId":"user-1"}', more=f"X-New: {number}\r\n")
        assert store.adopt(row, values, data, now_s) is None
    assert 0 < len(store._noted) <= MAX_NOTED
    assert store._next_s <= times[-1] + 1 / ATTEMPTS_A_SECOND
    assert store.adopt(row, values, _USUAL, times[-1]) is None
    assert store.adopt(row, values, _USUAL, times[-1]) is None


@pytest.mark.usefixtures("attempts")
async def test_a_header_that_is_new_each_time() -> None:
    """A client whose every head is new learns nothing, leaves the shapes as they are, and tries ever more seldom."""
    client = _client(_USUAL)
    tried, adopt = 0, client.protocol._shapes.adopt
    other = Client(beside=client)

    def count(*sent: Any) -> Any:
        nonlocal tried
        tried += 1
        return adopt(*sent)

    client.protocol._shapes.adopt = count  # type: ignore[method-assign]
    for number in range(100):
        other.send(request(body=b'{"userId":"user-1"}', more=f"X-New: {number}\r\n"))
        client.decider.reply(Refusal("coupon_not_found"))
    assert (tried, other.protocol._usual, _count_shapes(client)) == (5, {}, 1)


@pytest.mark.usefixtures("attempts")
async def test_another_text_drops_the_shape() -> None:
    """A request of another text is answered the usual way, and the next one of the old text, too."""
    client = _client(_USUAL)
    client.protocol._misses = 8
    client.send(_USUAL.replace(b"user-1", b"user%1"))
    assert client.protocol._usual == {}
    client.answer(_USUAL, Refusal("coupon_not_found"))
    assert client.protocol._usual == {}
    assert statuses(client.wire.sent) == [404, 404, 422, 404]


@pytest.mark.usefixtures("attempts")
async def test_a_revoked_key() -> None:
    """A revoked key is refused by a shape, too; so is a user's token for another user."""
    client = _client(_USUAL)
    own = Caller(None, 1, UUID(int=1), 0, "live", frozenset(["user"]), user="user-1")
    client.keyring.replace({hashlib.sha256(b"two").digest(): own})
    for sent in (_USUAL, _USUAL.replace(b"one", b"two").replace(b"user-1", b"user-2")):
        client.send(sent)
    client.answer(_USUAL.replace(b"one", b"two"), Refusal("coupon_not_found"))
    assert client.protocol._usual
    assert statuses(client.wire.sent) == [404, 404, 401, 403, 404]
