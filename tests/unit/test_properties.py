"""Properties of all input: names of keys, letters of codes, amounts, exports, and every parser.

`SCRIP_FUZZ` is how many examples each has; `make fuzz` gives many more.
"""

import csv
import io
import json
import os
import re
from collections.abc import Callable
from decimal import ROUND_HALF_EVEN, Decimal
from itertools import chain
from typing import Any, TypeVar

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from service.engine.domain.decoding import decode
from service.engine.domain.errors import BadField, Refusal
from service.engine.domain.field_types import canonicalize_code, decode_field, encode_field, is_caller_id
from service.engine.domain.file_kinds import UTF_16, explain_kind
from service.engine.domain.money import LIMIT, from_e4, is_plain, to_e4
from service.engine.domain.uuids import parse_uuid
from service.engine.formats import key_names
from service.engine.formats.events import MalformedEvent, parse
from service.server.api.csv_rows import encode_csv_rows
from service.server.requests.code_patterns import check_pattern, normalize_charset
from service.server.requests.code_requests import CodeLine, Lines, RejectedLine
from tests.harness import ends
from tests.unit.fastlane_fixtures import Client, request, statuses
from tests.unit.test_bounds_of_types import request_kinds
from tests.unit.test_codes import read_pieces

T = TypeVar("T", bound=Exception)

EXAMPLES = int(os.environ.get("SCRIP_FUZZ", "100"))
_SLOW = (HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much)
fuzzed = settings(max_examples=EXAMPLES, suppress_health_check=_SLOW)

_ID = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="/\\?#%"), min_size=1, max_size=100)
_HARD_ID = st.text("a:-{}.1|,", min_size=1, max_size=6)
_IDS = st.one_of(_ID, _HARD_ID).filter(is_caller_id)
_CODES = st.from_regex(r"\A[A-Z0-9_-]{4,12}\Z").filter(lambda code: canonicalize_code(code) is not None)
_KEYS = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=20)

_PARTS_OF_NAMES = (*key_names.TYPES, *key_names.OWN, *"{p0} w1 1 131072 gate : :: * [a-z]* \\ %-".split(), " ")
_HARD_TEXT = st.lists(st.sampled_from(_PARTS_OF_NAMES), min_size=1, max_size=40).map(lambda parts: "".join(parts)[:255])
_HARD_NAME = _HARD_TEXT.map(lambda text: re.sub(r"[ /\\?#%]", "", text)[:100]).filter(is_caller_id)
_USERS = st.one_of(_IDS, _HARD_NAME).map(encode_field)

_BUILDERS: dict[str, tuple[Callable[..., str], tuple[str, ...]]] = {
    "w": (key_names.settings, ()),
    "x": (key_names.books, ()),
    "e": (key_names.moved, ()),
    "b": (key_names.book, ("book",)),
    "n": (key_names.counters, ("book",)),
    "f": (key_names.pool, ("book",)),
    "lb": (key_names.locks_of_book, ("book",)),
    "bl": (key_names.shares, ("book",)),
    "bh": (key_names.held_sums, ("book",)),
    "bu": (key_names.shares_of_user, ("book", "user")),
    "l": (key_names.set_of_codes, ("book", "which")),
    "d": (key_names.directory, ("bucket",)),
    "o": (key_names.orders, ("bucket",)),
    "g": (key_names.gifts, ("bucket",)),
    "m": (key_names.accounts, ("bucket",)),
    "c": (key_names.coupon, ("code",)),
    "k": (key_names.locks, ("code",)),
    "kd": (key_names.deadlines, ("code",)),
    "s": (key_names.standing, ("code",)),
    "u": (key_names.user, ("user",)),
    "lu": (key_names.locks_of_user, ("book", "user")),
    "ue": (key_names.ends_of_user, ("book", "user")),
    "lk": (key_names.locks_of_holder, ("holder",)),
    "lo": (key_names.marks_of_order, ("user",)),
    "q": (key_names.rate, ("counter", "holder")),
    "i": (key_names.answer, ("key",)),
    "y": (key_names.kept_bytes, ()),
}
"""By kind (docs/internals/formats.md, Redis keys) its builder, and what follows the kind."""
_PARTS: dict[str, st.SearchStrategy[str]] = {
    "book": st.integers(1, 2**31).map(str),
    "bucket": st.integers(0, key_names.BUCKETS - 1).map(str),
    "code": _CODES,
    "user": _USERS,
    "which": st.sampled_from("uapox"),
    "counter": st.sampled_from("rmab"),
    "holder": st.one_of(st.uuids().map(lambda one: one.hex.upper()), st.integers(0, 131_071).map("U{}".format)),
    "key": st.one_of(_KEYS, _HARD_TEXT),
}


