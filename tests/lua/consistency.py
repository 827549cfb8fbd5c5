"""All that Redis counts, counted again from what it counts: directory, coupons, locks, and the redemptions of the
outbox. Written from architecture.md, not from the scripts; runs at the end of every test of the scripts."""

import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from service.engine.domain.field_types import encode_field
from service.engine.formats import key_names
from service.engine.formats.bounds import Spent, parse_spent, spans_at
from service.engine.formats.card_account import SUMS, CardAccount, held_by, parse_account
from service.engine.formats.coupon_record import IDLE, UNLOCKED
from service.engine.formats.directory_entry import (
    FREE,
    FREE_WITH_RECORD,
    NOT_FREE,
    DirectoryEntry,
    parse_directory_entry,
)
from service.engine.formats.discount_sum import join_sum
from service.engine.formats.events import Assigned, Redeemed
from service.engine.formats.order_entries import Gift, Place, parse_places, split_marks
from service.engine.hot.fitness import ENTRY_BYTES
from tests.harness.shop import Shop
from tests.harness.stored_book import parse_settings
from tests.lua.lock_record import LockRecord, parse_lock, parse_lock_of_several
from tests.lua.outbox import Outbox, read_outbox

_NONE = "-"


class Book(NamedTuple):
    """The settings of a book on which the counts depend."""

    number: str
    id: str
    per_code: int | None
    per_user: int | None
    total: int | None
    bounds: str = ""
    """Its budgets and limits of uses, as in its settings; '' for none."""
    is_of_cards: bool = False


class Redemption(NamedTuple):
    """A redemption of the outbox; `restored` is None while it stands."""

    event: Redeemed
    user: str
    restored: bool | None

    @property
    def book(self) -> str:
        return str(self.event.book)

    @property
    def rank(self) -> int:
        """The score among a code's standing redemptions."""
        return self.event.epoch * 16 + len(str(self.event.seq))

    @property
    def stands(self) -> bool:
        return self.restored is None

    @property
    def is_taken(self) -> bool:
        """Whether its use is still spent."""
        return not self.restored


@dataclass
class Coupon:
    """A coupon's record, or the directory's entry instead of one, with its locks wherever they are stored."""

    code: str
    book: Book
    entry: DirectoryEntry
    text: str | None
    locks: list[LockRecord] = field(default_factory=list)
    account: CardAccount | None = None
    """Of a card."""

    def __post_init__(self) -> None:
        assert self.entry.has_record == bool(self.text), self.code
        record = self.entry.record(self.text)
        assert record, self.text
        self.record, self.user, self.last = record, record.user, record.last
        self.uses, self.is_off = int(record.uses), record.off != _NONE
        self.expires_at = None if record.expires_at == _NONE else int(record.expires_at)
        self.is_touched = record.max_uses != _NONE
        self.max = int(record.max_uses) or None if self.is_touched else self.book.per_code
        self.single_locks = [] if record.lock == UNLOCKED else [parse_lock(record.lock)]
        self.locks += self.single_locks

    @property
    def is_used_up(self) -> bool:
        if self.account:
            return self.account.funds_e4 == 0
        return self.max is not None and self.uses >= self.max

    @property
    def counter(self) -> str:
        """The counter of the book that counts it."""
        if self.is_used_up:
            return "redeemed" if self.max == 1 else "exhausted"
        if self.is_off:
            return "inactive"
        return "available" if self.user == _NONE else "assigned"

    @property
    def place(self) -> tuple[str, int] | None:
        """The set that it is in, with its score."""
        if self.is_used_up or self.is_off:
            return None
        is_free = self.user == _NONE
        if not self.locks:
            if not is_free:
                return None
            return ("pool", 0) if self.expires_at is None else ("x", self.expires_at)
        deadlines = sorted(int(lock.deadline) for lock in self.locks)
        if self.account:
            is_held = self.account.held_e4 >= self.account.funds_e4
            return (("u" if is_free else "a") if is_held else ("p" if is_free else "o"), deadlines[0])
        if self.max is not None and self.uses + len(self.locks) >= self.max:
            return ("u" if is_free else "a", deadlines[0])
        return ("p" if is_free else "o", deadlines[-1])


