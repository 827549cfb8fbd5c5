"""What Lua's includes write, the modules of service/formats read, and the other way round; on a real server."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest
import redis
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from service.engine.domain.budgets import BudgetRow, UseLimit
from service.engine.domain.configuration import WorkspaceRow
from service.engine.domain.field_types import encode_field
from service.engine.domain.money import from_e4
from service.engine.formats import (
    bounds,
    card_account,
    discount_sum,
    event_id,
    events,
    idempotency_entry,
    key_names,
    stored_settings,
)
from service.engine.formats.coupon_record import IDLE, UNLOCKED, CouponRecord
from service.engine.formats.directory_entry import (
    FREE,
    FREE_WITH_RECORD,
    NOT_FREE,
    DirectoryEntry,
    parse_directory_entry,
)
from service.engine.formats.event_id import EventId
from service.engine.formats.events import parse_record, record_text
from service.engine.formats.order_entries import Gift, Place, parse_gift, parse_places
from service.engine.formats.redemption_id import event_id_of, id_from_numbers
from service.engine.formats.script_replies import COUPON_VIEW
from service.engine.hot import scripts
from service.engine.hot.fitness import ENTRY_BYTES
from service.engine.operations.coupon_view import Balance, parse_balance
from tests.harness.redemptions import redemption_record
from tests.lua.lock_record import LockRecord, parse_lock, parse_lock_of_several
from tests.unit.test_books import make
from tests.unit.test_events import CALLERS, CODE, KINDS, MONEY, REDEEMED, SOME, TIME

NAMES = st.from_regex(r"[!-,.-~]{1,40}", fullmatch=True).filter(lambda text: "/" not in text)
EVENTS = st.builds(EventId, st.integers(1, 2**26 - 1), st.integers(1, 2**48 - 1))
TEXT_OR_NONE = st.just("-") | NAMES
NUMBER = st.integers(1, 2**31 - 1)
LOCKS = st.builds(
    LockRecord,
    NAMES,
    NAMES,
    TEXT_OR_NONE,
    TIME.map(str),
    TIME.map(str),
    TIME.map(str),
    st.sampled_from([".", "u.", "ub.A1"]),
    st.sampled_from(["", "1200000:USD:2:240000:k:-", "1:KWD:3:0:u:2:2:100,1:1:9"]),
)
LIMIT = st.none() | NUMBER
W = key_names.prefix(0, 1)


class Lua:
    """Runs a text after some includes, as a script of the workspace's, on a real server."""

    def __init__(self, client: redis.Redis) -> None:
        self.client = client

    def run(self, includes: str, text: str, *args: Any) -> Any:
        source = scripts._expand(f"-- @include gate {includes}\n{text}")
        whole = scripts.HEAD.format("'nonce', nil, ' open', 64")
        whole += scripts._outcome.sub("0", scripts._without_unused(source))
        names = (key_names.gate(0), key_names.settings(W))
        return self.client.eval(whole, len(names), *names, *args, 7)


@pytest.fixture(scope="module")
def lua(valkey_for_scripts: str) -> Iterator[Lua]:
    with redis.Redis.from_url(valkey_for_scripts, decode_responses=True) as client:
        client.flushdb()
        yield Lua(client)