@st.composite
def _named(draw: st.DrawFn) -> tuple[key_names.Key, str]:
    """A key, and the name that its builder makes."""
    partition, workspace = draw(st.integers(0, 1023)), draw(st.integers(1, 2**31 - 1))
    if draw(st.integers(0, 9)) == 0:
        kind = draw(st.sampled_from(sorted(key_names.OWN)))
        return key_names.Key(partition, 0, kind), getattr(key_names, kind)(partition)
    kind = draw(st.sampled_from(sorted(_BUILDERS)))
    build, takes = _BUILDERS[kind]
    parts = tuple(draw(_PARTS[part]) for part in takes)
    return key_names.Key(partition, workspace, kind, parts), build(key_names.prefix(partition, workspace), *parts)


@fuzzed
@given(st.lists(_named(), min_size=2, max_size=40))
def test_no_two_things_share_a_key(named: list[tuple[key_names.Key, str]]) -> None:
    """A key's name has exactly one meaning, whatever is in ids, and its slot is its partition's."""
    by_name: dict[str, key_names.Key] = {}
    for about, name in named:
        assert by_name.setdefault(name, about) == about
        assert name[name.index("{") + 1 : name.index("}")] == f"p{about.partition}"
        assert key_names.parse_key(name) == about
        assert about.name == name


@fuzzed
@given(st.one_of(_HARD_TEXT, _HARD_TEXT.map("{{p0}}:w1:{}".format), _HARD_TEXT.map("{{p0}}:{}".format), st.text()))
def test_what_no_builder_makes_is_no_key(text: str) -> None:
    """A parsed key has exactly the name that was parsed."""
    key = key_names.parse_key(text)
    assert key is None or key.name == text


def test_every_kind_has_a_builder_and_a_type() -> None:
    """The table of kinds, the builders and the types that Redis holds them as are of the same kinds."""
    assert set(_BUILDERS) == set(key_names.TYPES)
    for kind, (build, takes) in _BUILDERS.items():
        parts = [{"which": "u", "counter": "r", "code": "CODE"}.get(part, "1") for part in takes]
        key = key_names.parse_key(build("{p1}:w2:", *parts))
        assert key is not None
        assert (key.kind, key.type) == (kind, key_names.TYPES[kind])


@pytest.mark.parametrize(
    "name",
    ["{p0}:w01:w", "{p0}:w0:w", "{p00}:gate", "{p0}:gates", "{p0}:w1:d:131072", "{p0}:w1:d:05", "{p0}:w1:d:\u0661",
     "{p0}:w1:l:1:y", "{p0}:w1:l:u", "{p0}:w1:w:1", "{p0}:w1:u:", "{p0}:w1:u:a b", "{p0}:w1:u:a\n", "{p0}:w1:c:a",
     "{p0}:w1:", "{p0}:w1:ld:5", "x{p0}:gate", "p0:gate"],
)  # fmt: skip
def test_another_applications_key_is_none_of_ours(name: str) -> None:
    """A name that no builder makes is not parsed, however similar it is."""
    assert key_names.parse_key(name) is None


def test_encoded_users_are_distinct() -> None:
    """`decode_field` is the inverse of `encode_field` for every user and None."""
    for user in (None, "-", "a", "--"):
        assert decode_field(encode_field(user)) == user


@pytest.mark.parametrize("frame", ["{}ABC", "AB{}C", "ABC{}"])
def test_every_code_point(frame: str) -> None:
    """Of all code points, in each place of a code, 64 are taken: A to Z, a to z, digits, `-` and `_`."""
    taken = {chr(point) for point in range(0x110000) if canonicalize_code(frame.format(chr(point))) is not None}
    assert taken == set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
    assert {canonicalize_code(frame.format(point)) for point in taken} == {
        frame.format(point).upper() for point in taken
    }