class Held:
    """One workspace's part of a Redis, parsed."""

    def __init__(self, everything: dict[str, Any], prefix: str, outbox: Outbox, pseudonyms: Mapping[str, str]) -> None:
        """`pseudonyms` has those of users that were deleted since, by the redemption's event."""
        self.prefix = prefix
        self.mine = {name[len(prefix) :]: value for name, value in everything.items() if name.startswith(prefix)}
        self.books: dict[str, Book] = {}
        for number, text in self.under("b:").items():
            settings = {"per_code": "1", "total": _NONE, "bounds": ""} | parse_settings(text)
            limits = (settings["per_code"], settings["per_user"], settings["total"])
            per_code, per_user, total = (None if each == _NONE else int(each) for each in limits)
            is_card = settings["discount"] == "balance"
            self.books[number] = Book(number, settings["id"], per_code, per_user, total, settings["bounds"], is_card)
        self.coupons: dict[str, Coupon] = {}
        for bucket, codes in self.under("d:").items():
            for code, text in codes.items():
                entry = parse_directory_entry(text)
                assert entry
                assert _bucket(code) == bucket
                self.coupons[code] = Coupon(code, self.books[entry.book], entry, self.mine.get(f"c:{code}"))
        for code, stored in self.under("k:").items():
            self.coupons[code].locks += _locks_of_several(stored)
        self.accounts = {code: text for codes in self.under("m:").values() for code, text in codes.items()}
        for code, text in self.accounts.items():
            self.coupons[code].account = parse_account(text)
        self.redemptions = [
            Redemption(event, pseudonyms.get(name, encode_field(event.user)), outbox.rolled_back.get(name))
            for name, event in outbox.redeemed.items()
        ]

    def under(self, start: str) -> dict[str, Any]:
        """What the keys that begin so hold, by the rest of their names."""
        return {name[len(start) :]: value for name, value in self.mine.items() if name.startswith(start)}


def _locks_of_several(stored: dict[str, str]) -> list[LockRecord]:
    """The locks of a code with several uses; each has an entry by holder and one by token. What their large prices take
    is summed."""
    tokens = {name[1:]: text for name, text in stored.items() if name.startswith("=") and " " not in name}
    locks = [parse_lock_of_several(name, text) for name, text in stored.items() if " " in name]
    assert int(stored.get("+", 0)) == sum(_large(lock) for lock in locks)
    assert ("+" in stored) == any(map(_large, locks))
    assert tokens == {lock.token: lock.holder for lock in locks}
    return locks


def _large(lock: LockRecord) -> int:
    """What its price takes of the memory beyond a usual lock's."""
    return len(lock.hold) if len(lock.hold) > 128 else 0


async def assert_consistent(shop: Shop) -> None:
    """Compare all of the shop's counters, sets and records with what they should be."""
    everything = await shop.everything()
    outbox = read_outbox(await shop.read_outbox_entries(), is_erased=shop.erased)
    held = Held(everything, shop.caller.prefix, outbox, shop.pseudonyms)
    now = await shop.now()
    _check_names(everything, held)
    _check_records(held, outbox)
    _check_pools(held)
    _check_locks(held, now)
    _check_accounts(held, outbox, now)
    _check_counters(held)
    _check_users(held)
    _check_orders(held)
    _check_budgets(held, now, has_all_shares=not shop.limits_changed)
    if not shop.erased:
        _check_owners(held, outbox)
    if not shop.limits_changed:
        _check_limits(held, now)


def _check_names(everything: dict[str, Any], held: Held) -> None:
    """There is nothing but what the architecture names."""
    for name in everything:
        key = key_names.parse_key(name)
        assert key, name
        assert key.kind != "mend"
    assert held.mine.get("x", {}) == {book.id: number for number, book in held.books.items()}
    for text in held.under("i:").values():
        assert re.match(r"\S+ (0|1|c) ", text), text