ALL = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.mark.parametrize("written", KINDS)
@settings(ALL, max_examples=10)
@given(data=st.data())
def test_events_that_python_writes(lua: Lua, written: "st.SearchStrategy[events.Event]", data: st.DataObject) -> None:
    """What recovery hands to `redo` is read with the same fields; what it isn't handed, not at all."""
    event = data.draw(written)
    d = events.encode_event(event)
    text = """local found = { read_redeemed(ARGV[1]) }
    if found[1] then return { 'R', unpack(found) } end
    found = { read_fact(ARGV[1]) }
    local more = {}
    if found[1] == 'A' then more = { read_assigned(ARGV[1]) }
    elseif found[1] == 'U' then more = { read_unassigned(ARGV[1]) }
    elseif found[1] == 'B' then more = { read_rolled_back(ARGV[1]) }
    elseif found[1] == 'C' then more = { read_balance(ARGV[1]) } end
    for i = 1, #more do found[#found + 1] = more[i] end
    return found"""
    fields = lua.run("events", text, d)
    if not isinstance(event, events.Fact):
        assert fields == []
        return
    bucket = key_names.bucket
    at, code, order = event.at_ms, bucket(event.code), encode_field(getattr(event, "order", None))
    if isinstance(event, events.Redeemed):
        assert fields == d.split(" ")
        return
    more = {
        "A": [at, order, bucket(order)] if order != "-" else [at, "", ""],
        "U": [at],
        "B": [order, at, int(getattr(event, "restore", 0)), bucket(order)],
        "C": [getattr(event, "amount_e4", 0), at],
    }[d[0]]
    who = event.kind if isinstance(event, events.BalanceChanged) else encode_field(event.user)
    expected = [d[0], event.workspace, event.book, event.code, who, code, *more]
    assert fields == [str(each) for each in expected]


@ALL
@given(
    CODE, CALLERS, st.none() | CALLERS, TIME, MONEY, st.integers(0, 4), NUMBER, EVENTS, st.booleans(), st.none() | MONEY
)
def test_events_that_lua_writes(
    lua: Lua,
    code: str,
    user: str,
    order: str | None,
    at: int,
    value: int,
    digits: int,
    book: int,
    event: EventId,
    yes: bool,
    left: int | None,
) -> None:
    """Every kind is read with the fields that it was written of, a checkout's gift and a redemption's id among them."""
    text = """local code, user, order, at, value, digits, number, event, restore = unpack(ARGV)
    local c, book = { code = code, bucket = ARGV[10], user = user }, { number = number }
    local gift = order ~= '-' and { order = order, bucket = ARGV[11] } or nil
    local ask = { user = user, order = order, value = value, its_currency = 'USD', its_digits = digits, saved_e4 = 0,
      order_bucket = ARGV[11], user_bucket = ARGV[12], left = tonumber(ARGV[13]) }
    if ask.left then book.discount = 'balance' end
    local decided = redeemed_event(c, book, 3, ask, at)
    local e = { event = event, at = at, workspace = '1', book = number, code = code, user = user,
      order = order, bucket = ARGV[10], order_bucket = ARGV[11], balance_after = ask.balance_after }
    return { assigned_event(c, book, user, at, gift), unassigned_event(c, book, at, gift and order), decided,
      rolled_back_event(e, at, restore == '1'), answered_event(at),
      balance_event(c, book, restore == '1' and 'credited' or 'closed', tonumber(value), ask.left or 0, at),
      id_of(e) }"""
    buckets = [key_names.bucket(text) for text in (code, encode_field(order), encode_field(user))]
    args = (
        code,
        encode_field(user),
        encode_field(order),
        at,
        value,
        digits,
        book,
        str(event),
        int(yes),
        *buckets,
        "-" if left is None else left,
    )
    *texts, own_id = lua.run("outbox events redemption", text, *args)
    assigned, unassigned, redeemed, rolled_back, answered, changed = (
        events.parse(*event, d.encode(), b"{}") for d in texts
    )
    about: dict[str, Any] = {"epoch": event.epoch, "seq": event.seq, "workspace": 1, "at_ms": at}
    fact = about | {"book": book, "code": code, "user": user}
    assert assigned == events.Assigned(**fact, order=order)
    assert unassigned == events.Unassigned(**fact, order=order)
    assert redeemed == events.Redeemed(
        **fact, order=order, value_e4=value, currency="USD", digits=digits, discount_e4=0,
        slot=0 if order is None else 1, max_uses=3, balance_after_e4=left,
    )  # fmt: skip
    back = events.RolledBack(**fact, order=order, redemption_id=own_id, restore=yes, balance_after_e4=left)
    assert rolled_back == back
    assert changed == events.BalanceChanged(
        **fact | {"user": ""}, kind="credited" if yes else "closed", amount_e4=value, balance_after_e4=left or 0
    )
    assert answered == events.Answered(**about)
    assert own_id == id_from_numbers(event.epoch, event.seq, at)
    assert event_id_of(UUID(own_id)) == event
    again = events.parse(*event, f"{texts[2]} 4 GIFT-1 5".encode(), b"{}")
    assert again == msgspec.structs.replace(
        redeemed, gift=events.Assigned(**fact | {"book": 4, "code": "GIFT-1"}, order=order)
    )