@fuzzed
@given(st.text(max_size=80))
def test_codes(text: str) -> None:
    """A canonical code is ASCII in upper case, and canonical again."""
    code = canonicalize_code(text)
    if code is not None:
        assert code.isascii()
        assert code == code.upper() == canonicalize_code(code) == canonicalize_code(text.lower())
    assert parse_uuid(text) is None or str(parse_uuid(text)) == text.lower()


@fuzzed
@given(
    st.one_of(st.decimals(-1000, LIMIT * 2, places=6), st.decimals(), st.integers(-1, 10**12).map(Decimal)),
    st.integers(0, 4).filter(lambda digits: digits != 1),
)
def test_amounts(amount: Decimal, digits: int) -> None:
    """An amount is converted exactly or refused, and converts back to the same decimal."""
    exact = amount.is_finite() and 0 <= amount < LIMIT and amount == _rounded(amount, digits)
    try:
        kept = to_e4("amount", amount, digits)
    except BadField:
        assert not exact
        return
    assert exact
    assert Decimal(kept).scaleb(-4) == amount
    text = from_e4(kept, digits)
    assert Decimal(text) == amount
    assert is_plain(text)
    assert len(text.partition(".")[2]) == digits


def _rounded(amount: Decimal, digits: int) -> Decimal:
    if abs(amount) >= LIMIT:
        return amount
    return amount.quantize(Decimal(1).scaleb(-digits), ROUND_HALF_EVEN)


def _raised(kind: type[T], call: Callable[[], object]) -> T | None:
    """The error of this kind that it raises; any other is one of ours."""
    try:
        call()
    except kind as error:
        return error
    return None


_FORMULAS = tuple("=+-@\t\r\n＝＋－＠")
_CELLS = st.text(st.one_of(st.characters(exclude_categories=["Cs"]), st.sampled_from((*_FORMULAS, "'", '"', ","))))


@fuzzed
@given(st.lists(st.lists(_CELLS, min_size=2, max_size=4), max_size=5))
def test_exports(rows: list[list[str]]) -> None:
    """Each cell reads back unchanged, but for a `'` before each part that a spreadsheet would run."""
    read = list(csv.reader(io.StringIO(encode_csv_rows(rows).decode(), newline=""), strict=True))
    assert [[cell.replace("'", "") for cell in row] for row in read] == [
        [cell.replace("'", "") for cell in row] for row in rows
    ]
    for cell, written in zip(chain(*rows), chain(*read), strict=True):
        assert written.startswith(f"'{cell[:1]}") if cell.startswith(_FORMULAS) else written[:1] == cell[:1]
        assert written == cell or any(sign in cell for sign in _FORMULAS)


_JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20), _IDS, _CODES),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=10), inner, max_size=4)),
    max_leaves=12,
)
_FIELDS = st.sampled_from(
    "userId orderId orderValue currency items sku quantity unitPrice lockToken lockSeconds metadata code bookId name "
    "discount type value tiers from buy get validFrom validUntil codePattern charset totalCodes "
    "tags".split()
)
_VALUES = st.one_of(_JSON, st.dictionaries(_FIELDS, st.one_of(_JSON, st.sampled_from(ends.NUMBERS)), max_size=6))
_WHOLE = _VALUES.map(lambda value: json.dumps(value).encode("utf-8", "surrogatepass"))
_TOKENS = st.sampled_from(
    [
        b"null", b"1e999", b"NaN", b"9" * 40, b'"\\ud800"', b"\xff", b"\x00", b"\xef\xbb\xbf", b"\xed\xa0\x80",
        b"[" * 60, b'"userId":"u",', b'"__proto__":1,', b",", b":", b'"', b"\\", b"{", b"}",
    ]
)  # fmt: skip


@st.composite
def _spliced(draw: st.DrawFn) -> bytes:
    """JSON with tokens or bytes put in, or taken out."""
    body = draw(_WHOLE)
    for _ in range(draw(st.integers(1, 3))):
        start, cut = draw(st.integers(0, len(body))), draw(st.sampled_from([0, 1, 8]))
        body = body[:start] + draw(st.one_of(_TOKENS, st.binary(max_size=4))) + body[start + cut :]
    return body


_BODIES = st.one_of(st.binary(max_size=200), _WHOLE, _spliced())
_DECODERS = [msgspec.json.Decoder(kind) for kind in request_kinds() if not kind.__name__.startswith("_")]


