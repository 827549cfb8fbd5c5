"""Delete users: pseudonyms replace them in everything that is recorded. users.py begins a deletion; user_eraser.py does
it, in Redis before Postgres. Repeat a step as often as you like; the user's id goes last. A new column with a user's id
needs a statement in `erase_facts`."""

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
from asyncpg import Pool, Record
from uuid_utils.compat import uuid7

from service.common.byte_runs import SMALL_BYTES, split_by_bytes
from service.engine.formats.event_id import EventId
from service.engine.formats.quarantined_event import replace_user
from service.engine.record.audit_entries import write_audit
from service.engine.record.partitions.partition_rows import bump_config_version
from service.engine.record.pool import Database, count_changed
from service.engine.record.queries import query

PAGE = 500
ROWS_AT_ONCE = 5000
_FIRST_TIME = datetime(1, 1, 1, tzinfo=UTC)


class Erasure(msgspec.Struct, frozen=True):
    """A user to replace by a pseudonym in events up to (epoch, seq), and in codes up to `position`."""

    workspace: int
    partition: int
    user_id: str
    pseudonym: str
    version: int
    epoch: int
    seq: int
    position: int

    @property
    def last(self) -> EventId:
        """The last event in which to replace the user."""
        return EventId(self.epoch, self.seq)


async def begin_erasure(pool: Pool, workspace: int, partition: int, user_id: str, last: EventId) -> str:
    """Delete the user's configuration, and order the worker to replace the user in all events up to `last`, which
    must be recorded. Return the pseudonym."""
    async with pool.acquire() as connection, connection.transaction():
        version = await bump_config_version(connection, partition)
        await connection.execute(query("delete_user"), workspace, user_id)
        args = (workspace, partition, user_id, f"deleted-{uuid7()}", version, *last)
        pseudonym = await connection.fetchval(query("begin_erasure"), *args)
        await write_audit(connection, workspace, "user.deleted", pseudonym)
        return pseudonym


async def is_erased(database: Database, workspace: int, pseudonym: str) -> bool:
    """Whether the pseudonym has replaced its user everywhere."""
    return bool(await database.fetchval(query("is_erased"), workspace, pseudonym))


async def is_erasing(database: Database, workspace: int) -> bool:
    """Whether a user of the workspace waits for its deletion, or is being deleted."""
    return bool(await database.fetchval(query("is_erasing"), workspace))


async def pending_erasures(
    database: Database, partition: int, limit: int, after: int = 0, busy: Sequence[int] = ()
) -> list[Erasure]:
    """Users to delete of the partition's next workspace after one that is not busy."""
    rows = await database.fetch(query("pending_erasures"), partition, limit, after, busy)
    return [Erasure(*row) for row in rows]


async def finish_erasure(pool: Pool, erasure: Erasure, last: EventId) -> bool:
    """Remove the user's id; False if a later deletion must run first. `last`: an event at or after this one's end.

    Until now the roll-ups of reports took a new user of this name for the deleted one. Recording waits.
    """
    args = (erasure.workspace, erasure.pseudonym, erasure.version, *last, erasure.partition)
    user = (erasure.workspace, erasure.user_id)
    async with pool.acquire() as connection, connection.transaction():
        if await connection.fetchval(query("finish_erasure"), *args) is None:
            return False
        await connection.execute(query("erase_report_user"), *user)
        if await count_changed(connection, query("store_report_users"), *user):
            await connection.execute(query("recount_new_user"), *user, erasure.pseudonym)
    return True


def assignments_of(database: Database, erasure: Erasure) -> AsyncIterator[list[Record]]:
    """Pages of (code, assigned_at, order_id): current assignments, and all gifts."""
    args = (erasure.workspace, erasure.user_id, erasure.pseudonym, *erasure.last)
    return _pages(database, "page_assignments_to_erase", *args, after={"assigned_at": _FIRST_TIME, "code": ""})


def codes_of(database: Database, erasure: Erasure) -> AsyncIterator[list[Record]]:
    """Pages of (code, created_at): codes whose owner the merchant set at upload."""
    args = (erasure.workspace, erasure.user_id, erasure.position)
    return _pages(database, "page_codes_to_erase", *args, after={"created_at": _FIRST_TIME, "code": ""})