@ALL
@given(EVENTS, st.sampled_from(["low", "out"]), st.sampled_from(["codes", "uses"]), NUMBER)
def test_stock_notices(lua: Lua, event: EventId, notice: str, what: str, left: int) -> None:
    """A notice comes to the outbox with the words that it was made of."""
    text = """local decision
    append = function(_, decided) decision = decided end
    local low = ARGV[3] + 1
    if ARGV[1] == 'out' then low, ARGV[3] = nil, '0' end
    cross('outbox', '3', 5, ARGV[2], tonumber(ARGV[3]), 1, low)
    return decision"""
    d = lua.run("outbox crossing", text, notice, what, left)
    expected = events.StockNotice(
        epoch=event.epoch, seq=event.seq, workspace=1, book=3, notice=notice, what=what,  # type: ignore[arg-type]
        left=left if notice == "low" else 0, at_ms=5,
    )  # fmt: skip
    assert events.parse(*event, d.encode(), b"{}") == expected


@ALL
@given(REDEEMED)
def test_redemption_records(lua: Lua, event: events.Redeemed) -> None:
    """A record that Postgres answers with is read by scripts with the same fields."""
    text = """local e = read_record(ARGV[1])
    return { e.event, e.workspace, e.book, e.code, e.user, e.order, e.discount, e.at, e.slot, e.bucket,
      e.order_bucket, e.user_bucket, e.record }"""
    record = record_text(event)
    parsed = parse_record(record)
    assert str(parsed) == record
    assert lua.run("facts", text, record) == [
        parsed.event, parsed.workspace, parsed.book, parsed.code, parsed.user, parsed.order,
        parsed.discount_e4, parsed.at_ms, parsed.slot, parsed.code_bucket, parsed.order_bucket,
        parsed.user_bucket, record,
    ]  # fmt: skip
    assert (parsed.event, parsed.code, parsed.user) == (str(event.id), event.code, encode_field(event.user))
    assert msgspec.json.decode(parsed.request, type=events.RequestPart) == event.request


@ALL
@given(EVENTS, st.none() | EVENTS)
@example(EventId(7, 9), EventId(7, 10))
@example(EventId(7, 10), EventId(7, 10))
@example(EventId(9, 11), EventId(10, 10))
@example(EventId(7, 11), EventId(7, 10))
def test_what_may_name_a_deleted_user(lua: Lua, event: EventId, erased: EventId | None) -> None:
    """An event up to the last deletion of users may name one of them, and no later one does."""
    text = "erased = ARGV[3] return names_erased(ARGV[1], ARGV[2]) and 1 or 0"
    names = lua.run("facts", text, *event, f"3/{erased}" if erased else "")
    assert names == (erased is not None and event <= erased)


