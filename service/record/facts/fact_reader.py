"""Facts, read back: what a Redis that is mended needs to know again."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import asyncpg
import msgspec

from service.common.byte_runs import SMALL_BYTES, split_by_bytes
from service.formats.event_id import START, EventId
from service.formats.events import Assigned, Fact, Redeemed, RequestPart, RolledBack, Unassigned, decided
from service.record.pool import Connection, Database
from service.record.queries import query

"""Before every event."""


class KeptKey(msgspec.Struct, frozen=True):
    """An idempotency key; `entry` is what its event, the one of epoch and seq, says that Redis keeps, `ttl_ms` how long
    it is still to be known."""

    workspace: int
    key: str
    entry: str
    ttl_ms: int
    epoch: int
    seq: int


async def facts_in_order(
    connection: Connection, partition: int, batch: int = 1000, after: EventId = START
) -> AsyncGenerator[Fact, None]:
    """All facts of a partition after an event, in the order in which they happened, as they are at this moment.

    Close it (`contextlib.aclosing`): it holds a transaction.
    """
    async with aclosing(fact_pages(connection, partition, batch, after)) as pages:
        async for page in pages:
            for fact in page:
                yield fact


async def fact_pages(
    connection: Connection, partition: int, batch: int = 1000, after: EventId = START
) -> AsyncGenerator[list[Fact], None]:
    """As facts_in_order, so many at a time: over a million of them a step of the loop for each would be felt."""
    async with aclosing(_pages(connection, "facts_in_order", partition, batch, after)) as pages:
        async for page in pages:
            yield [fact_of(row) for row in page]


async def key_pages(
    connection: Connection, partition: int, batch: int = 1000, after: EventId = START
) -> AsyncGenerator[list[KeptKey], None]:
    """The idempotency keys of events after one that a mended Redis must know, at most so many at a time, and of larger
    ones RUN_BYTES. Close it: it holds a transaction."""
    async with aclosing(_pages(connection, "live_keys", partition, batch, after, SMALL_BYTES)) as pages:
        async for page in pages:
            yield [KeptKey(*row[:-1]) for row in page if row["entry"] is not None]
            large = [row for row in page if row["entry"] is None]
            for part in split_by_bytes(large, lambda row: row["bytes"], batch):
                asked = [row["workspace"] for row in part], [row["key"] for row in part]
                entries = {(w, key): entry for w, key, entry in await connection.fetch(query("kept_entries"), *asked)}
                yield [KeptKey(w, key, entries[w, key], *rest) for w, key, _, *rest, _ in part]


async def _pages(
    connection: Connection, name: str, partition: int, batch: int, after: EventId, *more: int
) -> AsyncGenerator[list[asyncpg.Record], None]:
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        cursor = await connection.cursor(query(name), partition, *after, *more)
        while page := await cursor.fetch(batch):
            yield page


async def events_in_order(connection: Connection, partition: int, after: EventId) -> AsyncGenerator[Fact, None]:
    """As facts_in_order, but a checkout's redemption with its gift, as the outbox has it. Close it."""
    before: Fact | None = None
    async with aclosing(facts_in_order(connection, partition, after=after)) as facts:
        async for fact in facts:
            if before and (before.epoch, before.seq) == (fact.epoch, fact.seq):
                before = event_of([before, fact])
                continue
            if before:
                yield before
            before = fact
    if before:
        yield before


async def decided_at(database: Database, partition: int, epoch: int, seq: int) -> str | None:
    """What the outbox's entry of this event says was decided, as far as facts were; None where none is recorded."""
    rows = await database.fetch(query("facts_at"), partition, epoch, seq)
    return decided(event_of([fact_of(row) for row in rows])) if rows else None


def event_of(facts: list[Fact]) -> Fact:
    """The event that these facts are of: one of each kind, or a checkout's redemption and gift."""
    first = facts[0]
    if len(facts) == 2 and isinstance(first, Redeemed) and isinstance(facts[1], Assigned):
        return msgspec.structs.replace(first, gift=facts[1])
    return first


def fact_of(row: asyncpg.Record) -> Fact:
    """The fact of a row of the view `facts`."""
    (kind, epoch, seq, workspace, book, code, user, at_ms, ip, ua, order, redemption_id, *rest) = row
    value_e4, currency, digits, discount_e4, slot, max_uses, metadata, restore, reason, *redeemed = rest
    ip, ua = ip or "", ua or ""
    if kind == "R":  # by far the most; written out, since a dict in between costs as much again
        return Redeemed(
            epoch=epoch,
            seq=seq,
            workspace=workspace,
            book=book,
            code=code,
            user=user,
            at_ms=at_ms,
            order=order,
            redemption_id=redemption_id,
            value_e4=value_e4,
            currency=currency,
            digits=digits,
            discount_e4=discount_e4,
            slot=slot,
            max_uses=max_uses,
            request=RequestPart(ip, ua) if metadata is None else RequestPart(ip, ua, msgspec.Raw(metadata.encode())),
        )
    about: dict[str, Any] = {
        "epoch": epoch,
        "seq": seq,
        "workspace": workspace,
        "book": book,
        "code": code,
        "user": user,
        "at_ms": at_ms,
        "request": RequestPart(ip, ua, reason=reason or ""),
    }
    if kind == "A":
        return Assigned(**about, order=order)
    if kind == "U":
        return Unassigned(**about)
    return RolledBack(
        **about,
        order=order,
        redemption_id=redemption_id,
        restore=restore,
        redeemed=EventId(*redeemed),
        discount_e4=discount_e4,
    )
