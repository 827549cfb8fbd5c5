"""Parse and encode events, as entries of the outbox: event_writer.py records them, openings and comparisons read them.

lua/includes/events.lua, redemption.lua and lua/fast/usual_redeem.lua write and read the same words
(formats.md has the format): change all, and FORMAT_NUMBER. lua/includes/outbox.lua joins the lines that
split_entry takes apart. The names in RequestPart are in the JSON of `r`.
"""

import hashlib
import re
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Annotated, Any, Literal

import msgspec

from service.engine.domain.field_types import decode_field, decode_id, encode_field
from service.engine.domain.sent_fields import Sent, sent_fields
from service.engine.domain.times import LATEST_MS
from service.engine.formats.event_id import NO_EVENT, EventId
from service.engine.formats.key_names import bucket
from service.engine.formats.redemption_id import id_from_numbers


class MalformedEvent(ValueError):
    """An entry of the outbox is not an event."""


class RequestPart(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """The request's part of an event and of a redemption's record; scripts don't read it. A `Sent` at a field is its
    row in the table of what clients send with a redemption (sent_fields.py); such fields come before `key`."""

    ip: str = ""
    ua: str = ""
    metadata: Annotated[msgspec.Raw, Sent(most=1 << 10, example={}, in_checkout=False)] = msgspec.Raw(b"")
    reason: str = ""
    key: str = ""
    op: str = ""
    by: str = ""
    """Of a BalanceChanged: `key:<key id>` or `person:<person>`."""


class _TracePart(msgspec.Struct, frozen=True, gc=False):
    """The member `trace` of a sampled request's part: a W3C `traceparent`."""

    trace: str = ""


SENT = sent_fields(RequestPart)
"""The table of what clients send with a redemption."""
read_sent = attrgetter(*SENT)
"""What a RequestPart has of it, to compare with NOT_SENT."""
NOT_SENT = read_sent(RequestPart())
PublicRequest = msgspec.defstruct(
    "PublicRequest",
    [
        *((name, msgspec.Raw, msgspec.Raw(b"null")) for name in ("ip", "ua")),
        *((name, msgspec.Raw, field.shown) for name, field in SENT.items()),
    ],
    gc=False,
)
"""The part of a RequestPart that responses show, still as JSON."""


class Event(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An entry of the outbox; `kept` is the entry under its Idempotency-Key."""

    epoch: int
    seq: int
    request: RequestPart = RequestPart()
    kept: str | None = None

    @property
    def id(self) -> EventId:
        return EventId(self.epoch, self.seq)


class Opened(Event, frozen=True, kw_only=True, gc=False):
    """An epoch's first event."""


class Answered(Event, frozen=True, kw_only=True, gc=False):
    """A request off the hot path was answered under its Idempotency-Key."""

    workspace: int
    at_ms: int


class Fact(Event, frozen=True, kw_only=True, gc=False):
    """A change of a coupon."""

    workspace: int
    book: int
    code: str
    user: str
    at_ms: int


class Assigned(Fact, frozen=True, kw_only=True, gc=False):
    """A code was assigned to a user; `order` if it is that order's gift."""

    order: str | None = None


class Unassigned(Fact, frozen=True, kw_only=True, gc=False):
    """An assignment was taken back; `order` if it was that order's gift, by a rollback of the order."""

    order: str | None = None


class Redeemed(Fact, frozen=True, kw_only=True, gc=False):
    """A use was spent; `slot` is its place in the order (0 without an order), `max_uses` the limit (0 for none)."""

    order: str | None
    value_e4: int | None
    currency: str | None
    digits: int
    discount_e4: int
    slot: int
    max_uses: int
    balance_after_e4: int | None = None
    """What was available of a card afterwards; None for other coupons."""
    counted_ms: int | None = None
    """The time whose budgets and limits it counts against: its lock's; None for its own."""
    gift: Assigned | None = None
    """A checkout's gift, which Postgres records as an assignment."""

    @property
    def redemption_id(self) -> str:
        return id_from_numbers(self.epoch, self.seq, self.at_ms)


class RolledBack(Fact, frozen=True, kw_only=True, gc=False):
    """A redemption was rolled back; with `restore` its use may be spent again."""

    order: str | None
    redemption_id: str
    restore: bool
    redeemed: EventId = NO_EVENT
    """The redemption's event. Only Postgres has it, and the discount."""
    discount_e4: int = 0
    balance_after_e4: int | None = None
    """As of Redeemed."""
    counted_ms: int = 0
    """As of Redeemed; only Postgres has it, for every redemption."""


class BalanceChanged(Fact, frozen=True, kw_only=True, gc=False):
    """A card was credited with an amount, or closed, which took the available amount. It has no user: `user` is ''."""

    kind: Literal["credited", "closed"]
    amount_e4: int
    balance_after_e4: int
    user: str = ""


class StockNotice(Event, frozen=True, kw_only=True, gc=False):
    """A book ran low, or out, of free codes, uses of its total, or a budget: `budget:<l, d or m>:<amount>:<renews>`;
    the last is when it begins again in ms, or `-`."""

    workspace: int
    book: int
    notice: Literal["low", "out"]
    what: str
    left: int
    at_ms: int


Parts = tuple[bytes, bytes, bytes | None]
"""The lines `d`, `r` and `i` of an entry."""
Entry = tuple[int, bytes, bytes, bytes | None]
"""An undecoded entry of the outbox: its number and its parts."""


class RedemptionRecord(msgspec.Struct, gc=False):
    """A redemption in texts, '-' for none. As a record, which scripts and responses read, it is its event, the `R` of
    the outbox without a gift, and the request's part. A NamedTuple would take 0.5 µs more."""

    event: str
    kind: str
    workspace: str
    book: str
    code: str
    user: str
    order: str
    value_e4: str
    currency: str
    digits: str
    discount_e4: str
    at_ms: str
    slot: str
    code_bucket: str
    order_bucket: str
    max_uses: str
    """The limit; 0 for none."""
    balance_after_e4: str
    """What was available of a card afterwards."""
    counted_ms: str
    """The time of the lock in whose periods it counts; '-' for its own."""
    user_bucket: str
    request: str
    """JSON; '' for an event that was just read."""
    gift_book: str = ""
    gift_code: str = ""
    """A record has no gift."""

    def __str__(self) -> str:
        return " ".join(msgspec.structs.astuple(self)[:_RECORD_WORDS])


REDEEMED_FIELDS: tuple[str, ...] = RedemptionRecord.__struct_fields__[2:-3]
"""The fields of an `R`, in their order."""
_RECORD_WORDS = len(REDEEMED_FIELDS) + 3
_INVALID = bytes({*range(0x20), *range(0x7F, 0x100), ord("\\")})
parse_request = msgspec.json.Decoder(RequestPart).decode
_parse_trace = msgspec.json.Decoder(_TracePart).decode
parse_public_request = msgspec.json.Decoder(PublicRequest).decode
_WORD, _INT = "[^ ]+", r"-?\d+"
_NUMBERS: dict[str, str] = dict.fromkeys("workspace book digits discount_e4 slot user_bucket".split(), _INT)
_NUMBERS |= {"value_e4": r"-|-?\d+", "at_ms": r"\d{1,15}", "max_uses": _INT}
_NUMBERS |= {"balance_after_e4": r"-|\d+", "counted_ms": r"-|\d{1,15}"}
"""The fields of an `R` that are not any text."""
# One match takes half the time of a split and seven conversions. Most events are redemptions.
_redemption = re.compile(
    f"R {' '.join(f'({_NUMBERS.get(name, _WORD)})' for name in REDEEMED_FIELDS)}(?: ({_INT}) ({_WORD}) {_WORD})?",
    re.ASCII,
).fullmatch
REDEEMED_IN_LUA = f"R {' '.join('(%-?%d+)' if _NUMBERS.get(name) == _INT else '(%S+)' for name in REDEEMED_FIELDS)}"
"""The pattern of an `R` without a gift; {R} in the scripts."""


def with_trace(request: str, trace: str) -> str:
    """A RequestPart as JSON with a member `trace`. Only service/engine/worker/traced_recording.py reads it."""
    return f'{{"trace":"{trace}"{"" if request == "{}" else ","}{request[1:]}'


def read_trace(r: bytes) -> str:
    """The `trace` of an entry's `r`; '' if it has none."""
    if b'"trace":"' not in r:  # metadata may have it, too
        return ""
    try:
        return _parse_trace(r).trace
    except msgspec.DecodeError:
        return ""


def without_key(request: str) -> str:
    """A RequestPart as JSON without its Idempotency-Key and `op`; unchanged if it has an object. In JSON's texts quotes
    are escaped, so only an object, such as metadata, can have a member `key` of its own."""
    before, key, _ = request.partition(',"key":"')
    return before + "}" if key and '":{' not in before else request


def split_entry(fields: Sequence[bytes]) -> Parts:
    """The parts of an entry, by the names and values of its fields; empty unless it has one field. Only `i`, the last,
    may have line breaks."""
    lines = fields[1].split(b"\n", 2) if len(fields) == 2 else [b""]
    return lines[0], lines[1] if len(lines) > 1 else b"", lines[2] if len(lines) > 2 else None


def parse(epoch: int, seq: int, d: bytes, r: bytes, kept: bytes | None = None) -> Event:
    """The event of an entry's parts. Raises MalformedEvent."""
    check_characters(d)
    if d.startswith(b"R "):
        redemption, request, answer = read_redemption(d, r, kept)
        return _make_redeemed(redemption, {"epoch": epoch, "seq": seq, "request": request, "kept": answer})
    try:
        text = d.decode()
        if text == "O" and seq == 0:
            return Opened(epoch=epoch, seq=seq)
        words = text.split(" ")
        read = _READERS.get(words[0])
        if read is None:
            raise MalformedEvent("its kind is unknown")
        answer = None if kept is None else kept.decode()
        return read(words, {"epoch": epoch, "seq": seq, "request": parse_request(r), "kept": answer})
    except MalformedEvent:
        raise
    except (ValueError, msgspec.DecodeError) as error:
        raise _make_unreadable(error) from error


def parse_entry(at: EventId, d: bytes, r: bytes) -> Event | None:
    """The event of an entry's parts; None if it is malformed."""
    try:
        return parse(*at, d, r)
    except MalformedEvent:
        return None


def is_same_event(one: Event | None, other: Event | None) -> bool:
    """Whether both are the same fact of one code. The user may differ, who may have been deleted since."""
    if not isinstance(one, Fact) or not isinstance(other, Fact) or type(one) is not type(other):
        return False
    ours, theirs = ((fact.id, fact.workspace, fact.book, fact.code, fact.at_ms) for fact in (one, other))
    return ours == theirs


def check_characters(decided: bytes) -> None:
    """Raise MalformedEvent if one or more joined `d` have characters that encode_field never writes."""
    if len(decided.translate(None, _INVALID)) != len(decided):
        raise MalformedEvent("it holds characters that no id has")


def read_redemption(d: bytes, r: bytes, kept: bytes | None) -> tuple[RedemptionRecord, RequestPart, str | None]:
    """Parse an `R` and the other parts. The caller has checked the characters of `d`. Raises MalformedEvent."""
    try:
        if (match := _redemption(d.decode())) is None:
            raise ValueError
        words = match.groups("")
        redemption = RedemptionRecord(*("", "R", *words[:-2], "", *words[-2:]))
        return redemption, parse_request(r), None if kept is None else kept.decode()
    except (ValueError, msgspec.DecodeError) as error:
        raise _make_unreadable(error) from error


def _make_unreadable(error: Exception) -> MalformedEvent:
    return MalformedEvent(f"a field can't be read ({type(error).__name__})")


_Common = dict[str, Any]
"""The fields of Event: epoch, seq, request, kept."""


def _make_redeemed(r: RedemptionRecord, common: _Common) -> Redeemed:
    gift = None
    if r.gift_code:
        about = _parse_fact(r.workspace, r.gift_book, r.gift_code, r.user, r.at_ms)
        gift = Assigned(**common | {"kept": None}, **about, order=decode_field(r.order))
    return Redeemed(
        **common,
        **_parse_fact(r.workspace, r.book, r.code, r.user, r.at_ms),
        order=decode_field(r.order),
        value_e4=_parse_number(r.value_e4),
        currency=None if r.currency == "-" else r.currency,
        digits=int(r.digits),
        discount_e4=int(r.discount_e4),
        slot=int(r.slot),
        max_uses=int(r.max_uses),
        balance_after_e4=_parse_number(r.balance_after_e4),
        counted_ms=None if r.counted_ms == "-" else parse_ms(r.counted_ms),
        gift=gift,
    )


def _parse_assigned(words: list[str], common: _Common) -> Assigned:
    _, w, b, code, user, at, _, order, _ = words if len(words) > 7 else [*words, "-", ""]
    about = _parse_fact(w, b, code, user, at)
    return Assigned(**common, **about, order=decode_field(order))


def _parse_unassigned(words: list[str], common: _Common) -> Unassigned:
    _, w, b, code, user, at, _, order = words if len(words) > 7 else [*words, "-"]
    return Unassigned(**common, **_parse_fact(w, b, code, user, at), order=decode_field(order))


def _parse_rolled_back(words: list[str], common: _Common) -> RolledBack:
    _, w, b, code, user, order, redemption_id, at, restore, _, _, after_e4 = words
    about = _parse_fact(w, b, code, user, at) | {"order": decode_field(order), "redemption_id": redemption_id}
    if after_e4.startswith("-") and after_e4 != "-":
        raise MalformedEvent("its balance is below zero")
    is_restored = ("0", "1").index(restore) == 1
    return RolledBack(**common, **about, restore=is_restored, balance_after_e4=_parse_number(after_e4))


def _parse_number(text: str) -> int | None:
    return None if text == "-" else int(text)


def _parse_balance_changed(words: list[str], common: _Common) -> BalanceChanged:
    _, w, b, code, kind, amount, after, at, _ = words
    if kind not in ("credited", "closed"):
        raise MalformedEvent("its kind of change is unknown")
    about: dict[str, Any] = {"workspace": int(w), "book": int(b), "code": code, "at_ms": parse_ms(at), "kind": kind}
    return BalanceChanged(**common, **about, amount_e4=int(amount), balance_after_e4=int(after))


def _parse_fact(w: str, b: str, code: str, user: str, at: str) -> dict[str, Any]:
    return {"workspace": int(w), "book": int(b), "code": code, "user": decode_id(user), "at_ms": parse_ms(at)}


def _parse_answered(words: list[str], common: _Common) -> Answered:
    _, w, at = words
    return Answered(**common, workspace=int(w), at_ms=parse_ms(at))


_is_noticed = re.compile(r"codes|uses|budget:[ldm]:\d{1,16}:(?:-|\d{1,15})", re.ASCII).fullmatch


def _parse_notice(words: list[str], common: _Common) -> StockNotice:
    _, w, b, notice, what, left, at = words
    if notice not in ("low", "out") or not _is_noticed(what):
        raise MalformedEvent("its notice is unknown")
    about: dict[str, Any] = {"workspace": int(w), "book": int(b), "notice": notice, "what": what}
    return StockNotice(**common, **about, left=int(left), at_ms=parse_ms(at))


_READERS: dict[str, Callable[[list[str], _Common], Event]] = {
    "A": _parse_assigned,
    "U": _parse_unassigned,
    "B": _parse_rolled_back,
    "C": _parse_balance_changed,
    "K": _parse_answered,
    "S": _parse_notice,
}


def parse_ms(text: str) -> int:
    """A time in milliseconds. Raises MalformedEvent if it is out of range, ValueError if it is not a number."""
    at_ms = int(text)
    if not 0 <= at_ms <= LATEST_MS:
        raise MalformedEvent("its time is out of range")
    return at_ms


def encode_event(event: Event) -> str:
    """The line `d` of the event's entry."""
    match event:
        case Redeemed():
            text = _encode_redeemed(event)
        case Assigned(workspace=w, book=b, code=code, at_ms=at):
            text = f"A {w} {b} {code} {encode_field(event.user)} {at} {bucket(code)}"
            if event.order is not None:
                text += f" {encode_field(event.order)} {bucket(encode_field(event.order))}"
        case Unassigned(workspace=w, book=b, code=code, at_ms=at):
            text = f"U {w} {b} {code} {encode_field(event.user)} {at} {bucket(code)}"
            if event.order is not None:
                text += f" {encode_field(event.order)}"
        case RolledBack(workspace=w, book=b, code=code, at_ms=at):
            user, order = encode_field(event.user), encode_field(event.order)
            text = (
                f"B {w} {b} {code} {user} {order} {event.redemption_id} {at} {int(event.restore)} "
                f"{bucket(code)} {bucket(order)} {_encode_number(event.balance_after_e4)}"
            )
        case BalanceChanged(workspace=w, book=b, code=code, at_ms=at):
            text = f"C {w} {b} {code} {event.kind} {event.amount_e4} {event.balance_after_e4} {at} {bucket(code)}"
        case Answered(workspace=w, at_ms=at):
            text = f"K {w} {at}"
        case StockNotice(workspace=w, book=b, at_ms=at):
            text = f"S {w} {b} {event.notice} {event.what} {event.left} {at}"
        case _:
            text = "O"
    return text


def _encode_redeemed(event: Redeemed) -> str:
    user, order = encode_field(event.user), encode_field(event.order)
    value, after_e4, counted_ms = map(_encode_number, (event.value_e4, event.balance_after_e4, event.counted_ms))
    text = (
        f"R {event.workspace} {event.book} {event.code} {user} {order} {value} {event.currency or '-'} "
        f"{event.digits} {event.discount_e4} {event.at_ms} {event.slot} {bucket(event.code)} {bucket(order)} "
        f"{event.max_uses} {after_e4} {counted_ms} {bucket(user)}"
    )
    if gift := event.gift:
        text += f" {gift.book} {gift.code} {bucket(gift.code)}"
    return text


def _encode_number(number: int | None) -> str:
    return "-" if number is None else str(number)


def parse_record(text: str) -> RedemptionRecord:
    """The inverse of str."""
    return RedemptionRecord(*text.split(" ", _RECORD_WORDS - 1))


def record_text(redeemed: Redeemed) -> str:
    """The text of its RedemptionRecord, without the gift."""
    alone = msgspec.structs.replace(redeemed, gift=None)
    return f"{redeemed.id} {encode_event(alone)} {encode_request(redeemed.request).decode()}"


def encode_request(request: RequestPart) -> bytes:
    """The line `r` of an entry."""
    return msgspec.json.encode(request)


def entry_digest(entry_id: bytes, *fields: bytes) -> bytes:
    """A digest of an entry: its id and the values of its fields, in order."""
    digest = hashlib.blake2b(entry_id, digest_size=16)
    for field in fields:
        digest.update(b" %d " % len(field))
        digest.update(field)
    return digest.digest()
