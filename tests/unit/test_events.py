"""Events: parsed from the outbox, and written in its format."""

from uuid import RFC_4122, UUID

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from service.engine.formats import key_names
from service.engine.formats.events import (
    Assigned,
    BalanceChanged,
    MalformedEvent,
    Opened,
    Redeemed,
    RolledBack,
    StockNotice,
    Unassigned,
    encode_event,
    encode_request,
    entry_digest,
    is_same_event,
    parse,
    split_entry,
)
from service.engine.formats.redemption_id import event_id_of, id_from_event, id_from_numbers

ID = "0193e0a4-7b4c-7c1e-9a43-0123456789ab"
R = b"R 12 3 CODE-1 user o1 1250000 USD 2 250000 1794991234567 1 5 6 1 - - 77"
SOME = st.integers(0, 2**31 - 1)
MONEY = st.integers(0, 10**15 - 1)
TIME = st.integers(0, 4_000_000_000_000)
CODE = st.from_regex(r"[A-Z0-9_-]{4,64}", fullmatch=True)
CALLERS = st.from_regex(r"[!-.0-;=@-Z_a-z|~]{2,100}", fullmatch=True)

fields = {"epoch": SOME, "seq": st.integers(1, 2**40), "workspace": SOME, "book": SOME}
coupon = fields | {"code": CODE, "user": CALLERS, "at_ms": TIME}
REDEEMED = st.builds(
    Redeemed,
    **coupon,
    order=st.none() | CALLERS,
    value_e4=st.none() | MONEY,
    currency=st.none() | st.just("USD"),
    digits=st.integers(0, 4),
    discount_e4=MONEY,
    slot=SOME,
    max_uses=SOME,
    balance_after_e4=st.none() | MONEY,
)
KINDS = (
    st.builds(Opened, epoch=SOME, seq=st.just(0)),
    st.builds(Assigned, **coupon, order=st.none() | CALLERS),
    st.builds(
        StockNotice,
        **fields,
        notice=st.sampled_from(["low", "out"]),
        what=st.sampled_from(["codes", "uses", "budget:l:100:-", "budget:d:5:1800000000000"]),
        left=SOME,
        at_ms=TIME,
    ),
    st.builds(Unassigned, **coupon, order=st.none() | CALLERS),
    REDEEMED,
    st.builds(
        RolledBack,
        **coupon,
        order=st.none() | CALLERS,
        redemption_id=st.uuids().map(str),
        restore=st.booleans(),
        balance_after_e4=st.none() | MONEY,
    ),
    st.builds(
        BalanceChanged,
        **coupon | {"user": st.just("")},
        kind=st.sampled_from(["credited", "closed"]),
        amount_e4=MONEY,
        balance_after_e4=MONEY,
    ),
)
events = st.one_of(*KINDS)
LINE = st.binary().filter(lambda line: b"\n" not in line)
LINES = st.tuples(LINE) | st.tuples(LINE, LINE) | st.tuples(LINE, LINE, st.binary())


@given(events)
def test_an_event_survives_being_written(event):
    """`parse` is the inverse of `decided` and `encode_request`."""
    d, r = encode_event(event).encode(), encode_request(event.request)
    again = parse(event.epoch, event.seq, d, r)
    assert msgspec.structs.replace(again, request=event.request) == event
    assert encode_event(again).encode() == d


def test_a_redemption_is_parsed():
    """Each field of a redemption is parsed, and `-` is None."""
    r = b'{"ip":"203.0.113.7","ua":"curl","metadata":{"a": 1},"key":"k","op":"redeem","later":1}'
    event = parse(7, 9, R, r, b"f 0 @x")
    assert isinstance(event, Redeemed)
    assert (event.epoch, event.seq, event.workspace, event.book) == (7, 9, 12, 3)
    assert (event.code, event.user, event.order) == ("CODE-1", "user", "o1")
    assert (event.value_e4, event.currency, event.digits, event.discount_e4) == (1_250_000, "USD", 2, 250_000)
    assert (event.at_ms, event.slot, event.max_uses, event.kept) == (1_794_991_234_567, 1, 1, "f 0 @x")
    assert (event.request.ip, event.request.key, bytes(event.request.metadata)) == ("203.0.113.7", "k", b'{"a": 1}')
    bare = parse(7, 9, R.replace(b" o1 ", b" - ").replace(b" 1250000 USD ", b" - - "), b"{}")
    assert isinstance(bare, Redeemed)
    assert (bare.order, bare.value_e4, bare.currency, bare.kept) == (None, None, None, None)


def test_a_checkout_is_parsed():
    """Three fields after a redemption's are its gift, with the same user and order."""
    event = parse(7, 9, R + b" 4 GIFT-1 99", b'{"ip":"203.0.113.7"}')
    assert isinstance(event, Redeemed)
    assert parse(7, 9, R, b'{"ip":"203.0.113.7"}') == msgspec.structs.replace(event, gift=None)
    assert event.gift == Assigned(
        epoch=7, seq=9, request=event.request, workspace=12, book=4, code="GIFT-1", user="user", order="o1",
        at_ms=1_794_991_234_567,
    )  # fmt: skip
    assert encode_event(event).endswith(f" 1 - - {key_names.bucket('user')} 4 GIFT-1 {key_names.bucket('GIFT-1')}")


