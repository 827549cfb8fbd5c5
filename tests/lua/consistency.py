"""All that Redis counts, recomputed from what it counts: directory, coupons, locks, and the redemptions that the outbox
tells of. Written from docs/architecture.md, not from the scripts; run at the end of every test of the scripts."""

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from loadtests.harness.shop import Shop
from service.formats.coupon_record import IDLE, UNLOCKED, parse_coupon_record
from service.formats.event_id import parse_event_id
from service.formats.lock_record import parse_lock
from tests.lua.outbox import Told, read_outbox
from tests.lua.outbox import bucket as _bucket
from tests.lua.stored_locks import Lock, locks_of

_NONE = "-"
_REDEMPTION: Sequence[str] = "R w book code user order id value currency digits discount at slot cb ob max ub".split()


class Book(NamedTuple):
    """What of a book's settings the counts depend on."""

    number: str
    id: str
    per_code: int | None
    per_user: int | None
    total: int | None


@dataclass
class Redemption:
    """A redemption, as its event tells of it; `restored` is '' where it stands."""

    event: str
    restored: str
    words: list[str]
    user: str

    def __getattr__(self, name: str) -> str:
        return self.words[_REDEMPTION.index(name)]

    @property
    def order_of_events(self) -> tuple[int, ...]:
        return parse_event_id(self.event)

    @property
    def rank(self) -> int:
        """The score among a code's standing redemptions."""
        return parse_event_id(self.event).epoch * 16 + len(self.event.partition("-")[2])

    @property
    def stands(self) -> bool:
        return self.restored == ""

    @property
    def taken(self) -> bool:
        """Whether its use is still spent."""
        return self.restored != "1"


@dataclass
class Coupon:
    """A coupon's record, or what the directory says instead, with its locks wherever they are kept."""

    code: str
    book: Book
    entry: str
    text: str | None
    locks: list[Lock] = field(default_factory=list)

    def __post_init__(self) -> None:
        number, _, last = self.entry.partition("!")
        assert number == self.book.number
        assert not (last and self.text), self.code
        used_up = IDLE._replace(uses="1", max_uses="1", last=last) if last else IDLE
        record = parse_coupon_record(self.text) if self.text else used_up
        assert record, self.text
        self.version, self.user, self.assigned_at, self.last = (
            record.version,
            record.user,
            record.assigned_at,
            record.last,
        )
        self.uses, self.off = int(record.uses), record.off != "-"
        self.expires_at = None if record.expires_at == _NONE else int(record.expires_at)
        self.touched = record.max_uses != _NONE
        self.max = int(record.max_uses) or None if self.touched else self.book.per_code
        if record.lock != UNLOCKED:
            self.locks.append(Lock.of(parse_lock(record.lock)))
        self.single_lock = bool(self.locks)

    @property
    def used_up(self) -> bool:
        return self.max is not None and self.uses >= self.max

    @property
    def counted(self) -> str:
        if self.used_up:
            return "redeemed" if self.max == 1 else "exhausted"
        if self.off:
            return "inactive"
        return "available" if self.user == _NONE else "assigned"

    @property
    def place(self) -> tuple[str, int] | None:
        """The set that it is in, with its score."""
        if self.used_up or self.off:
            return None
        free = self.user == _NONE
        if not self.locks:
            if not free:
                return None
            return ("pool", 0) if self.expires_at is None else ("x", self.expires_at)
        deadlines = sorted(lock.deadline for lock in self.locks)
        if self.max is not None and self.uses + len(self.locks) >= self.max:
            return ("u" if free else "a", deadlines[0])
        return ("p" if free else "o", deadlines[-1])