@fuzzed
@given(_BODIES, st.sampled_from(_DECODERS))
def test_bodies(body: bytes, decoder: "msgspec.json.Decoder[Any]") -> None:
    """A body is decoded, or refused as malformed or invalid with a short detail."""
    refusal = _raised(Refusal, lambda: decode(decoder, body))
    if refusal:
        assert refusal.code in {"malformed", "invalid"}
        assert len(refusal.detail) < 1000
        assert refusal.errors


@fuzzed
@given(st.lists(st.binary(max_size=60), max_size=8), st.booleans())
@example([b"\xd0\xcf\x11\xe0", b"\xa1\xb1\x1a\xe1"], False)
@example([b"\xfe", b"\xff"], False)
def test_uploads(parts: list[bytes], is_csv: bool) -> None:
    """An upload has the same lines in any pieces; it is refused whole if it begins as a file of another kind, and read
    in UTF-16 if it begins so."""

    def read(pieces: list[bytes]) -> list[CodeLine | RejectedLine] | str:
        try:
            return read_pieces(Lines(is_csv), pieces)
        except (Refusal, BadField) as refused:
            return type(refused).__name__

    start = b"code,userId,expiresAt,maxRedemptions\n" if is_csv else b""
    body = b"".join(parts)
    whole = read([start, body])
    assert read([start, *parts]) == whole
    if not is_csv and body[:2] not in UTF_16 and explain_kind(body):
        assert whole == "Refusal"
        return
    assert isinstance(whole, list)
    assert all(canonicalize_code(line.code) == line.code for line in whole if isinstance(line, CodeLine))


_EVENT_WORDS = st.lists(
    st.sampled_from(["R", "A", "B", "U", "S", "K", "O", "1", "-", "x", "0", "1" * 20]), max_size=18
).map(lambda words: " ".join(words).encode())


@fuzzed
@given(st.one_of(st.binary(max_size=80), _EVENT_WORDS), st.binary(max_size=40), st.none() | st.binary(max_size=40))
def test_events(d: bytes, r: bytes, kept: bytes | None) -> None:
    """A text that is no event raises MalformedEvent with a short message."""
    assert len(str(_raised(MalformedEvent, lambda: parse(1, 2, d, r, kept)))) < 200


@fuzzed
@given(st.text(max_size=70), st.text(max_size=40))
def test_patterns(pattern: str, charset: str) -> None:
    """A pattern or charset is refused by its field's name, or has characters of codes only."""
    bad = _raised(BadField, lambda: check_pattern(pattern))
    fits = re.fullmatch(r"[A-Za-z0-9_#-]{4,64}", pattern) is not None
    assert bad is None if fits and "#" in pattern else bad is not None or fits
    bad = _raised(BadField, lambda: normalize_charset(charset))
    assert bad is None or bad.field == "charset"


_PIECES = st.sampled_from(
    [
        *b"\r\n|\n|\r|\r\n\r\n|:| |\x00|POST |GET | HTTP/1.1|/v1/coupons/lock/|Host: x|%|Content-Length: ".split(b"|"),
        *b'Transfer-Encoding: chunked|0\r\n\r\n|Expect: 100-continue|{|"|\xff|99999999999999999999'.split(b"|"),
    ]
)


@fuzzed
@given(st.data())
async def test_the_protocol(data: st.DataObject) -> None:
    """Whatever bytes arrive, in whatever pieces, no answer is a 5xx, and none follows an answer that closes."""
    good = request()
    at = data.draw(st.integers(0, len(good)))
    inserted = data.draw(st.one_of(st.binary(max_size=30), st.lists(_PIECES, max_size=4).map(b"".join)))
    cut = data.draw(st.integers(0, 20))
    sent = good[:at] + inserted + good[at + cut :]
    client = Client()
    pieces = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=4)))
    for start, end in zip([0, *pieces], [*pieces, len(sent)], strict=True):
        client.send(sent[start:end])
    while client.decider.waiting:
        client.decider.reply([1, ""]) if client.decider.asked[-1][0] != "lock" else client.decider.reply()
    answers = await client.settle()
    assert not [status for status in statuses(answers) if status >= 500]
    assert not [answer for answer in answers.split(b"HTTP/1.1 ")[:-1] if b"\r\nconnection: close\r\n" in answer]
    client.protocol.connection_lost(None)