@ALL
@given(SOME, TEXT_OR_NONE, TIME, SOME, LIMIT, st.sampled_from("-123"), LIMIT, st.none() | EVENTS, st.none() | LOCKS)
@example(0, "-", 0, 1, 1, "-", None, EventId(7, 9), None)
@example(0, "-", 0, 0, None, "-", None, None, None)
@example(5, "-", 0, 1, 1, "-", None, EventId(7, 9), None)
@example(0, "-", 0, 1, 1, "-", 5, EventId(7, 9), None)
@example(0, "-", 0, 1, 1, "-", None, EventId(7, 9), LockRecord("t", "ann", "-", "5", "9", "1", "."))
@example(0, "-", 0, 0, 1, "-", None, None, LockRecord("t", "ann", "-", "5", "9", "1", "."))
@example(0, "-", 0, 0, 1, "-", None, None, LockRecord("t", "ann" * 20, "-", "5", "9", "1", "."))
@example(0, "-", 0, 0, 1, "-", None, None, None)
def test_coupons(
    lua: Lua, version: int, user: str, at: int, uses: int, limit: int | None, off: str, ends: int | None,
    last: EventId | None, lock: LockRecord | None,
) -> None:  # fmt: skip
    """A coupon that Lua saves is in directory and record as Python reads them; and Lua reads it again as it was."""
    text = """local key = W .. 'c:CODE-1'
    redis.call('SET', key, ARGV[1])
    local c = read_coupon('CODE-1', '7', '3+', key)
    redis.call('DEL', key)
    c.text = nil
    save_coupon(c, '3', ARGV[2] == '1')
    local entry, text = redis.call('HGET', W .. 'd:7', 'CODE-1') or '3+', redis.call('GET', key)
    local again = read_coupon('CODE-1', '7', entry, key)
    redis.call('DEL', W .. 'd:7', key)
    local free = next(count_free({ entry }, 1, 1)) or ''
    return { entry, text or '', (record_text(again)) or '', book_number_of(entry), free }"""
    record = CouponRecord(
        str(version), user, "-" if user == "-" else str(at), str(uses), "-" if limit is None else str(limit), off,
        "-" if ends is None else str(ends), "-" if last is None else str(last), str(lock or UNLOCKED),
    )  # fmt: skip
    is_free = user == off == "-" and lock is None and ends is None and not (limit == 1 and last)
    entry, stored, again, book, free = lua.run("coupon counters place free", text, str(record), int(is_free))
    parsed = parse_directory_entry(entry)
    assert parsed is not None
    assert (str(parsed), parsed.book, parsed.is_free) == (entry, book, free == book)
    assert parsed.record(stored or None) == record
    used_up, locked = IDLE._replace(uses="1", max_uses="1", last=str(last)), IDLE._replace(max_uses="1", lock=str(lock))
    says_all = record == used_up or (record == locked and len(f"3!{lock}") <= ENTRY_BYTES)
    if says_all:
        assert parsed == DirectoryEntry("3", NOT_FREE, str(lock or last))
    else:
        assert parsed == DirectoryEntry("3", NOT_FREE if not is_free else FREE if record == IDLE else FREE_WITH_RECORD)
    assert stored == ("" if says_all or record == IDLE else str(record))
    assert again == ("" if record == IDLE else str(record))
    assert record.lock == UNLOCKED or parse_lock(record.lock) == lock


@ALL
@given(LOCKS)
def test_locks_of_a_code_with_several_uses(lua: Lua, lock: LockRecord) -> None:
    """Lua stores a lock by its holder and by its token, and Python reads the same of both; as Lua does."""
    text = """local token, user, order, _, deadline, started, counted, hold =
      string.match(ARGV[1], string.rep('(%S+) ', 6) .. '(%S+) ?(%S*)$')
    local c, book = { code = 'CODE-1' }, { number = '3' }
    local l = { token = token, user = user, order = order, ends = deadline, started = started, counted = counted,
      hold = hold ~= '' and hold or nil }
    put_lock(c, 3, l, book, 0)
    local fields = redis.call('HGETALL', W .. 'k:CODE-1')
    l = lock_by_token(c, 3, token, -1)
    redis.call('FLUSHDB')
    return { fields, { l.token, l.user, l.order, '', whole(l.deadline), l.started, l.counted, l.hold or '' } }"""
    flat, again = lua.run("coupon counters locks locking", text, str(lock))
    fields = dict(zip(flat[::2], flat[1::2], strict=True))
    assert fields == {lock.holder: lock.of_holder, f"={lock.token}": lock.holder}
    assert (
        parse_lock_of_several(lock.holder, fields[lock.holder]) == LockRecord(*again) == lock._replace(order_bucket="")
    )


