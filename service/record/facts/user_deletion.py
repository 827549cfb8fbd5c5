"""Users that are deleted: pseudonyms take their place in everything that is recorded of them."""

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
from asyncpg import Pool, Record
from uuid_utils.compat import uuid7

from service.common.byte_runs import SMALL_BYTES, split_by_bytes
from service.formats.event_id import EventId
from service.formats.quarantined_event import replace_user
from service.record.config.audit_log import note
from service.record.partitions.partition_rows import bump_config_version
from service.record.pool import Database
from service.record.queries import query

PAGE = 500
ROWS_AT_ONCE = 5000
_FIRST_TIME = datetime(1, 1, 1, tzinfo=UTC)
_FIRST_ID = UUID(int=0)


class Erasure(msgspec.Struct, frozen=True):
    """A user to be replaced by a pseudonym in what was decided up to (epoch, seq), and in codes up to `position`."""

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
        """The last event in which it is replaced."""
        return EventId(self.epoch, self.seq)


async def begin_erasure(pool: Pool, workspace: int, partition: int, user_id: str, last: EventId) -> str:
    """The pseudonym that the worker now puts for the user in all that was decided up to the event `last`, which must be
    recorded. What the merchant said of the user is deleted."""
    async with pool.acquire() as connection, connection.transaction():
        version = await bump_config_version(connection, partition)
        await connection.execute(query("delete_user"), workspace, user_id)
        asked = (workspace, partition, user_id, f"deleted-{uuid7()}", version, *last)
        pseudonym = await connection.fetchval(query("begin_erasure"), *asked)
        await note(connection, workspace, "user.deleted", pseudonym)
        return pseudonym


async def is_erased(database: Database, workspace: int, pseudonym: str) -> bool:
    """Whether the pseudonym has replaced its user everywhere."""
    return bool(await database.fetchval(query("is_erased"), workspace, pseudonym))


async def pending_erasures(database: Database, partition: int, limit: int) -> list[Erasure]:
    """Users of the partition that are still to be erased."""
    return [Erasure(*row) for row in await database.fetch(query("pending_erasures"), partition, limit)]


async def finish_erasure(database: Database, erasure: Erasure, last: EventId) -> bool:
    """Forget the user; False where it is to be erased again, up to a later event. `last` is not before its end."""
    done = (erasure.workspace, erasure.pseudonym, erasure.version, *last)
    return await database.fetchval(query("finish_erasure"), *done) is not None


async def assignments_of(database: Database, erasure: Erasure) -> AsyncIterator[list[Record]]:
    """Pages of (code, assigned_at, order_id): those that stand, and all that were gifts."""
    after: tuple[datetime, str] = (_FIRST_TIME, "")
    whose = (erasure.workspace, erasure.user_id, *erasure.last)
    while page := await database.fetch(query("page_assignments_to_erase"), *whose, *after, PAGE):
        yield page
        after = page[-1]["assigned_at"], page[-1]["code"]


async def codes_of(database: Database, erasure: Erasure) -> AsyncIterator[list[Record]]:
    """Pages of (code, created_at) that the merchant made the user's."""
    after: tuple[datetime, str] = (_FIRST_TIME, "")
    whose = (erasure.workspace, erasure.user_id, erasure.position)
    while page := await database.fetch(query("page_codes_to_erase"), *whose, *after, PAGE):
        yield page
        after = page[-1]["created_at"], page[-1]["code"]


async def redemptions_of(database: Database, erasure: Erasure, user: str) -> AsyncIterator[list[Record]]:
    """Pages of (redemption_id, epoch, seq, book, code, restore) of what is recorded as this user's or pseudonym's."""
    after = _FIRST_ID
    whose = (erasure.workspace, user, erasure.epoch, erasure.seq)
    while page := await database.fetch(query("page_redemptions_to_erase"), *whose, after, PAGE):
        yield page
        after = page[-1]["redemption_id"]


async def entries_with(
    database: Database, workspace: int, users: Sequence[str], after_event: EventId, last: EventId
) -> AsyncIterator[list[tuple[str, str]]]:
    """Pages of idempotency keys with their entries, of events after one up to another, that may name one of the users;
    of larger ones RUN_BYTES."""
    texts = [*users, *(msgspec.json.encode(user).decode()[1:-1] for user in users)]
    after, between = "", (*after_event, *last)
    while page := await database.fetch(query("page_entries"), workspace, texts, *between, after, PAGE, SMALL_BYTES):
        yield [(row["key"], row["entry"]) for row in page if row["entry"] is not None]
        large = [(row["key"], row["bytes"]) for row in page if row["entry"] is None]
        for part in split_by_bytes(large, lambda one: one[1], PAGE):
            asked = [workspace] * len(part), [key for key, _ in part]
            yield [(row["key"], row["entry"]) for row in await database.fetch(query("kept_entries"), *asked)]
        after = page[-1]["key"]


async def keys_known(database: Database, workspace: int, some: Sequence[str]) -> set[str]:
    """Those of some idempotency keys that are recorded."""
    return {row["key"] for row in await database.fetch(query("keys_known"), workspace, list(some))}


async def keys_after(database: Database, workspace: int, some: Sequence[str], last: EventId) -> set[str]:
    """Those of some idempotency keys that are recorded, of events after one."""
    return {row["key"] for row in await database.fetch(query("keys_after"), workspace, list(some), *last)}


async def change_entries(database: Database, workspace: int, changes: Sequence[tuple[str, str, str]]) -> None:
    """Write entries (key, old, new), as Redis keeps them, where they are still the old ones."""
    await database.execute(query("change_entries"), workspace, *map(list, zip(*changes, strict=True)))


async def erase_facts(database: Database, erasure: Erasure, last: EventId) -> None:
    """The pseudonym in all facts; Redis must have it everywhere already, and all up to the event `last`, decided after
    that, must be recorded."""
    whose = (erasure.workspace, erasure.user_id, erasure.pseudonym)
    up_to = erasure.last
    await _all(database, "erase_unassignments", *whose, *up_to, erasure.position, *last)
    await _all(database, "erase_assignments", *whose, *up_to)
    await _all(database, "erase_owner", *whose, erasure.position)
    await _all(database, "erase_redemptions", *whose, *up_to)
    await _erase_quarantined(database, erasure, last)
    await database.execute(query("erase_audit"), *whose)


async def _all(database: Database, name: str, *args: Any) -> None:
    while await database.execute(query(name), *args, ROWS_AT_ONCE) != "UPDATE 0":
        pass


async def _erase_quarantined(database: Database, erasure: Erasure, last: EventId) -> None:
    after = (-1, -1)
    while page := await database.fetch(query("page_quarantined"), erasure.partition, *last, *after, PAGE):
        for epoch, seq, d, r in page:
            if (changed := _without_user(d, r, erasure)) is not None:
                await database.execute(query("change_quarantined"), erasure.partition, epoch, seq, *changed)
        after = page[-1]["epoch"], page[-1]["seq"]


def _without_user(d: bytes, r: bytes, erasure: Erasure) -> tuple[bytes, bytes] | None:
    """An event's fields with the pseudonym; None where it is not the user's."""
    changed = replace_user(d, erasure.workspace, erasure.user_id, erasure.pseudonym)
    if changed is None:
        return None
    try:
        request = msgspec.json.decode(r, type=dict[str, msgspec.Raw])
    except msgspec.DecodeError:
        request = {}
    kept = {name: value for name, value in request.items() if name not in ("ip", "ua")}
    return changed, msgspec.json.encode(kept)