class Held:
    """One workspace's part of a Redis, read."""

    def __init__(self, everything: dict[str, Any], prefix: str) -> None:
        self.prefix = prefix
        self.mine = {name[len(prefix) :]: value for name, value in everything.items() if name.startswith(prefix)}
        self.books: dict[str, Book] = {}
        for number, text in self.under("b:").items():
            _, own_id, _, _, _, per_code, per_user, total, *_ = text.split(" ")
            self.books[number] = Book(number, own_id, *(_number(word) for word in (per_code, per_user, total)))
        self.coupons: dict[str, Coupon] = {}
        for bucket, codes in self.under("d:").items():
            for code, number in codes.items():
                assert _bucket(code) == bucket
                book = self.books[number.partition("!")[0]]
                self.coupons[code] = Coupon(code, book, number, self.mine.get(f"c:{code}"))
        for code, stored in self.under("k:").items():
            self.coupons[code].locks += locks_of(stored)

    def learn(self, told: Told, pseudonyms: Mapping[str, str]) -> None:
        """The redemptions that the outbox tells of, of users who were erased since by their pseudonyms."""
        self.redemptions = {
            event: Redemption(event, told.rolled_back.get(event, ""), words, pseudonyms.get(event, words[4]))
            for event, words in told.redeemed.items()
        }

    def under(self, start: str) -> dict[str, Any]:
        """What the keys that begin so hold, by the rest of their names."""
        return {name[len(start) :]: value for name, value in self.mine.items() if name.startswith(start)}


async def assert_consistent(shop: Shop) -> None:
    """Compare all of the shop's counters, sets and records with what they should be."""
    everything = await shop.everything()
    held = Held(everything, shop.caller.prefix)
    told = read_outbox(await shop.everything_told(), erased=shop.erased)
    held.learn(told, shop.pseudonyms)
    now = await shop.now()
    _names(everything, held)
    _records(held)
    _pools(held)
    _locks(held, now)
    _counters(held)
    _users(held)
    _orders(held)
    if not shop.erased:
        _outbox(held, told)
    if not shop.limits_changed:
        _limits(held, now)


def _names(everything: dict[str, Any], held: Held) -> None:
    """There is nothing but what the architecture names."""
    ours = r"w|x|y|e|(b|n|d|f|lb|o|g|q:[ab]):\d+|l:\d+:[uapox]|lu:\d+:\S+|(lk|q:[rm]):[0-9A-FU]+|(c|k|kd|u|s):\S+|i:.+"
    for name in everything:
        if not name.startswith(held.prefix):
            assert re.fullmatch(r"\{p0\}:(gate|outbox|config|newest|layout|erased|w\d+:.*)", name), name
            continue
        assert re.fullmatch(ours, name[len(held.prefix) :]), name
    assert held.mine.get("x", {}) == {book.id: number for number, book in held.books.items()}
    for text in held.under("i:").values():
        assert re.match(r"\S+ (0|1|c) ", text), text


def _records(held: Held) -> None:
    """Coupons say what their redemptions say."""
    by_code = defaultdict(list)
    for redemption in held.redemptions.values():
        by_code[redemption.code].append(redemption)
        assert held.coupons[redemption.code].book.number == redemption.book
    assert set(held.under("c:")) <= set(held.coupons)
    for code, c in held.coupons.items():
        assert c.text != str(IDLE)
        mine = by_code[code]
        standing = [redemption for redemption in mine if redemption.stands]
        assert c.uses == sum(redemption.taken for redemption in mine), code
        assert c.touched or not (mine or c.locks), code
        assert all(int(redemption.max) == (c.max or 0) for redemption in mine), code
        assert (c.user == _NONE) == (c.assigned_at == _NONE), code
        latest = max(standing, key=lambda redemption: redemption.order_of_events, default=None)
        assert c.last == (latest.event if latest else _NONE), code
        several = {} if c.max == 1 else {redemption.event: redemption.rank for redemption in standing}
        assert held.mine.get(f"s:{code}", {}) == several, code
    assert set(held.under("s:")) <= set(held.coupons)


