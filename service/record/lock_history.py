"""The history of a code's locks, for explanation alone (docs/decisions/0071-past-holds.md). API processes note what
scripts answered (lock_notes.py, wiring.py); timelines.py reads, and copies PastLock's fields by name. LockNote has the
statement's parameters and StoredNote the query's columns, in their order. A note may be stored twice; those of a
process that was killed may be missing. A token's digest is stored."""

import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from hashlib import sha256
from typing import Literal, NamedTuple

from asyncpg import Pool

from service.domain.uuids import first_id
from service.record.pool import Database, count_changed
from service.record.queries import query

STEP_S = 1
"""Notes are written at the end of each step. wiring.py uses both numbers for refused requests, too."""
MAX_STEPS = 10
"""Steps that a process keeps while Postgres is away."""
NOTES_AT_ONCE = 1000
"""In one statement."""
KEEP_DAYS = 7
"""Notes are deleted after so many days."""
MAX_READ = 200
"""Notes of a code that are read."""
MAX_PAST = 20
"""Past locks of a code that are returned."""
CLOCKS_MS = 1000
"""By how much the clocks of Redis and Postgres may differ."""


End = Literal["redeemed", "released", "expired", "unknown"]


class LockNote(NamedTuple):
    """A lock or an extension; or, without a deadline, a release: of this user's lock alone, if a user is given."""

    workspace: int
    code: str
    digest: int
    user_id: str | None
    order_id: str | None
    until_ms: int | None
    noted_s: float
    """By time.monotonic."""


class StoredNote(NamedTuple):
    """A note, and the time when it was read; times in ms since 1970 by the workspace's clock."""

    digest: int
    user_id: str | None
    order_id: str | None
    at_ms: int
    until_ms: int | None
    now_ms: int


class NotedLock(NamedTuple):
    """A lock as noted; times in ms since 1970 by the workspace's clock. `since_ms` is its first note."""

    user_id: str
    order_id: str | None
    since_ms: int
    until_ms: int
    released_ms: int | None
    redeemed_ms: int | None = None


class LockHistory(NamedTuple):
    """The newest noted locks of a code, newest first, also those that live; and when they were read."""

    locks: Sequence[NotedLock] = ()
    now_ms: int = 0


class PastLock(NamedTuple):
    """A lock that has ended. `ended_at_ms` is None for an unknown end, before its deadline."""

    user_id: str
    order_id: str | None
    since_ms: int
    until_ms: int
    ended: End
    ended_at_ms: int | None


def digest_token(token: str) -> int:
    """A lock's name in Postgres."""
    return int.from_bytes(sha256(token.encode()).digest()[:8], signed=True)


async def add_lock_notes(pool: Pool, _: int, notes: Sequence[LockNote]) -> None:
    """A Sampler's `write`: store notes, all or none."""
    if not notes:
        return
    async with pool.acquire() as connection, connection.transaction():
        now_s = time.monotonic()  # ages are those at the transaction's beginning, also if the next statement waits
        await connection.execute(query("begin_lock_notes"))
        for start in range(0, len(notes), NOTES_AT_ONCE):
            *columns, noted = map(list, zip(*notes[start : start + NOTES_AT_ONCE], strict=True))
            ages_ms = [round((now_s - at_s) * 1000) for at_s in noted]
            await connection.execute(query("add_lock_notes"), *columns, ages_ms)


async def read_lock_history(database: Database, workspace: int, code: str) -> LockHistory:
    """The newest MAX_PAST locks of a code, as noted and as redeemed."""
    rows = await database.fetch(query("page_lock_notes"), workspace, code, MAX_READ)
    locks = combine([StoredNote(*row) for row in rows])[:MAX_PAST]
    if not locks:
        return LockHistory()
    firsts = [first_id(lock.since_ms - CLOCKS_MS) for lock in locks]
    lasts = [first_id(lock.until_ms) for lock in locks]
    holders = [lock.user_id for lock in locks], [lock.order_id for lock in locks]
    redeemed = await database.fetch(query("first_redemptions"), workspace, code, *holders, firsts, lasts)
    return LockHistory(
        [lock._replace(redeemed_ms=row["redeemed_ms"]) for lock, row in zip(locks, redeemed, strict=True)],
        rows[0]["now_ms"],
    )


async def prune_lock_notes(database: Database, limit: int) -> int:
    """Delete at most so many old notes; return their number."""
    return await count_changed(database, query("prune_lock_notes"), KEEP_DAYS, limit)


def combine(notes: Iterable[StoredNote]) -> list[NotedLock]:
    """The locks of which notes tell, the newest first. Of a lock whose holder no note names, nothing is known."""
    by_digest = defaultdict[int, list[StoredNote]](list)
    for note in notes:
        by_digest[note.digest].append(note)
    locks = []
    for of_lock in by_digest.values():
        held = [note for note in of_lock if note.until_ms is not None]
        if not held:
            continue
        user = held[0].user_id
        releases = [note.at_ms for note in of_lock if note.until_ms is None and note.user_id in (None, user)]
        locks.append(
            NotedLock(
                user or "", held[0].order_id, min(note.at_ms for note in held),
                max(note.until_ms or 0 for note in held), min(releases, default=None),
            )
        )  # fmt: skip
    return sorted(locks, key=lambda lock: lock.since_ms, reverse=True)


def find_past(history: LockHistory, live: Collection[tuple[str, str | None]] | None) -> list[PastLock]:
    """The locks that have ended, and how. `live` are the holders and orders of all live locks, read after the history;
    None if they are not known: locks that may live are left out."""
    left = None if live is None else set(live)
    past = []
    for lock in history.locks:
        ended, ended_at_ms = _find_end(lock, history.now_ms)
        if ended == "unknown":
            if left is None:
                continue
            if (holder := (lock.user_id, lock.order_id)) in left:
                left.remove(holder)
                continue
        past.append(PastLock(lock.user_id, lock.order_id, lock.since_ms, lock.until_ms, ended, ended_at_ms))
    return past


def _find_end(lock: NotedLock, now_ms: int) -> tuple[End, int | None]:
    """How a lock ended, and when: the earliest of a redemption, a release and its deadline; unknown if it is not over
    by these. A release after a redemption or the deadline has released nothing; the clocks tell the order of a release
    and a redemption only if the release is earlier by CLOCKS_MS."""
    ends: list[tuple[End, int]] = [("expired", lock.until_ms)] if lock.until_ms <= now_ms else []
    if lock.redeemed_ms is not None:
        ends.append(("redeemed", lock.redeemed_ms))
    before_ms = lock.until_ms if lock.redeemed_ms is None else lock.redeemed_ms - CLOCKS_MS
    if lock.released_ms is not None and lock.released_ms < min(before_ms, lock.until_ms):
        ends.append(("released", lock.released_ms))
    return min(ends, key=lambda end: end[1], default=("unknown", None))
