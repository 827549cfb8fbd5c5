"""Facts, read back: what a Redis that is mended needs to know again."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import asyncpg
import msgspec

from service.domain.events import Assigned, Fact, Redeemed, RequestPart, RolledBack, Unassigned, decided
from service.record.pool import Connection, Database
from service.record.queries import query

START = (-1, -1)
"""Before every event."""


class KeptKey(msgspec.Struct, frozen=True):
    """An idempotency key; `entry` is what Redis kept, `ttl_ms` how long it is still to be known."""

    workspace: int
    key: str
    entry: str
    ttl_ms: int


async def facts_in_order(
    connection: Connection, partition: int, batch: int = 1000, after: tuple[int, int] = START
) -> AsyncGenerator[Fact, None]:
    """All facts of a partition after an event, in the order in which they happened, as they are at this moment.

    Close it (`contextlib.aclosing`): it holds a transaction.
    """
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        async for row in connection.cursor(query("facts_in_order"), partition, *after, prefetch=batch):
            yield _fact(row)


async def live_keys(
    connection: Connection, partition: int, batch: int = 1000, after: tuple[int, int] = START
) -> AsyncGenerator[KeptKey, None]:
    """The idempotency keys of events after one that a mended Redis must know. Close it: it holds a transaction."""
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        async for row in connection.cursor(query("live_keys"), partition, *after, prefetch=batch):
            yield KeptKey(*row)


async def events_in_order(connection: Connection, partition: int) -> AsyncGenerator[Fact, None]:
    """As facts_in_order, but a checkout's redemption with its gift, as the outbox has it. Close it."""
    before: Fact | None = None
    async with aclosing(facts_in_order(connection, partition)) as facts:
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
    return decided(event_of([_fact(row) for row in rows])) if rows else None


def event_of(facts: list[Fact]) -> Fact:
    """The event that these facts are of: one of each kind, or a checkout's redemption and gift."""
    first = facts[0]
    if len(facts) == 2 and isinstance(first, Redeemed) and isinstance(facts[1], Assigned):
        return msgspec.structs.replace(first, gift=facts[1])
    return first


def _fact(row: asyncpg.Record) -> Fact:
    (kind, epoch, seq, workspace, book, code, user, at_ms, ip, ua, order, redemption_id, *rest) = row
    value_e4, currency, digits, discount_e4, slot, max_uses, metadata, restore, reason = rest
    about = {
        "epoch": epoch,
        "seq": seq,
        "workspace": workspace,
        "book": book,
        "code": code,
        "user": user,
        "at_ms": at_ms,
    }
    client: dict[str, Any] = {"ip": ip or "", "ua": ua or ""}
    if kind == "A":
        return Assigned(**about, order=order, request=RequestPart(**client))
    if kind == "U":
        return Unassigned(**about, request=RequestPart(**client))
    about |= {"order": order, "redemption_id": redemption_id}
    if kind == "B":
        return RolledBack(**about, restore=restore, request=RequestPart(**client, reason=reason or ""))
    if metadata is not None:
        client["metadata"] = msgspec.Raw(metadata.encode())
    return Redeemed(
        **about,
        value_e4=value_e4,
        currency=currency,
        digits=digits,
        discount_e4=discount_e4,
        slot=slot,
        max_uses=max_uses,
        request=RequestPart(**client),
    )
