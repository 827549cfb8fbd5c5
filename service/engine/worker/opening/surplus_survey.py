"""Find what Redis knows and Postgres lacks (decision 0077): for the plan of `scrip recover`, and for
surplus_carrier.py, which carries it out on a closed Redis. Changes nothing."""

from collections import Counter, defaultdict
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import NamedTuple
from uuid import UUID

import asyncpg

from service.engine.domain.field_types import decode_field, decode_id
from service.engine.formats import key_names
from service.engine.formats.coupon_record import IDLE, CouponRecord
from service.engine.formats.coupon_state import RecordedCode
from service.engine.formats.directory_entry import parse_directory_entry
from service.engine.formats.event_id import END, EventId, parse_event_id
from service.engine.formats.events import Assigned, Fact, Redeemed, RolledBack, StockNotice, Unassigned, encode_event
from service.engine.formats.key_names import Key
from service.engine.formats.order_entries import parse_gift, parse_places
from service.engine.formats.quarantined_event import read_names
from service.engine.formats.redemption_id import event_id_of
from service.engine.hot.redis_server import Server
from service.engine.record.facts.quarantined_events import page_quarantine
from service.engine.record.facts.surplus_rows import (
    NamedEvent,
    PartitionBook,
    count_uses_by_user,
    find_known_events,
    read_partition_books,
)
from service.engine.record.partitions.partition_rows import read_partition
from service.engine.record.recorded_codes import recorded_codes
from service.engine.worker.opening.unrecorded_events import OutboxEvent, unrecorded_events

CODES_A_RUN = 500
STANDING_A_RUN = 5000
MAX_LISTED = 1000

_Code = tuple[int, str]
"""A workspace and a code."""


@dataclass
class SurplusReport:
    """The figures of a partition."""

    partition: int
    recorded: int = 0
    """Events of the outbox that Postgres can record."""
    assigned: int = 0
    """Assignments that are no longer in the outbox. They can be recorded."""
    blocked: int = 0
    """Codes of which only the code, and perhaps order and user, are known: they are blocked."""
    freed: int = 0
    """Sold codes that are free without what Redis knows."""
    returned: int = 0
    """Uses and assignments that were given back in Redis, and stand in Postgres. They stay as in Postgres."""
    orders: int = 0
    """Orders that are known only by a redemption that is no longer in the outbox."""
    users: int = 0
    """Counts of users, by book, that are higher than Postgres knows."""
    unknown_codes: int = 0
    """Codes that Postgres does not have. They are not sold any more."""
    unknown_books: list[str] = field(default_factory=list)
    """The same, for books: their ids."""
    absent_books: list[PartitionBook] = field(default_factory=list)
    """Books of which Redis has no code: what they sold is unknown. They are switched off."""
    listed: list[tuple[int, str]] = field(default_factory=list)
    """The first blocked codes, with their workspaces."""

    def counts(self) -> dict[str, int]:
        """The numbers. Their names are in the JSON of `scrip recover` and in the audit."""
        numbers = "recorded assigned blocked freed returned orders users unknown_codes".split()
        lists = {"unknown_books": len(self.unknown_books), "absent_books": len(self.absent_books)}
        return {name: getattr(self, name) for name in numbers} | lists


class Recordable(NamedTuple):
    """An event of the outbox, and whether Postgres has all that it refers to."""

    one: OutboxEvent
    is_whole: bool


class LostSale(NamedTuple):
    """A redemption or an assignment that only Redis knows, and not by its event."""

    workspace: int
    at: EventId | None
    """Its event; None if it is not known."""
    d: bytes
    """The event's field, as far as it is known."""
    is_whole: bool = False
    """Whether everything but the event is known, and Postgres can record it."""


@dataclass
class _Changes:
    """What recordable events of the outbox do to a code."""

    uses: int = 0
    events: set[EventId] = field(default_factory=set)
    owner: str | None = None
    sets_owner: bool = False


class _StoredCode(NamedTuple):
    """A code as Redis stores it."""

    book: int
    record: CouponRecord
    events: Sequence[EventId]
    """Its standing redemptions; of several uses only those that may be missing."""