def _check_records(held: Held, outbox: Outbox) -> None:
    """Coupons agree with their redemptions."""
    by_code = defaultdict[str, list[Redemption]](list)
    for redemption in held.redemptions:
        by_code[redemption.event.code].append(redemption)
        assert held.coupons[redemption.event.code].book.number == redemption.book
    assert set(held.under("c:")) <= set(held.coupons)
    for code, c in held.coupons.items():
        assert c.text != str(IDLE)
        mine = by_code[code]
        standing = [redemption for redemption in mine if redemption.stands]
        assert c.uses == sum(redemption.is_taken for redemption in mine), code
        assert c.is_touched or not (
            mine or c.locks or outbox.changed[code, "credited"] + outbox.changed[code, "closed"]
        ), code
        assert all(redemption.event.max_uses == (c.max or 0) for redemption in mine), code
        assert (c.user == _NONE) == (c.record.assigned_at == _NONE), code
        latest = max((redemption.event.id for redemption in standing), default=_NONE)
        assert c.last == str(latest), code
        several = {} if c.max == 1 else {str(redemption.event.id): redemption.rank for redemption in standing}
        assert held.mine.get(f"s:{code}", {}) == several, code
    assert set(held.under("s:")) <= set(held.coupons)


def _check_pools(held: Held) -> None:
    """Each code is in the one set that its state names; no set is empty."""
    directory, free_codes, sets = defaultdict(dict), defaultdict(Counter), defaultdict(dict)
    for code, c in held.coupons.items():
        place, bucket, number = c.place, _bucket(code), c.book.number
        is_free = place is not None and place[0] == "pool"
        # What is used up by one redemption, or locked, and nothing else, needs no record of its own.
        used_up, locked = IDLE._replace(uses="1", max_uses="1", last=c.last), IDLE._replace(max_uses="1")
        if c.record == used_up and c.last != _NONE:
            entry = DirectoryEntry(number, NOT_FREE, c.last)
        elif c.single_locks and c.record._replace(lock=UNLOCKED) == locked:
            entry = DirectoryEntry(number, NOT_FREE, c.record.lock)
        else:
            entry = DirectoryEntry(number, NOT_FREE)
        if is_free:
            entry = DirectoryEntry(number, FREE if c.record == IDLE else FREE_WITH_RECORD)
        is_long = len(str(entry)) > ENTRY_BYTES
        directory[bucket][code] = str(entry._replace(rest="") if is_long else entry)
        if is_free:
            free_codes[number][bucket] += 1
        elif place is not None:
            sets[f"{number}:{place[0]}"][f"{bucket} {code}"] = place[1]
    assert held.under("d:") == dict(directory)
    assert held.under("f:") == {n: {at: str(codes) for at, codes in some.items()} for n, some in free_codes.items()}
    assert held.under("l:") == dict(sets)


def _check_locks(held: Held, now: int) -> None:
    """Locks of codes with several uses have both their entries; those that count are in the sets that count them."""
    expected = defaultdict[str, dict[str, int]](dict)
    for code, c in held.coupons.items():
        deadlines = {lock.holder: int(lock.deadline) for lock in c.locks}
        assert len(deadlines) == len(c.locks), code
        if c.max == 1:
            assert len(c.locks) <= 1, code
            assert not {f"k:{code}", f"kd:{code}"} & set(held.mine), code
        else:
            assert not c.single_locks, code
            assert held.mine.get(f"kd:{code}", {}) == deadlines, code
        for lock in c.locks:
            assert re.fullmatch(r"([1-9]\d*)?u?b?i?\.[0-9A-FU]*", lock.counted), lock
            assert int(lock.started) <= int(lock.deadline)
            assert ("i" in lock.counted) == bool(_large(lock))
            limits, _, key = lock.counted.lstrip("0123456789").partition(".")
            sets = {"b": f"lb:{c.book.number}", "u": f"lu:{c.book.number}:{lock.user}"}
            for name in [*(sets[limit] for limit in limits.rstrip("i")), *([f"lk:{key}"] if key else [])]:
                expected[name][lock.token] = int(lock.deadline)
    assert set(held.under("kd:")) <= set(held.coupons)
    stored = {name: value for name, value in held.mine.items() if name.startswith(("lb:", "lu:", "lk:"))}
    assert _live(stored, now) == _live(expected, now)