@ALL
@given(
    st.lists(st.tuples(EVENTS, st.booleans()), min_size=1, max_size=6, unique_by=lambda each: each[0]), st.booleans()
)
def test_orders(lua: Lua, made: list[tuple[EventId, bool]], restore: bool) -> None:
    """Places that Lua takes and gives back are those that Python reads."""
    text = """local entry, list = ARGV[1] ~= '' and ARGV[1] or nil, {}
    if ARGV[2] ~= '' then entry = without_place(entry, ARGV[2], ARGV[3] == '1') end
    for _, p in ipairs(places(entry)) do list[#list + 1] = { p.event, p.nth, p.kept and 1 or 0 } end
    return { entry or '', list }"""
    expected = [Place(event, slot, kept) for slot, (event, kept) in enumerate(made, 1)]
    words = [f"{event}{f':{slot}' if slot > 1 else ''}{'!' if kept else ''}" for event, slot, kept in expected]
    gone = next((place for place in expected if not place.kept), None)
    entry, listed = lua.run("orders", text, " ".join(words), str(gone.event) if gone else "", int(restore))
    left = [place for place in expected if place != gone or not restore]
    left = [place._replace(kept=True) if place == gone else place for place in left]
    assert (
        parse_places(entry) == left == [Place(event_id.parse_event_id(e), nth, bool(kept)) for e, nth, kept in listed]
    )
    text = "return { without_place('7-10 8-2:2', '7-1', true), without_place('7-10 7-1:2!', '7-10', true) }"
    assert lua.run("orders", text) == ["7-10 8-2:2", "7-1:2!"]


@ALL
@given(CODE, CALLERS, TIME)
def test_gifts(lua: Lua, code: str, user: str, at: int) -> None:
    """A gift that Lua writes is read with its words."""
    bucket = str(key_names.bucket(code))
    gift_entry = lua.run("book coupon gifts", "return gift_text(unpack(ARGV))", code, bucket, encode_field(user), at)
    assert parse_gift(gift_entry) == Gift(code, bucket, encode_field(user), str(at))
    assert str(parse_gift(gift_entry)) == gift_entry


@ALL
@given(st.text("0123456789abcdef", min_size=8, max_size=32), st.sampled_from(["0", "1", "c"]), NAMES, EVENTS)
def test_idempotency_entries(lua: Lua, fingerprint: str, outcome: str, payload: str, event: EventId) -> None:
    """Both read the parts that an entry was made of; '@.' becomes the event; a claim and an answer are recognized."""
    text = """local entry = entry_of(ARGV[1], ARGV[2], ARGV[3])
    local reply = replay(entry, ARGV[1], 0)
    return { entry, is_claimed(entry) and 1 or 0, is_claimed(entry, 'other') and 1 or 0,
      is_counted_entry(entry) and 1 or 0, reply and #reply or 0, reply and reply[2] or '' }"""
    payload = "9" if outcome == "c" else payload
    entry, claimed, others, counted, size, replayed = lua.run("idempotency", text, fingerprint, outcome, payload)
    assert idempotency_entry.parse_entry(entry) == (fingerprint, outcome, payload)
    assert (claimed, others, counted) == (int(outcome == "c"), 0, 0)
    assert (size, replayed) == ((1, "") if outcome == "c" else (4, payload))
    named = f"{fingerprint} 0 @. 2 -"
    assert idempotency_entry.with_event(named, event) == f"{fingerprint} 0 @{event} 2 -"
    answer = idempotency_entry.answer_payload(201, b'{"a":1}', "/v1/books")
    assert lua.run("idempotency", "return is_counted_entry(ARGV[1]) and 1 or 0", f"{fingerprint} 0 {answer}") == 1
    assert idempotency_entry.parse_answer(answer) == (201, b'{"a":1}', "/v1/books")