@pytest.mark.parametrize(("epoch", "seq", "at_ms"), [(1, 0, 0), (7, 9, 1_794_991_234_567), (2**26 - 1, 2**48 - 1, 5)])
def test_a_redemptions_id_is_made_of_its_event(epoch: int, seq: int, at_ms: int):
    """A redemption's id is a UUIDv7 of the event's time that contains epoch and number."""
    made = UUID(id_from_numbers(epoch, seq, at_ms))
    assert (made.version, made.variant, made.int >> 80) == (7, RFC_4122, at_ms)
    assert event_id_of(made) == (epoch, seq)
    assert id_from_event(f"{epoch}-{seq}", str(at_ms)) == str(made)
    event = parse(epoch, seq, R.replace(b"1794991234567", b"%d" % at_ms), b"{}")
    assert isinstance(event, Redeemed)
    assert event.redemption_id == str(made)


@pytest.mark.parametrize(
    ("d", "r"),
    [
        (b"", b"{}"),
        (b"X 1 2", b"{}"),
        (b"O", b""),
        (R + b" x", b"{}"),
        (R.replace(b" 1 - - 77", b" 1 -5 - 77"), b"{}"),
        (R.replace(b" 1 - - 77", b" 1 - 5x 77"), b"{}"),
        (R.replace(b" 1 - - 77", b" 1 - 77"), b"{}"),
        (f"B 1 2 CODE user o1 {ID} 5 1 1 1 -7".encode(), b"{}"),
        (f"B 1 2 CODE user o1 {ID} 5 1 1 1 7 8".encode(), b"{}"),
        (b"C 1 2 CODE spent 7 8 5 1", b"{}"),
        (b"C 1 2 CODE closed 7 5 1", b"{}"),
        (R[:-3], b"{}"),
        (R, b""),
        (R, b"[]"),
        (R, b'{"ip": 1}'),
        (R.replace(b"1250000", b"1.25e+6"), b"{}"),
        (R.replace(b"1794991234567", b"1794991234567000"), b"{}"),
        (R.replace(b"1794991234567", b"-1"), b"{}"),
        (R.replace(b"CODE-1", b"CODE\t1"), b"{}"),
        (R.replace(b"CODE-1", b"CODE\\N"), b"{}"),
        (R.replace(b"CODE-1", b"CODE\xff1"), b"{}"),
        (f"B 1 2 CODE user o1 {ID} 5 2 1 1 -".encode(), b"{}"),
        (b"U 1 2 CODE user 5", b"{}"),
        (b"A 1 2 CODE user 5 1 order", b"{}"),
        (R + b" 4 CODE-2", b"{}"),
        (b"S 1 2 high codes 3 5", b"{}"),
        (b"U 1 2 CODE user then 1", b"{}"),
        (R.replace(b" 1250000 ", b" 1_250_000 "), b"{}"),
        (R.replace(b"CODE-1", b""), b"{}"),
        (R.replace(b" 1794991234567 ", b" 253402300800000 "), b"{}"),
        (R + b"\n", b"{}"),
    ],
)
def test_malformed_entries(d: bytes, r: bytes):
    """`parse` rejects an entry that is no event, and never returns another event for it."""
    with pytest.raises(MalformedEvent):
        parse(1, 1, d, r)


@given(LINES)
@example((b"R 1", b"{}", b"f 0 a\n\nb"))
def test_an_entry_is_taken_apart(lines: tuple[bytes, ...]):
    """`split_entry` is the inverse of joining the lines of an entry's one field; the last may have line breaks."""
    assert split_entry([b"e", b"\n".join(lines)]) == (*lines, *(b"", b"", None)[len(lines) :])
    assert split_entry([b"e", b"K 1 5\n{}", b"more", b""]) == split_entry([]) == (b"", b"", None)


def test_a_stored_answer_must_be_text():
    """`parse` rejects an entry whose stored answer is not UTF-8, whatever its kind."""
    for d in (R, b"K 1 5"):
        with pytest.raises(MalformedEvent, match=r"a field can't be read \(UnicodeDecodeError\)"):
            parse(1, 1, d, b"{}", b"\xff")


def test_digests_tell_entries_apart():
    """Entries with other ids, other values, or the same bytes cut elsewhere have other digests."""
    entries = [(b"1-1", b"a", b"b"), (b"1-2", b"a", b"b"), (b"1-1", b"ab", b""), (b"1-1", b"", b"ab"), (b"1-1", b"a")]
    assert len({entry_digest(*entry) for entry in entries}) == len(entries)


def test_the_same_event_of_a_deleted_user() -> None:
    """An event is the same though its user was deleted since, but not with another code, time, number or kind."""
    event = parse(5, 7, R, b"{}")
    assert isinstance(event, Redeemed)
    assert is_same_event(event, msgspec.structs.replace(event, user="a-pseudonym"))
    changes: list[dict[str, object]] = [{"code": "CODE-2"}, {"at_ms": 1}, {"seq": 8}, {"book": 4}]
    assert not any(is_same_event(event, msgspec.structs.replace(event, **change)) for change in changes)
    about = {name: getattr(event, name) for name in ("epoch", "seq", "workspace", "book", "code", "user", "at_ms")}
    assert not is_same_event(event, Assigned(**about))
    assert not is_same_event(event, None)