def _check_accounts(held: Held, outbox: Outbox, now: int) -> None:
    """A card has what it was issued with and its events changed, and holds what its locks hold; no part is negative."""
    assert {code for code, c in held.coupons.items() if c.book.is_of_cards} == set(held.accounts)
    for code, text in held.accounts.items():
        c = held.coupons[code]
        assert text in held.mine[f"m:{_bucket(code)}"].values()
        assert c.account, text
        changed = {kind: outbox.changed[code, kind] for kind in ("credited", "spent", "closed")}
        expected = CardAccount(c.account.issued_e4, **{f"{kind}_e4": amount for kind, amount in changed.items()})
        assert c.account == expected._replace(held_e4=sum(held_by(lock.hold) for lock in c.locks)), code
        live = sum(held_by(lock.hold) for lock in c.locks if int(lock.deadline) > now)
        assert c.account.funds_e4 >= live >= 0, code


def _live(sets: Mapping[str, dict[str, int]], now: int) -> dict[str, dict[str, int]]:
    """The sets with a live lock, without the expired ones."""
    live = {name: {token: end for token, end in ends.items() if end > now} for name, ends in sets.items()}
    return {name: ends for name, ends in live.items() if ends}


def _check_counters(held: Held) -> None:
    """A book's counters are the counts of its codes, redemptions, locks and of users who have spent of its budgets."""
    user_fields = [field for some in _order_fields(held, is_of_user=True).values() for field in some]
    for number, book in held.books.items():
        n = Counter[str]()
        codes = [c for c in held.coupons.values() if c.book is book]
        n["codes"] = len(codes)
        n.update(c.counter for c in codes if c.counter != "available")
        redemptions = [redemption for redemption in held.redemptions if redemption.book == number]
        standing = [redemption for redemption in redemptions if redemption.stands]
        n["taken"] = sum(redemption.is_taken for redemption in redemptions)
        n["redemptions"] = len(standing)
        n["rolledBack"] = len(redemptions) - len(standing)
        n["discount"] = sum(redemption.event.discount_e4 for redemption in standing)
        n["users"] = len({redemption.user for redemption in standing})
        n["lockBytes"] = sum(_large(lock) + 500 * (c.max != 1) for c in codes for lock in c.locks)
        n["userAccounts"] = sum(field.startswith(f"{number}/") and field.endswith("/") for field in user_fields)
        for at, name in enumerate(SUMS):
            n[name] = sum(c.account[at] for c in codes if c.account)
        texts = held.mine.get(f"n:{number}", {})
        stored = {name: int(value) for name, value in texts.items() if name != "accounts"}
        for name in ("discount", *SUMS):
            stored[name] = join_sum(stored.get(name, 0), stored.pop(f"{name}High", 0))
        is_touched = stored.pop("touched", 0) == 1
        stored = {name: value for name, value in stored.items() if ":" not in name}
        assert Counter(stored) == n
        assert is_touched or not redemptions, number
    assert set(held.under("n:")) <= set(held.books)


def _check_users(held: Held) -> None:
    """A user's counts by book are those of its codes and redemptions."""
    users, ends, dated = defaultdict[str, dict[str, str]](dict), defaultdict[str, dict[str, int]](dict), Counter[Any]()
    had, holds, taken, standing = Counter[Any](), Counter[Any](), Counter[Any](), Counter[Any]()
    for code, c in held.coupons.items():
        if c.user != _NONE:
            had[c.user, c.book.number] += 1
            if not c.is_used_up:
                holds[c.user, c.book.number] += 1
                if c.expires_at is not None:
                    dated[c.user, c.book.number] += 1
                    ends[f"{c.book.number}:{c.user}"][code] = c.expires_at
    for redemption in held.redemptions:
        taken[redemption.user, redemption.book] += redemption.is_taken
        standing[redemption.user, redemption.book] += redemption.stands
    for letter, counts in (("a", had), ("h", holds), ("x", dated)):
        for (user, book), count in counts.items():
            users[user][f"{letter}{book}"] = str(count)
    assert _users_without_caps(held) == users
    assert held.under("ue:") == ends
    spent = defaultdict[str, dict[str, str]](dict)
    for (user, book), count in taken.items():
        if count:
            stand = standing[user, book]
            spent[_bucket(user)][f"{book}/{user}"] = str(count) if count == stand else f"{count} {stand}"
    counts = {
        bucket: {name: text for name, text in fields.items() if not name.endswith("/")}
        for bucket, fields in _order_fields(held, is_of_user=True).items()
    }
    assert {bucket: fields for bucket, fields in counts.items() if fields} == spent