@ALL
@given(
    LIMIT, LIMIT, LIMIT, LIMIT, LIMIT, st.booleans(), st.booleans(), st.sampled_from(["active", "inactive", "archived"])
)
def test_settings_of_books(
    lua: Lua, per_code: int | None, per_user: int | None, total: int | None, till: int | None, low: int | None,
    assigned: bool, locked: bool, status: str,
) -> None:  # fmt: skip
    """Each setting that Python writes comes to the field that scripts read it from."""
    row = msgspec.structs.replace(
        make(discount={"type": "fixed", "value": 5, "currency": "USD"}), max_redemptions_per_code=per_code,
        max_redemptions_per_user=per_user, max_redemptions=total, valid_until_ms=till, low_stock_threshold=low,
        require_assignment=assigned, require_lock=locked, status=status, public_reasons=locked,
    )  # fmt: skip
    text = """local b = read_book('1', ARGV[1])
    local function text(value) return value == nil and '-' or tostring(value) end
    return { b.id, text(not b.status), text(b.per_code), text(b.per_user), text(b.total), text(b.till), text(b.low),
      text(b.require_assignment ~= nil), text(b.require_lock), b.lock_ms, b.max_lock_ms, b.discount, b.discount_terms,
      b.currency, b.digits, text(b.public_reasons ~= nil), text(is_whole_book(b) and true) }"""
    fields = lua.run("book", text, f"{row.version} {stored_settings.book_settings(row)}")
    numbers = ["-" if each is None else str(each) for each in (per_code, per_user, total, till, low)]
    flags = [str(each).lower() for each in (assigned, locked)]
    assert fields[:9] == [str(row.book_id), str(status == "active").lower(), *numbers, *flags]
    assert fields[9:] == [
        str(row.lock_seconds * 1000), str(row.max_lock_seconds * 1000), "fixed", "50000", "USD", "2", flags[1], "true",
    ]  # fmt: skip
    assert lua.run("book", "return read_book('1', ARGV[1]).status", "1 of another form") == "unreadable"
    of_closed = stored_settings.closed_book_settings(row.book_id)
    closed = lua.run("book", text, f"1 {of_closed}")
    assert closed[:2] == [str(row.book_id), "false"]
    assert lua.run("book", "return is_whole_book(read_book('1', ARGV[1])) and 1 or 0", f"1 {of_closed}") == 1


@ALL
@given(NUMBER, LIMIT, st.integers(1, 720), st.none() | st.uuids(), st.integers(-(10**9), 10**9))
def test_settings_of_workspaces(
    lua: Lua, per_order: int, cap: int | None, hours: int, gift: UUID | None, offset: int
) -> None:
    """The same of a workspace."""
    row = WorkspaceRow(
        workspace_id=UUID(int=1), workspace=1, partition=0, coupons_per_order=per_order, currency="USD", digits=2,
        max_coupons=cap, idempotency_hours=hours, gift_book_id=gift, clock_offset_ms=offset,
        version=3, name="", mode="test",
    )  # fmt: skip
    text = """local w = read_workspace(ARGV[1])
    return { w.per_order, w.currency, w.digits, w.max_coupons and whole(w.max_coupons) or '-', w.keep_ms,
      w.gift_book or '-', whole(w.offset_ms), is_whole_workspace(ARGV[1]) and 1 or 0 }"""
    fields = lua.run("book", text, f"3 {stored_settings.workspace_settings(row)}")
    numbers = [str(hours * 3_600_000), str(gift or "-"), str(offset)]
    assert fields == [str(per_order), "USD", "2", "-" if cap is None else str(cap), *numbers, 1]


BOUNDS = st.builds(
    BudgetRow, MONEY.map(lambda e4: e4 or 1), st.sampled_from(["book", "user"]), st.sampled_from(["lifetime", "day"])
)
USE_LIMITS = st.builds(UseLimit, NUMBER, st.sampled_from(["book", "user"]), st.sampled_from(["day", "month"]))