def _pools(held: Held) -> None:
    """Each code is in the one set that its state names; no set is empty."""
    directory, free_codes, sets = defaultdict(dict), defaultdict(Counter), defaultdict(dict)
    for code, c in held.coupons.items():
        place, bucket, number = c.place, _bucket(code), c.book.number
        free = place is not None and place[0] == "pool"
        # What is used up by one redemption, and nothing else, needs no record of its own.
        plain = c.max == 1 and c.last != _NONE and (c.version, c.user, c.off, c.expires_at) == ("0", _NONE, False, None)
        said = c.last if plain and not c.locks else ""
        directory[bucket][code] = number if free else f"{number}!{said}"
        if free:
            free_codes[number][bucket] += 1
        elif place is not None:
            sets[f"{number}:{place[0]}"][f"{bucket} {code}"] = place[1]
    assert held.under("d:") == dict(directory)
    assert held.under("f:") == {n: {at: str(codes) for at, codes in some.items()} for n, some in free_codes.items()}
    assert held.under("l:") == dict(sets)


def _locks(held: Held, now: int) -> None:
    """Locks of codes with several uses have both their entries; those that count are in the sets that count them."""
    for code, c in held.coupons.items():
        deadlines = {f"{lock.user} {lock.order}": lock.deadline for lock in c.locks}
        assert len(deadlines) == len(c.locks), code
        if c.max == 1:
            assert len(c.locks) <= 1, code
            assert f"k:{code}" not in held.mine, code
            assert f"kd:{code}" not in held.mine, code
        else:
            assert not c.single_lock, code
            assert held.mine.get(f"kd:{code}", {}) == deadlines, code
    assert set(held.under("kd:")) <= set(held.coupons)
    by_book, by_user, by_key = defaultdict(dict), defaultdict(dict), defaultdict(dict)
    for c in held.coupons.values():
        for lock in c.locks:
            assert re.fullmatch(r"u?b?\.[0-9A-FU]*", lock.counted), lock
            assert lock.started <= lock.deadline
            if "b" in lock.counted:
                by_book[c.book.number][lock.token] = lock.deadline
            if "u" in lock.counted:
                by_user[f"{c.book.number}:{lock.user}"][lock.token] = lock.deadline
            if key := lock.counted.partition(".")[2]:
                by_key[key][lock.token] = lock.deadline
    for start, expected in (("lb:", by_book), ("lu:", by_user), ("lk:", by_key)):
        stored = {name: _live(value, now) for name, value in held.under(start).items()}
        assert {name: value for name, value in stored.items() if value} == {
            name: live for name, value in expected.items() if (live := _live(value, now))
        }


def _counters(held: Held) -> None:
    """A book's counters are the counts of its codes and redemptions."""
    for number, book in held.books.items():
        n = Counter[str]()
        codes = [c for c in held.coupons.values() if c.book is book]
        n["codes"] = len(codes)
        n.update(c.counted for c in codes if c.counted != "available")
        users = set()
        for redemption in held.redemptions.values():
            if redemption.book == number:
                n["taken"] += redemption.taken
                n["redemptions"] += redemption.stands
                n["rolledBack"] += not redemption.stands
                n["discount"] += int(redemption.discount) * redemption.stands
                users |= {redemption.user} if redemption.stands else set()
        n["users"] = len(users)
        stored = {name: int(value) for name, value in held.mine.get(f"n:{number}", {}).items()}
        touched = stored.pop("touched", 0)
        assert {name: value for name, value in stored.items() if value} == {name: v for name, v in n.items() if v}
        assert touched == 1 or not (n["redemptions"] or n["rolledBack"]), number
    assert set(held.under("n:")) <= set(held.books)