def _users_without_caps(held: Held) -> dict[str, dict[str, str]]:
    stored = {}
    for user, fields in held.under("u:").items():
        if counts := {name: text for name, text in fields.items() if name != "cap"}:
            stored[user] = counts
        assert re.fullmatch(r"\d+ (-|\d+)", fields.get("cap", "0 -"))
    return stored


def _order_fields(held: Held, *, is_of_user: bool) -> dict[str, dict[str, str]]:
    """The fields below `o:`, by bucket: those of users and books, or those of orders."""
    by_bucket = {
        bucket: {name: text for name, text in fields.items() if ("/" in name) == is_of_user}
        for bucket, fields in held.under("o:").items()
    }
    return {bucket: fields for bucket, fields in by_bucket.items() if fields}


def _check_orders(held: Held) -> None:
    """An order's places are those of its redemptions that were not given back, and its marks those of stored locks."""
    expected = defaultdict[str, dict[str, list[Place]]](lambda: defaultdict(list))
    for redemption in held.redemptions:
        event, order = redemption.event, redemption.event.order
        assert (order is None) == (event.slot == 0)
        if order is not None and redemption.is_taken:
            name = encode_field(order)
            expected[_bucket(name)][name].append(Place(event.id, event.slot, not redemption.stands))
    texts = _order_fields(held, is_of_user=False)
    stored = {
        bucket: {order: sorted(parse_places(text)) for order, text in fields.items()}
        for bucket, fields in texts.items()
    }
    stored = {
        bucket: some for bucket, orders in stored.items() if (some := {order: p for order, p in orders.items() if p})
    }
    assert stored == {
        bucket: {order: sorted(places) for order, places in orders.items()} for bucket, orders in expected.items()
    }
    for orders in stored.values():
        for order, places in orders.items():
            assert len({place.slot for place in places}) == len(places), order
    marks = {
        (order, mark)
        for fields in texts.values()
        for order, text in fields.items()
        for mark in split_marks(text)[1].split("=")[1:]
    }
    locked = {
        (lock.order, f"{_bucket(code)}/{code}")
        for code, c in held.coupons.items()
        for lock in c.single_locks
        if lock.order != _NONE
    }
    assert marks == locked


def _check_budgets(held: Held, now: int, *, has_all_shares: bool) -> None:
    """What is counted in periods is the sum of the redemptions that were not given back; shares are those of live
    locks, and the book's sums are of its shares. `has_all_shares`: whether every live lock has one."""
    shares = defaultdict[str, dict[str, int]](dict)
    fields = {name: text for some in _order_fields(held, is_of_user=True).values() for name, text in some.items()}
    for number, book in held.books.items():
        held_sums = _joined(held.mine.get(f"bh:{number}", {}))
        assert held_sums == _without_zeros(_sum_shares(held.mine.get(f"bl:{number}", {}))), number
        generation, zone, words = book.bounds.replace("!", "").split("/") if book.bounds else ("", "0", "")
        counters = held.mine.get(f"n:{number}", {})
        if not generation or counters.get("accounts") != generation:
            continue
        redemptions = [one for one in held.redemptions if one.book == number]
        sums, newest = _sum_periods(redemptions, zone)
        own = {n.removeprefix(f"{generation}:"): v for n, v in counters.items() if n.startswith(f"{generation}:")}
        assert _joined(own) == _without_zeros(sums[""])
        for user, periods in newest.items() if ":u:" in words else ():
            stored = parse_spent(fields.get(f"{number}/{user}/"), int(generation))
            latest = {max(name for name in periods if name[0] == letter) for letter in "ldm"}
            for period in latest | set(stored):
                spent = Spent(sums[user][period], sums[user][f"{period}Uses"])
                assert stored.get(period, Spent(0, 0)) == spent, (user, period)
        for c in held.coupons.values():
            for lock in c.locks if c.book is book else ():
                _, day, month = (span.name for span in spans_at(zone, int(lock.started)))
                amount = lock.hold.split(":")[3] if lock.hold else "0"
                share = f"{generation} {lock.token} {amount} {day} {month}"
                for name in (f"bl:{number}", f"bu:{number}:{lock.user}") if ":u:" in words else (f"bl:{number}",):
                    shares[name][share] = int(lock.deadline)
    if has_all_shares:
        live = {name: ends for name, ends in held.mine.items() if name.startswith(("bl:", "bu:"))}
        assert _live(live, now) == _live(shares, now)