class SurplusSurvey:
    """One partition's. Call `outbox`, then `codes`, both to their end; then `report` is complete.

    Redis has the newest state, and Postgres an older one with, after it, some events of the outbox. All that Redis has
    beyond that was decided by lost events.
    """

    def __init__(self, server: Server, pool: asyncpg.Pool) -> None:
        self._server, self._pool, self._partition = server, pool, server.partition
        self.report = SurplusReport(server.partition)
        self._changes: defaultdict[_Code, _Changes] = defaultdict(_Changes)
        self._user_uses: Counter[tuple[int, str, int]] = Counter()
        """What the outbox's events add to users' counts, by workspace, user and book."""
        self._orders: dict[EventId, str] = {}
        """The orders of redemptions that may be missing."""
        self._gifts: dict[_Code, str] = {}
        self._floor = EventId(0, 0)
        """Redemptions of earlier epochs are not missing."""
        self._books: set[tuple[int, int]] = set()
        """The recorded books, by workspace and number."""
        self._blocked: set[_Code] = set()
        """Codes of quarantined events, perhaps by an earlier try."""

    async def outbox(self, before: EventId = END) -> AsyncGenerator[list[Recordable], None]:
        """Pages of the outbox's events before one that are not recorded."""
        self._books = {book[:2] for book in await read_partition_books(self._pool, self._partition)}
        async with aclosing(unrecorded_events(self._server, self._pool, before)) as pages:
            async for page in pages:
                facts = [one.event for one in page if isinstance(one.event, Fact)]
                gifts = [fact.gift for fact in facts if isinstance(fact, Redeemed) and fact.gift]
                recorded = await self._read([(fact.workspace, fact.code) for fact in [*facts, *gifts]])
                known = await self._find_recorded_redemptions(facts)
                yield [Recordable(one, self._apply_if_whole(one, recorded, known)) for one in page]

    async def codes(self, *, has_outbox: bool = False) -> AsyncGenerator[list[LostSale], None]:
        """Pages of what Redis has sold by events that are lost. `has_outbox`: the events of `outbox` are recorded, or
        in quarantine, by now."""
        if has_outbox:
            self._changes.clear()
            self._user_uses.clear()
        self._floor = EventId((await read_partition(self._pool, self._partition)).cursor_epoch, 0)
        async for page in page_quarantine(self._pool, self._partition):
            self._blocked |= {(name.workspace, name.code) for _, d in page for name in read_names(d)}
        await self._read_orders()
        code_counts: Counter[tuple[int, int]] = Counter()
        async for keys in self._walk("d"):
            replies = await self._server.read_hashes([key.name for key in keys])
            entries = [
                (key.workspace, code, entry)
                for key, flat in zip(keys, replies, strict=True)
                for code, entry in zip(flat[::2], flat[1::2], strict=True)
            ]
            for start in range(0, len(entries), CODES_A_RUN):
                yield await self._examine(entries[start : start + CODES_A_RUN], code_counts)
        await self._compare_books(code_counts)

    async def _walk(self, kinds: str) -> AsyncGenerator[list[Key], None]:
        """Pages of the keys of these kinds, each key once."""
        walked: set[Key] = set()
        async for page in self._server.walk_keys(kinds):
            keys = [key for key in dict.fromkeys(page) if key not in walked]
            walked.update(keys)
            yield keys

    async def _read(self, codes: Sequence[_Code]) -> dict[_Code, RecordedCode]:
        """The codes as they are recorded."""
        by_workspace: defaultdict[int, set[str]] = defaultdict(set)
        for workspace, code in codes:
            by_workspace[workspace].add(code)
        found: dict[_Code, RecordedCode] = {}
        for workspace, names in by_workspace.items():
            recorded = await recorded_codes(self._pool, self._partition, workspace, END, sorted(names))
            found |= {(workspace, code): one for code, one in recorded.items()}
        return found

    async def _find_recorded_redemptions(self, facts: Sequence[Fact]) -> set[EventId]:
        """The redemptions that these facts roll back, if they are recorded."""
        back = [fact for fact in facts if isinstance(fact, RolledBack)]
        events = [NamedEvent(_rolled_back(one), one.workspace, one.code) for one in back]
        known = await find_known_events(self._pool, self._partition, events)
        return {event for event, is_recorded in known.items() if is_recorded}

    def _apply_if_whole(self, one: OutboxEvent, recorded: dict[_Code, RecordedCode], known: set[EventId]) -> bool:
        """Apply the event to the expected state of its code. Returns False if Postgres lacks what it refers to."""
        event = one.event
        if isinstance(event, StockNotice):
            return (event.workspace, event.book) in self._books
        if not isinstance(event, Fact):
            return event is not None
        gift = event.gift if isinstance(event, Redeemed) else None
        codes = [(event.workspace, event.code), *([(gift.workspace, gift.code)] if gift else [])]
        is_whole = all(code in recorded for code in codes)
        if not is_whole or not self._follows(event, recorded[codes[0]].owner, known):
            return False
        self._apply(event)
        if gift:
            self._apply(gift)
        self.report.recorded += 1
        return True

    def _follows(self, event: Fact, recorded_owner: str | None, known: set[EventId]) -> bool:
        """Whether what the event takes back or replaces is recorded."""
        changes = self._changes_of((event.workspace, event.code))
        owner = changes.owner if changes.sets_owner else recorded_owner
        match event:
            case RolledBack():
                return _rolled_back(event) in known | changes.events
            case Assigned():
                return owner is None
            case Unassigned():
                return owner == event.user
        return True

    def _apply(self, event: Fact) -> None:
        changes = self._changes[event.workspace, event.code]
        of_user = event.workspace, event.user, event.book
        match event:
            case Redeemed():
                changes.uses += 1
                changes.events.add(event.id)
                self._user_uses[of_user] += 1
            case RolledBack(restore=True):
                changes.uses -= 1
                self._user_uses[of_user] -= 1
            case Assigned():
                changes.owner, changes.sets_owner = event.user, True
            case Unassigned():
                changes.owner, changes.sets_owner = None, True

    async def _read_orders(self) -> None:
        """Read the orders of redemptions that may be missing, and compare users' counts."""
        async for keys in self._walk("og"):
            replies = await self._server.read_hashes([key.name for key in keys])
            counts: defaultdict[int, dict[tuple[str, int], int]] = defaultdict(dict)
            for key, flat in zip(keys, replies, strict=True):
                for name, text in zip(flat[::2], flat[1::2], strict=True):
                    book, is_user, user = name.partition("/")
                    if key.kind == "g":
                        self._gifts[key.workspace, parse_gift(text).code] = name
                    elif is_user:
                        counts[key.workspace][decode_id(user), int(book)] = int(text.partition(" ")[0])
                    else:
                        places = [place.event for place in parse_places(text) if place.event >= self._floor]
                        self._orders.update(dict.fromkeys(places, str(name)))
            for workspace, stored in counts.items():
                uses_by_user = await count_uses_by_user(self._pool, workspace, {user for user, _ in stored})
                for of, uses in stored.items():
                    user, book = of
                    self.report.users += uses > uses_by_user.get(of, 0) + self._user_uses[workspace, user, book]

    async def _examine(
        self, entries: Sequence[tuple[int, str, str]], code_counts: Counter[tuple[int, int]]
    ) -> list[LostSale]:
        stored = await self._read_stored(entries)
        recorded = await self._read(list(stored))
        suspects = [
            NamedEvent(at, *code)
            for code, one in stored.items()
            for at in one.events
            if at not in self._changes_of(code).events and not _is_last(recorded.get(code), at)
        ]
        known: dict[EventId, bool] = {}
        for start in range(0, len(suspects), STANDING_A_RUN):
            known |= await find_known_events(self._pool, self._partition, suspects[start : start + STANDING_A_RUN])
        lost: defaultdict[_Code, list[EventId]] = defaultdict(list)
        aside: Counter[_Code] = Counter()
        for at, workspace, code, *_ in suspects:
            if at not in known:
                lost[workspace, code].append(at)
            aside[workspace, code] += known.get(at) is False
        found: list[LostSale] = []
        for code, one in stored.items():
            code_counts[code[0], one.book] += 1
            sold = self._compare(code, one, recorded.get(code), lost[code], aside[code])
            if not all(some.is_whole for some in sold):
                self.report.blocked += 1
                self.report.listed += [code][: MAX_LISTED - len(self.report.listed)]
            found += sold
        return found

    async def _read_stored(self, entries: Sequence[tuple[int, str, str]]) -> dict[_Code, _StoredCode]:
        """Codes by the directory's entries, with their records."""
        listed = [(w, code, entry) for w, code, text in entries if (entry := parse_directory_entry(text))]
        names = [key_names.coupon(key_names.prefix(self._partition, w), code) for w, code, _ in listed]
        stored: dict[_Code, _StoredCode] = {}
        texts = await self._server.command("MGET", *names) if names else []
        for (w, code, entry), text in zip(listed, texts, strict=True):
            record = entry.record(text) or IDLE
            events = [] if record.last == "-" else [parse_event_id(record.last)]
            if events and record.max_uses != "1":
                events = await self._read_standing(key_names.standing(key_names.prefix(self._partition, w), code))
            stored[w, code] = _StoredCode(int(entry.book), record, events)
        return stored

    async def _read_standing(self, key: str) -> list[EventId]:
        """The redemptions of a code with several uses that may be missing; scores are those of standing_score."""
        events: list[EventId] = []
        while True:
            since = (self._floor.epoch * 16, "+inf", "BYSCORE", "LIMIT", len(events), STANDING_A_RUN)
            page = await self._server.command("ZRANGE", key, *since)
            events += map(parse_event_id, page)
            if len(page) < STANDING_A_RUN:
                return events

    def _compare(
        self, code: _Code, one: _StoredCode, was: RecordedCode | None, lost: Sequence[EventId], aside: int
    ) -> list[LostSale]:
        """What Redis has sold of a code by lost events. `aside` redemptions are in quarantine."""
        workspace, name = code
        changes, record, report = self._changes_of(code), one.record, self.report
        user = "" if record.user == "-" else record.user
        recorded_uses, owner = (was.uses, was.owner) if was else (0, None)
        expected_owner = changes.owner if changes.sets_owner else owner
        uses = int(record.uses)
        nameless = uses - recorded_uses - changes.uses - len(lost) - aside
        report.unknown_codes += was is None
        is_assigned = bool(user) and record.assigned_at != "-"
        report.freed += was is not None and (uses > recorded_uses or (is_assigned and decode_id(user) != owner))
        report.returned += max(0, -nameless) + (not user and expected_owner is not None)
        report.orders += sum(at in self._orders for at in lost)
        head = f"R {workspace} {one.book} {name} {user}"
        sold = [LostSale(workspace, at, f"{head} {self._orders.get(at, '')}".rstrip().encode()) for at in lost]
        is_blocked = code in self._blocked
        sold += [LostSale(workspace, None, head.rstrip().encode())] * (nameless > 0 and not is_blocked)
        if is_assigned and decode_id(user) != expected_owner:
            order = self._gifts.get(code)
            at_ms = int(record.assigned_at)
            fact = Assigned(
                epoch=0, seq=0, workspace=workspace, book=one.book, code=name, user=decode_id(user), at_ms=at_ms,
                order=decode_field(order) if order else None,
            )  # fmt: skip
            is_whole = was is not None and expected_owner is None
            report.assigned += is_whole
            sold += [LostSale(workspace, None, encode_event(fact).encode(), is_whole)] * (is_whole or not is_blocked)
        return sold

    async def _compare_books(self, code_counts: Counter[tuple[int, int]]) -> None:
        recorded = await read_partition_books(self._pool, self._partition)
        ids = {book.book_id for book in recorded}
        self.report.absent_books += [
            book for book in recorded if book.code_count and not code_counts[book.workspace, book.book]
        ]
        async for keys in self._walk("x"):
            for flat in await self._server.read_hashes([key.name for key in keys]):
                self.report.unknown_books += [name for name in flat[::2] if name not in ids]

    def _changes_of(self, code: _Code) -> _Changes:
        return self._changes.get(code) or _Changes()


def _is_last(recorded: RecordedCode | None, at: EventId) -> bool:
    return recorded is not None and recorded.last == str(at)


def _rolled_back(event: RolledBack) -> EventId:
    """The redemption's event."""
    return event_id_of(UUID(event.redemption_id))
