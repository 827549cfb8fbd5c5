"""Read facts back, for a Redis that is restored: as the events that scripts have appended. restorer.py,
partition_opening.py, unrecorded_events.py and unappliable_events.py call this; redemption_records.py uses `fact_of`. It
unpacks the columns of `facts_in_order` and other queries by position, and Redis relies on the order of pages."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import asyncpg
import msgspec

from service.common.byte_runs import SMALL_BYTES, split_by_bytes
from service.engine.formats.event_id import START, EventId
from service.engine.formats.events import (
    SENT,
    Assigned,
    BalanceChanged,
    Event,
    Fact,
    Redeemed,
    RequestPart,
    RolledBack,
    Unassigned,
    encode_event,
    is_same_event,
)
from service.engine.record.archived_books import read_history_start
from service.engine.record.pool import IN_ORDER, LONG, LONG_S, Connection, Database, open_cursor, set_locally
from service.engine.record.queries import query

KEYS_A_PAGE = 1000
_WITHOUT_ARCHIVED = "facts_to_redo"
_NO_SENT: list[str | None] = [None] * len(SENT)


class KeptKey(msgspec.Struct, frozen=True):
    """An idempotency key: its event's entry, and its remaining lifetime."""

    workspace: int
    key: str
    entry: str
    ttl_ms: int
    epoch: int
    seq: int


async def fact_pages(
    connection: Connection,
    partition: int,
    batch: int = 1000,
    after: EventId = START,
    *,
    archived: bool = True,
) -> AsyncGenerator[list[Fact], None]:
    """Pages of all facts of a partition after an event, in order, in one snapshot; with or without archived books.
    Without them, reading begins with the oldest other book.

    Close it (`contextlib.aclosing`): it holds a transaction.
    """
    name = "facts_in_order" if archived else _WITHOUT_ARCHIVED
    async with aclosing(_pages(connection, name, partition, batch, after)) as pages:
        async for page in pages:
            yield [fact_of(row) for row in page]


async def key_pages(
    connection: Connection, partition: int, after: EventId = START
) -> AsyncGenerator[list[KeptKey], None]:
    """Pages, of at most RUN_BYTES, of live idempotency keys of events after one. Close it: it holds a transaction."""
    async with aclosing(_pages(connection, "live_keys", partition, KEYS_A_PAGE, after, SMALL_BYTES)) as pages:
        async for page in pages:
            yield [KeptKey(*row[:-1]) for row in page if row["entry"] is not None]
            large = [row for row in page if row["entry"] is None]
            for part in split_by_bytes(large, lambda row: row["bytes"], KEYS_A_PAGE):
                keys = [row["workspace"] for row in part], [row["key"] for row in part]
                entries = {(w, key): entry for w, key, entry in await connection.fetch(query("kept_entries"), *keys)}
                yield [KeptKey(w, key, entries[w, key], *rest) for w, key, _, *rest, _ in part]


async def _pages(
    connection: Connection, name: str, partition: int, batch: int, after: EventId, *more: int
) -> AsyncGenerator[list[asyncpg.Record], None]:
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        await set_locally(connection, LONG | IN_ORDER)
        if name == _WITHOUT_ARCHIVED:
            after = max(after, (await read_history_start(connection, partition)).event)
        cursor = await open_cursor(connection, query(name), partition, *after, *more)
        while page := await cursor.fetch(batch, timeout=LONG_S):  # it may pass over many rows of archived books
            yield page


async def events_in_order(connection: Connection, partition: int, after: EventId) -> AsyncGenerator[Fact, None]:
    """The facts after an event, with a checkout's redemption and gift as one event. Close it."""
    previous: Fact | None = None
    async with aclosing(fact_pages(connection, partition, after=after)) as pages:
        async for page in pages:
            for fact in page:
                if previous and previous.id == fact.id:
                    previous = event_of([previous, fact])
                    continue
                if previous:
                    yield previous
                previous = fact
    if previous:
        yield previous


async def decided_at(database: Database, partition: int, epoch: int, seq: int) -> str | None:
    """The decision of this event, rebuilt from its facts; None if none is recorded."""
    rows = await database.fetch(query("facts_of_event"), partition, epoch, seq, None)
    return encode_event(event_of([fact_of(row) for row in rows])) if rows else None


async def is_recorded(database: Database, partition: int, event: Event | None) -> bool:
    """Whether this very fact is recorded or quarantined; False for any other event. Since then its user may have been
    deleted."""
    if not isinstance(event, Fact):
        return False
    rows = await database.fetch(query("facts_of_event"), partition, *event.id, event.workspace)
    if not rows:
        decided = encode_event(event).encode()
        return bool(await database.fetchval(query("has_quarantined"), *event.id, decided))
    return is_same_event(event, fact_of(rows[0]))


def event_of(facts: list[Fact]) -> Fact:
    """The event of these facts: one fact, or a checkout's redemption and gift."""
    first = facts[0]
    if len(facts) == 2 and isinstance(first, Redeemed) and isinstance(facts[1], Assigned):
        return msgspec.structs.replace(first, gift=facts[1])
    return first


def fact_of(row: asyncpg.Record) -> Fact:
    (kind, _partition, epoch, seq, workspace, book, code, user, at_ms, ip, ua, order, redemption_id, *rest) = row
    (
        value_e4, currency, digits, discount_e4, slot, max_uses, restore, reason, after_e4, change, redeemed_epoch,
        redeemed_seq, counted_ms, *sent,
    ) = rest  # fmt: skip
    ip, ua = ip or "", ua or ""
    if kind == "R":  # the most frequent; a dict in between would double the cost
        return Redeemed(
            epoch=epoch,
            seq=seq,
            workspace=workspace,
            book=book,
            code=code,
            user=user,
            at_ms=at_ms,
            order=order,
            value_e4=value_e4,
            currency=currency,
            digits=digits,
            discount_e4=discount_e4,
            slot=slot,
            max_uses=max_uses,
            balance_after_e4=after_e4,
            counted_ms=counted_ms,
            request=RequestPart(ip, ua) if sent == _NO_SENT else RequestPart(ip, ua, **_read_sent(sent)),
        )
    about: dict[str, Any] = {"epoch": epoch, "seq": seq, "workspace": workspace, "book": book, "code": code}
    about |= {"user": user, "at_ms": at_ms, "request": RequestPart(ip, ua, reason=reason or "")}
    if kind == "A":
        return Assigned(**about, order=order)
    if kind == "U":
        return Unassigned(**about, order=order)
    about["balance_after_e4"] = after_e4
    if kind == "C":
        return BalanceChanged(**about, kind=change, amount_e4=discount_e4)
    about |= {"order": order, "redemption_id": redemption_id, "discount_e4": discount_e4}
    about["counted_ms"] = counted_ms
    return RolledBack(**about, restore=restore, redeemed=EventId(redeemed_epoch, redeemed_seq))


def _read_sent(texts: list[str | None]) -> dict[str, Any]:
    columns = zip(SENT.items(), texts, strict=True)
    return {name: field.read_text(text) for (name, field), text in columns if text is not None}