def _sum_periods(redemptions: list[Redemption], zone: str) -> tuple[dict[str, Counter[str]], dict[str, set[str]]]:
    """The sums of what is taken, of all ('') and of each user, by period; and the periods of each user."""
    sums, periods = defaultdict[str, Counter[str]](Counter), defaultdict[str, set[str]](set)
    for redemption in redemptions:
        event = redemption.event
        for span in spans_at(zone, event.at_ms if event.counted_ms is None else event.counted_ms):
            periods[redemption.user].add(span.name)
            for whose in ("", redemption.user) if redemption.is_taken else ():
                sums[whose][span.name] += event.discount_e4
                sums[whose][f"{span.name}Uses"] += 1
    return sums, periods


def _sum_shares(shares: dict[str, int]) -> Counter[str]:
    sums = Counter[str]()
    for share in shares:
        generation, _, amount, *periods = share.split(" ")
        for period in ("l", *periods):
            sums[f"{generation}:{period}"] += int(amount)
            sums[f"{generation}:{period}Uses"] += 1
    return sums


def _joined(counters: dict[str, str]) -> dict[str, int]:
    """Sums of two counters each (lua/includes/discount_sum.lua), without zeros."""
    sums = Counter[str]()
    for name, value in counters.items():
        sums[name.removesuffix("High")] += int(value) * (10**9 if name.endswith("High") else 1)
    return _without_zeros(sums)


def _without_zeros(sums: Counter[str]) -> dict[str, int]:
    return {name: value for name, value in sums.items() if value}


def _check_owners(held: Held, outbox: Outbox) -> None:
    """Owners and gifts are those of the last event."""
    for code, event in outbox.owners.items():
        record = held.coupons[code].record
        owner = (encode_field(event.user), str(event.at_ms)) if isinstance(event, Assigned) else (_NONE, _NONE)
        assert (held.coupons[code].book.number, record.user, record.assigned_at) == (str(event.book), *owner), code
    assert {order: text for orders in held.under("g:").values() for order, text in orders.items()} == {
        encode_field(order): str(Gift(gift.code, _bucket(gift.code), encode_field(gift.user), str(gift.at_ms)))
        for order, gift in outbox.gifts.items()
    }


def _check_limits(held: Held, now: int) -> None:
    """Used and live locks never pass a limit: of the code, the book, the user."""
    for number, book in held.books.items():
        used = Counter[str]()
        for redemption in held.redemptions:
            if redemption.book == number:
                used[redemption.user] += redemption.is_taken
        for c in held.coupons.values():
            if c.book is book:
                live = [lock for lock in c.locks if int(lock.deadline) > now]
                assert c.max is None or c.uses + len(live) <= c.max, c.code
                used.update(lock.user for lock in live)
        assert book.total is None or used.total() <= book.total, number
        for user, count in used.items():
            assert book.per_user is None or count <= book.per_user, user


def _bucket(text: str) -> str:
    return str(key_names.bucket(text))