@ALL
@given(st.lists(BOUNDS, max_size=4), st.lists(USE_LIMITS, min_size=1, max_size=4), NUMBER, st.booleans(), LIMIT)
def test_budgets_in_settings(
    lua: Lua, budgets: list[BudgetRow], limits: list[UseLimit], generation: int, counted: bool, total: int | None
) -> None:
    """Budgets and limits of uses come with each of their fields to the scripts, and the total stays what it is."""
    row = msgspec.structs.replace(
        make(), max_redemptions=total, budgets=tuple(budgets), use_limits=tuple(limits), counted_from=generation,
        is_counted=counted, time_zone="Europe/Berlin",
    )  # fmt: skip
    text = """local book = read_book('1', ARGV[1])
    local bounds, list = bounds_of(book), {}
    for i, one in ipairs(bounds.list) do list[i] = one.what .. one.whose .. one.period .. ' ' .. whole(one.most) end
    return { book.total and whole(book.total) or '-', bounds.generation, bounds.is_sealed and 1 or 0, bounds.zone,
      bounds.of_users and 1 or 0, is_whole_book(book) and 1 or 0, list }"""
    *fields, listed = lua.run("book budgets", text, f"3 {stored_settings.book_settings(row)}")
    of_users = int(any(bound.per == "user" for bound in row.bounds))
    assert fields == [str(total or "-"), str(generation), int(counted), stored_settings.zone_of(row), of_users, 1]
    assert listed == [
        *(f"a{one.per[0]}{one.period[0]} {one.amount_e4}" for one in budgets),
        *(f"u{one.per[0]}{one.period[0]} {one.uses}" for one in limits),
    ]


@ALL
@given(st.lists(st.integers(-(10**15), 10**15), min_size=1, max_size=3), NUMBER)
def test_what_users_have_spent(lua: Lua, amounts_e4: list[int], generation: int) -> None:
    """What scripts add to a user's bucket is read by its periods, the last two days; nothing of another generation."""
    text = """for i = 2, #ARGV do
      add_user_spent('3', 'ann', '7', ARGV[1], function(add_to)
        add_to('l', ARGV[i] + 0, 1)
        add_to('d' .. whole(i), ARGV[i] + 0, 1)
      end)
    end
    local found = redis.call('HGET', W .. 'o:7', '3/ann/')
    redis.call('DEL', W .. 'o:7')
    return found"""
    found = bounds.parse_spent(lua.run("counters budgets", text, generation, *amounts_e4), generation)
    days = {f"d{number}": bounds.Spent(amount, 1) for number, amount in enumerate(amounts_e4, 2)}
    assert found == {"l": bounds.Spent(sum(amounts_e4), len(amounts_e4))} | dict(list(days.items())[-2:])
    assert bounds.parse_spent(f"{generation} l:1:1", generation + 1) == {}


@ALL
@given(st.sampled_from(["", "!1", "!2"]), st.sampled_from(["", "!1", "!2"]), st.integers(-(10**9), 10**9))
def test_marks_of_full_workspaces(lua: Lua, mark: str, new_mark: str, offset: int) -> None:
    """A mark in a workspace's settings changes neither what scripts read of them nor what a comparison expects."""
    plain = f"3 -rxs7 1 USD 2 - 3600000 - {offset} limits=-/2/-"
    text = """local text = marked(ARGV[1], ARGV[2])
    local w = read_workspace(text)
    return { text, mark_of(text), w.full or '-', whole(w.offset_ms), is_whole_workspace(text) and 1 or 0 }"""
    stored, read, full, offset_ms, _ = lua.run("book", text, plain, mark)
    assert (read, full, offset_ms) == (mark, mark[1:] or "-", str(offset))
    assert stored_settings.without_mark(stored) == plain