def redemptions_of(database: Database, erasure: Erasure, user: str) -> AsyncIterator[list[Record]]:
    """Pages of (redemption_id, epoch, seq, book, code, restore) of this user or pseudonym."""
    args = (erasure.workspace, user, *erasure.last)
    return _pages(database, "page_redemptions_to_erase", *args, after={"redemption_id": UUID(int=0)})


async def entries_with(
    database: Database, workspace: int, users: Sequence[str], after_event: EventId, last: EventId
) -> AsyncIterator[list[tuple[str, str]]]:
    """Pages of idempotency keys with entries that may name one of the users, of events after one up to another; of
    large entries at most RUN_BYTES."""
    texts = [*users, *(msgspec.json.encode(user).decode()[1:-1] for user in users)]
    after, between = "", (*after_event, *last)
    while page := await database.fetch(query("page_entries"), workspace, texts, *between, after, PAGE, SMALL_BYTES):
        yield [(row["key"], row["entry"]) for row in page if row["entry"] is not None]
        large = [(row["key"], row["bytes"]) for row in page if row["entry"] is None]
        for part in split_by_bytes(large, lambda one: one[1], PAGE):
            keys = [workspace] * len(part), [key for key, _ in part]
            yield [(row["key"], row["entry"]) for row in await database.fetch(query("kept_entries"), *keys)]
        after = page[-1]["key"]


async def keys_after(database: Database, workspace: int, some: Sequence[str], last: EventId) -> set[str]:
    """Those of these idempotency keys that are recorded, of events after one."""
    return {row["key"] for row in await database.fetch(query("keys_after"), workspace, list(some), *last)}


async def change_entries(database: Database, workspace: int, changes: Sequence[tuple[str, str, str]]) -> None:
    """Replace entries (key, old, new), unless they have changed."""
    await database.execute(query("change_entries"), workspace, *map(list, zip(*changes, strict=True)))


async def erase_facts(database: Database, erasure: Erasure, last: EventId) -> None:
    """Write the pseudonym into all facts. Redis must have it already, and events up to `last` must be recorded."""
    args = (erasure.workspace, erasure.user_id, erasure.pseudonym)
    up_to = erasure.last
    await _update_all(database, "erase_assignments", *args, *up_to)
    await _update_all(database, "erase_ended_assignments", *args)
    await _update_all(database, "erase_unassignments", *args, *up_to, erasure.position, *last)
    await _update_all(database, "erase_owner", *args, erasure.position)
    await _update_all(database, "erase_redemptions", *args, *up_to)
    await _update_all(database, "erase_job_users", *args)
    await _erase_quarantined(database, erasure, last)
    await database.execute(query("erase_audit"), *args)


async def _update_all(database: Database, name: str, *args: Any) -> None:
    while await count_changed(database, query(name), *args, ROWS_AT_ONCE):
        pass


async def _erase_quarantined(database: Database, erasure: Erasure, last: EventId) -> None:
    args = (erasure.partition, *last)
    async for page in _pages(database, "page_quarantined", *args, after={"epoch": -1, "seq": -1}):
        for epoch, seq, d, r in page:
            if (changed := _without_user(d, r, erasure)) is not None:
                await database.execute(query("change_quarantined"), erasure.partition, epoch, seq, *changed)


async def _pages(database: Database, name: str, *args: Any, after: dict[str, Any]) -> AsyncIterator[list[Record]]:
    """Pages of a query's rows; `after` has the columns of their order, with values before all rows."""
    while page := await database.fetch(query(name), *args, *after.values(), PAGE):
        yield page
        after = {column: page[-1][column] for column in after}


def _without_user(d: bytes, r: bytes, erasure: Erasure) -> tuple[bytes, bytes] | None:
    """The event's fields with the pseudonym, without address and agent; None if the event does not name the user."""
    changed = replace_user(d, erasure.workspace, erasure.user_id, erasure.pseudonym)
    if changed is None:
        return None
    try:
        request = msgspec.json.decode(r, type=dict[str, msgspec.Raw])
    except msgspec.DecodeError:
        request = {}
    kept = {name: value for name, value in request.items() if name not in ("ip", "ua")}
    return changed, msgspec.json.encode(kept)
