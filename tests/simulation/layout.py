"""What Redis keeps, as docs/architecture.md has it: directory, coupons' records, and what events change in them.

Applied by the scripts that decide and by `redo` alike. Of a redemption only its event's id is kept.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple, Protocol
from zlib import crc32

from tests.simulation.events import NO_HISTORY, Event, Id, Kept

LAYOUT = "3"
BUCKETS = 3
"""So few that several codes share one."""
FREE, TAKEN = "free", "!"
"""Entries of the directory; of a single-use code that is used up, and of which nothing else is true, the event's id."""


class Keys(Protocol):
    """Keys by kind and name, of one partition."""

    planted: frozenset[str]

    def get(self, kind: str, name: Any = "", default: Any = None) -> Any: ...
    def put(self, kind: str, name: Any, value: Any) -> None: ...


class Record(NamedTuple):
    """What is true of a code and not said by its book: `c:<code>`, absent for IDLE."""

    version: int = 0
    owner: str | None = None
    uses: int = 0
    limit: int | None = None
    """It was first redeemed under it."""
    off: bool = False
    last: Id | None = None


IDLE = Record()


def bucket(text: str) -> int:
    """Of a code, an order or a user."""
    return crc32(text.encode()) % BUCKETS


def hget(keys: Keys, kind: str, field: str, of: str = "") -> Any:
    """A field of the hash of a bucket: the field's own, or `of`'s."""
    return keys.get(kind, bucket(of or field), {}).get(field)


def hset(keys: Keys, kind: str, field: str, value: Any, of: str = "") -> None:
    """Write the field; None removes it."""
    name = bucket(of or field)
    held = {**keys.get(kind, name, {}), field: value}
    if value is None:
        del held[field]
    keys.put(kind, name, held or None)


def load(keys: Keys, code: str) -> Record | None:
    """Where a coupon stands; None where there is no such code."""
    return read(hget(keys, "d", code), keys.get("c", code))


def read(entry: Any, record: Record | None) -> Record | None:
    """Of the directory's entry and the record."""
    if entry is None or record is not None:
        return record
    return Record(uses=1, limit=1, last=entry) if isinstance(entry, tuple) else IDLE


def save(keys: Keys, code: str, c: Record, uses: int) -> None:
    """Write the coupon to directory, record and pool; `uses` is its book's limit, where it has none of its own yet."""
    free = not c.off and c.owner is None and c.uses < (c.limit or uses)
    entry: Any = FREE if free else TAKEN
    record: Record | None = None if c == IDLE else c
    if c.limit == 1 and c.last and c == Record(uses=1, limit=1, last=c.last):
        entry, record = c.last, None
        if "used entries without their event" in keys.planted:
            entry = TAKEN
    was = hget(keys, "d", code)
    hset(keys, "d", code, entry)
    keys.put("c", code, record)
    if free and was != FREE:
        count_free(keys, bucket(code), 1)
    elif was == FREE and not free and "pool never left" not in keys.planted:
        count_free(keys, bucket(code), -1)


def count_free(keys: Keys, of: int, by: int) -> None:
    """Count more free codes in a bucket, or fewer."""
    pool = Counter(keys.get("pool", default={}))
    pool[of] += by
    keys.put("pool", "", +pool)


def stands(keys: Keys, code: str, c: Record, event: Id) -> bool:
    """Whether the redemption of this event, of any coupon, is one of this coupon's that stand."""
    return c.last == event or event in keys.get("s", code, ())


def count_user(keys: Keys, user: str, taken: int, standing: int) -> None:
    """Add to what a user has taken; `<taken>` where as many stand."""
    field = f"1/{user}"
    now = read_count(hget(keys, "o", field, user))
    taken, standing = now[0] + taken, now[1] + standing
    hset(keys, "o", field, None if taken == 0 else taken if taken == standing else (taken, standing), user)


def read_count(kept: Any) -> tuple[int, int]:
    """Taken and standing."""
    return kept if isinstance(kept, tuple) else (kept or 0, kept or 0)


def taken_by(keys: Keys, user: str) -> int:
    """What counts against the user's limit."""
    return read_count(hget(keys, "o", f"1/{user}", user))[0]


def keep(keys: Keys, key: str, kept: Kept) -> None:
    """Under an Idempotency-Key."""
    keys.put("i", key, kept)


def apply(keys: Keys, event: Event, *, code_alone: bool = False) -> None:
    """Make the event's changes, but for its key. `code_alone` leaves out what counts over codes: a planted mistake."""
    keys.put("history", "", keys.get("history", default=NO_HISTORY).after(event))
    code, row, c = event.code, keys.get("code", event.code), load(keys, event.code)
    if c is None or row is None:
        return  # redo's alone: a Postgres that was restored lacks the code, and has the event from Redis
    if event.kind == "A":
        save(keys, code, c._replace(owner=event.user), row.uses)
    elif event.kind == "R":
        _redeem(keys, event, c, row.uses, code_alone)
    else:
        _roll_back(keys, event, c, row.uses, code_alone)


def _redeem(keys: Keys, event: Event, c: Record, uses: int, code_alone: bool) -> None:
    c = c._replace(uses=c.uses + 1, limit=c.limit or uses, last=event.id)
    if c.limit != 1:
        keys.put("s", event.code, keys.get("s", event.code, frozenset()) | {event.id})
    save(keys, event.code, c, uses)
    if code_alone:
        return
    if event.order:
        hset(keys, "o", event.order, (*(hget(keys, "o", event.order) or ()), (event.id, False)))
    count_user(keys, event.user, 1, 1)


def _roll_back(keys: Keys, event: Event, c: Record, uses: int, code_alone: bool) -> None:
    redeemed, back = event.redemption[:2], 1 if event.restore else 0
    if c.limit != 1:
        keys.put("s", event.code, keys.get("s", event.code, frozenset()) - {redeemed} or None)
    if c.last == redeemed:
        c = c._replace(last=max(keys.get("s", event.code, ()), default=None))
    save(keys, event.code, c._replace(uses=c.uses - back), uses)
    if code_alone:
        return
    if event.order:
        places = [(one, kept or one == redeemed) for one, kept in hget(keys, "o", event.order) or ()]
        hset(keys, "o", event.order, tuple(p for p in places if p[0] != redeemed or not event.restore) or None)
    count_user(keys, event.user, -back, -1)