@ALL
@given(st.lists(st.integers(-(10**15) + 1, 10**15 - 1).filter(bool), min_size=1, max_size=5))
def test_sums_of_discounts(lua: Lua, amounts_e4: list[int]) -> None:
    """The parts that scripts add to a book's two counters are those that a comparison's repair adds."""
    text = """local parts, key = {}, W .. 'n:1'
    for _, amount in ipairs(ARGV) do
      redis.call('DEL', key)
      count_discount('1', amount)
      parts[#parts + 1] = redis.call('HGET', key, 'discount') or '0'
      parts[#parts + 1] = redis.call('HGET', key, 'discountHigh') or '0'
    end
    return parts"""
    parts = [int(part) for part in lua.run("counters discount_sum", text, *map(str, amounts_e4))]
    for amount_e4, low, high in zip(amounts_e4, parts[::2], parts[1::2], strict=True):
        assert discount_sum.join_sum(low, high) == amount_e4
        expected = discount_sum.split_into(discount_sum.LOW, amount_e4)
        assert (low, high) == (expected.get(discount_sum.LOW, 0), expected.get(discount_sum.HIGH, 0))


@ALL
@given(CODE, CALLERS, LOCKS.filter(lambda lock: int(lock.deadline) > 0), EVENTS)
def test_views(lua: Lua, code: str, user: str, lock: LockRecord, last: EventId) -> None:
    """A view's words are those that service/engine/formats/script_replies.py names."""
    text = """facts_from = 6
    local c = { code = ARGV[2], bucket = '7', uses = 0, max = 1, assigned_at = '5', user = ARGV[3], last = ARGV[1],
      lock = { user = ARGV[4], order = ARGV[5], deadline = tonumber(ARGV[6]), ends = ARGV[6] } }
    return view(c, { id = 'book', till = 9 }, 0)"""
    facts = ("nonce:7/", str(last), redemption_record(event=str(last), user="bob", at_ms="77"))
    args = (str(last), code, encode_field(user), lock.user, lock.order, lock.deadline, *facts)
    fields = dict(zip(COUPON_VIEW, lua.run("book coupon locks view", text, *args).split(" "), strict=True))
    assert fields == {
        "book_id": "book", "code": code, "status": "locked", "uses": "0", "max_uses": "1", "user": encode_field(user),
        "assigned_at": "5", "ends_at": "9", "lock_user": lock.user, "lock_order": lock.order,
        "lock_until": lock.deadline, "last_event": str(last), "last_user": "bob", "last_order": "A-1", "last_at": "77",
    }  # fmt: skip


@ALL
@given(st.lists(MONEY, min_size=5, max_size=5), LOCKS)
def test_accounts(lua: Lua, amounts_e4: list[int], lock: LockRecord) -> None:
    """A card's account, what a lock holds of it, and a view's last word."""
    account = card_account.CardAccount(*amounts_e4)
    text = """redis.call('HSET', W .. 'm:7', 'CARD-1', ARGV[1])
    local c, book = { code = 'CARD-1', bucket = '7' }, { number = '1', discount = 'balance', digits = '2' }
    local account = account_of(c)
    local held = held_by(ARGV[2]) + held_by_stored(ARGV[3])
    local all = { whole(funds_of(account)), whole(held), view_of_account(c, book, 7, 3) }
    account.held = account.held + 1
    save_account(c, book)
    all[4] = redis.call('HGET', W .. 'm:7', 'CARD-1')
    return all"""
    args = (str(account), lock.hold, lock.of_holder)
    funds, held, view, saved = lua.run("coupon counters discount_sum cards", text, *args)
    assert (int(funds), int(held)) == (account.funds_e4, 2 * card_account.held_by(lock.hold))
    assert card_account.parse_account(saved) == account._replace(held_e4=account.held_e4 + 1)
    issued, credited, spent, closed, _ = map(from_e4, account, [2] * 5)
    assert parse_balance(view) == Balance(issued, credited, spent, from_e4(3, 2), closed, from_e4(4, 2))


def test_every_format_is_tested() -> None:
    """Each module of a format that scripts read or write is used by this file."""
    text = Path(__file__).read_text()
    modules = {path.stem for path in Path(events.__file__).parent.glob("*.py")}
    # Python alone writes and reads these; the scripts compare the gate and the mark and return them as they are.
    others = "__init__ batch_answers change_results coupon_state gate_text recovery_progress".split()
    assert {module for module in modules if module not in text} <= {*others, "page_cursors", "quarantined_event"}