def _users(held: Held) -> None:
    """A user's counts by book are those of its codes and redemptions."""
    users: dict[str, dict[str, str]] = defaultdict(dict)
    had, holds, taken, standing = Counter[Any](), Counter[Any](), Counter[Any](), Counter[Any]()
    for code, c in held.coupons.items():
        if c.user != _NONE:
            had[c.user, c.book.number] += 1
            if not c.used_up:
                holds[c.user, c.book.number] += 1
                if c.expires_at is not None:
                    users[c.user][f"x{code}"] = f"{c.expires_at} {c.book.number}"
    for redemption in held.redemptions.values():
        taken[redemption.user, redemption.book] += redemption.taken
        standing[redemption.user, redemption.book] += redemption.stands
    for (user, book), count in had.items():
        users[user][f"a{book}"] = str(count)
    for (user, book), count in holds.items():
        users[user][f"h{book}"] = str(count)
    assert _stored_users(held) == users
    spent = {}
    for (user, book), count in taken.items():
        if count:
            stand = standing[user, book]
            spent[_bucket(user), f"{book}/{user}"] = str(count) if count == stand else f"{count} {stand}"
    stored = {
        (bucket, name): text
        for bucket, fields in held.under("o:").items()
        for name, text in fields.items()
        if "/" in name
    }
    assert stored == spent


def _stored_users(held: Held) -> dict[str, dict[str, str]]:
    """Users' hashes without caps."""
    stored = {}
    for user, fields in held.under("u:").items():
        if kept := {name: text for name, text in fields.items() if name != "cap"}:
            stored[user] = kept
        assert re.fullmatch(r"\d+ (-|\d+)", fields.get("cap", "0 -"))
    return stored


def _orders(held: Held) -> None:
    """An order's places are those of its redemptions that were not given back."""
    places: dict[str, set[tuple[str, ...]]] = defaultdict(set)
    for r in held.redemptions.values():
        assert (r.order == _NONE) == (r.slot == "0")
        if r.order != _NONE and r.taken:
            places[r.order].add((r.event, r.slot, "" if r.stands else "!"))
    stored = {}
    for bucket, entries in held.under("o:").items():
        for order, text in entries.items():
            if "/" in order:
                continue
            assert _bucket(order) == bucket
            parts = [_place(word) for word in text.split()]
            assert len({part[1] for part in parts}) == len(parts), (order, text)
            stored[order] = set(parts)
            assert len(parts) == len(stored[order])
    assert stored == places


def _place(word: str) -> tuple[str, str, str]:
    """Event, slot, and '!' where it was rolled back and kept."""
    found = re.fullmatch(r"(\d+-\d+)(?::([2-9]|\d\d+))?(!?)", word)
    assert found, word
    return found[1], found[2] or "1", found[3]


def _outbox(held: Held, told: Told) -> None:
    """Owners and gifts are those that the outbox tells of."""
    for code, (kind, book, *owner) in told.owners.items():
        c = held.coupons[code]
        assert [c.book.number, c.user, c.assigned_at] == [book, *(owner if kind == "A" else [_NONE] * 2)], code
    assert {o: text for orders in held.under("g:").values() for o, text in orders.items()} == told.gifts


def _limits(held: Held, now: int) -> None:
    """Used and live locks never pass a limit: of the code, the book, the user."""
    for number, book in held.books.items():
        taken, counted = Counter[str](), Counter[str]()
        for r in held.redemptions.values():
            if r.book == number:
                taken[r.user] += r.taken
        for c in held.coupons.values():
            if c.book is book:
                live = [lock for lock in c.locks if lock.deadline > now]
                assert c.max is None or c.uses + len(live) <= c.max, c.code
                counted.update(lock.user for lock in live)
        assert book.total is None or taken.total() + counted.total() <= book.total, number
        for user in taken | counted:
            assert book.per_user is None or taken[user] + counted[user] <= book.per_user, user


def _live(deadlines: dict[str, int], now: int) -> dict[str, int]:
    return {token: deadline for token, deadline in deadlines.items() if deadline > now}


def _number(word: str) -> int | None:
    return None if word == _NONE else int(word)
