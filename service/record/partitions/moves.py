"""Moves of workspaces between partitions (docs/decisions/0055): the orders in `moves`, and the transaction of the rows.
`scrip move` orders and cancels; the source's worker (service/worker/moving/) does the rest."""

import time
from collections.abc import Sequence
from typing import Literal, cast

import asyncpg
import msgspec

from service.common.pace import Pace
from service.formats.event_id import EventId
from service.record.partitions.partition_rows import bump_config_version, keep_lease, read_partition
from service.record.pool import LONG_S, PAUSING, Connection, Database, set_locally
from service.record.processes import VERSION_STAYS
from service.record.queries import query

State = Literal["ordered", "running", "clearing", "done", "failed"]

_CLOSING = {"statement_timeout": "25s", "lock_timeout": "300ms", "idle_in_transaction_session_timeout": "8s"}
"""While other changes of configuration wait, a process that hangs must not keep its locks. A change that waits for one
of this transaction's rows goes first: the wait ends before Postgres looks for deadlocks."""
QUICK_S, CATCH_UP_TRIES = 0.1, 20
CODES_AT_ONCE, SHARE = 500, 1 / 3
"""Codes are moved so many at a time, for that share of the time: Postgres has other requests, too."""
SWITCHING = "moves rows in Postgres, and copies changed keys"
"""The stage of a move in which no deletion of a user should begin: it would wait, or the rows be moved again."""


class CannotMove(Exception):
    """Something else must happen first. The text says what."""


class InChange(Exception):
    """A user of the workspace is to be deleted, or a book leaves Redis or returns. That goes first."""


class Move(msgspec.Struct, frozen=True):
    """The last move of a workspace."""

    workspace: int
    source: int
    target: int
    state: State
    reason: str
    """What the worker does or waits for, or why the last attempt ended."""
    attempts: int
    total: int
    done: int
    """Keys: copied, and in `total` those to be copied, too. A key that changes is copied again."""
    closed_ms: int | None
    """How long the workspace was closed, for the worker."""


async def order_move(database: Database, workspace: int, source: int, target: int) -> bool:
    """False if the workspace is not in the source, or another move of it is not finished."""
    return await database.fetchval(query("order_move"), workspace, source, target) is not None


async def cancel_move(database: Database, workspace: int) -> bool:
    """False if a worker has begun the move, or there is none."""
    return await database.fetchval(query("cancel_move"), workspace) is not None


async def read_move(database: Database, workspace: int) -> Move | None:
    row = await database.fetchrow(query("read_move"), workspace)
    return row and Move(*row)


async def next_move(database: Database, source: int, tried: Sequence[int]) -> Move | None:
    """The next unfinished move from a partition: one that is running, else the oldest ordered one, else one that only
    has to clear its old keys. Except for the running one, those of `tried` workspaces come last, in this order."""
    row = await database.fetchrow(query("next_move"), source, tried)
    return row and Move(*row)


async def other_versions(database: Database, version: str) -> list[str]:
    """The versions of other builds that run."""
    return [row["version"] for row in await database.fetch(query("other_versions"), version, VERSION_STAYS)]


async def is_in_change(database: Database, workspace: int) -> bool:
    """Whether a user of the workspace is being deleted, or a book moves between Redis and Postgres."""
    return bool(await database.fetchval(query("is_in_change"), workspace))


async def is_switching(database: Database, workspace: int) -> bool:
    """Whether a worker moves a workspace's rows now."""
    return bool(await database.fetchval(query("is_switching"), workspace, SWITCHING))


async def estimate_keys(database: Database, workspace: int) -> int:
    """Roughly the number of a workspace's keys."""
    return cast("int", await database.fetchval(query("estimate_keys"), workspace))


async def advance_move(database: Database, workspace: int, done: int, total: int, stage: str) -> None:
    await database.execute(query("advance_move"), workspace, done, total, stage)


async def note_reason(database: Database, workspace: int, reason: str) -> None:
    """Store why an unfinished move does not go on."""
    await database.execute(query("note_reason_of_move"), workspace, reason)


async def end_move(database: Database, workspace: int, state: State, reason: str = "") -> None:
    await database.execute(query("end_move"), workspace, state, reason)


async def begin_move(pool: asyncpg.Pool, move: Move, fence: int) -> None:
    """Begin an attempt, and give the settings a new version: if Postgres is restored to a time before this, Redis is
    ahead of it, and is rebuilt. Raises LeaseLost, CannotMove, Refusal."""
    async with pool.acquire() as connection, connection.transaction():
        await _renumber(connection, move, fence)
        if await connection.fetchval(query("begin_move"), move.workspace) is None:
            raise CannotMove("the move was cancelled")


async def reopen(pool: asyncpg.Pool, move: Move, fence: int) -> None:
    """Let the source project settings again, with a version newer than the leaving's. Raises LeaseLost, Refusal."""
    async with pool.acquire() as connection, connection.transaction():
        await _renumber(connection, move, fence)


async def _renumber(connection: Connection, move: Move, fence: int) -> None:
    await keep_lease(connection, move.source, fence)
    version = await bump_config_version(connection, move.source, move.workspace)
    await connection.execute(query("renumber_workspace"), move.workspace, version)


async def moved_after(database: Database, partition: int, event: EventId) -> bool:
    """Whether a workspace arrived in the partition after an event."""
    return bool(await database.fetchval(query("moved_after"), partition, *event))


async def workspaces_elsewhere(database: Database, partition: int) -> list[int]:
    """The workspaces that have moved, and are not in this partition."""
    return [row["workspace"] for row in await database.fetch(query("workspaces_elsewhere"), partition)]


class Switch:
    """The transaction that moves a workspace's rows: all of them with its commit, or none.

    Facts, codes and users are moved before the workspace is closed, and those that came since while it is closed. Only
    the worker and other changes of configuration write these rows, and the transaction never keeps the worker waiting.
    """

    def __init__(self, connection: Connection, move: Move) -> None:
        self._connection, self._move = connection, move
        self._after = EventId(0, 0)
        """All facts up to this event are moved."""
        self._version = 0
        self._versions: dict[int, int] = {}
        self._where = (move.workspace, move.source, move.target)

    async def move_facts(self) -> None:
        """Move the facts up to now."""
        await set_locally(self._connection, PAUSING)
        await self.move_new_facts()

    async def move_new_facts(self) -> None:
        """Move the facts since the last call: then few are left for the time while the workspace is closed."""
        cursor = (await read_partition(self._connection, self._move.source)).cursor
        if cursor == self._after:
            return
        await self._connection.execute(query("move_facts"), *self._where, *self._after, timeout=LONG_S)
        self._after = cursor

    async def catch_up(self) -> None:
        """Move new facts until that takes a moment."""
        for _ in range(CATCH_UP_TRIES):
            began = time.monotonic()
            await self.move_new_facts()
            if time.monotonic() - began < QUICK_S:
                return

    def check(self) -> None:
        """Raises CannotMove if Postgres has ended the transaction."""
        try:
            is_closed = self._connection.is_closed()
        except asyncpg.InterfaceError:  # the pool has taken it back
            is_closed = True
        if is_closed:
            raise CannotMove("Postgres has ended the connection")

    async def keep(self) -> None:
        """Run a statement, so that Postgres does not end the transaction as idle. Raises CannotMove."""
        self.check()
        await self._connection.execute("SELECT 1")

    async def move_codes(self) -> None:
        """Move the codes and users up to now. Other changes of these wait until the end of the transaction."""
        await set_locally(self._connection, PAUSING)
        version = await self._connection.fetchval(query("read_config_version"), self._move.source)
        self._version = cast("int", version)
        await self._move_codes(0, Pace(SHARE))

    async def lock(self) -> dict[int, int]:
        """Let other changes of configuration in both partitions wait; return their versions. Raises InChange."""
        await set_locally(self._connection, _CLOSING)
        both = [self._move.source, self._move.target]
        rows = await self._connection.fetch(query("lock_config_versions"), both)
        if await is_in_change(self._connection, self._move.workspace):
            raise InChange
        await self._move_codes(self._version, Pace(1))
        self._versions = dict(rows)
        await set_locally(self._connection, {"lock_timeout": "5s"})
        return self._versions

    async def move_rest(self) -> None:
        """Move the last facts, now that the workspace is closed and everything is recorded."""
        await self.move_new_facts()
        await self._connection.execute(query("move_quarantined"), *self._where)

    async def move_workspace(self, fence: int, epoch: int, target_epoch: int, arrived: EventId, closed_ms: int) -> None:
        """Move the workspace's own row. Raises CannotMove if one of the partitions was opened anew, or the source has
        another worker; until the commit, neither can happen."""
        move = self._move
        if not target_epoch > epoch:
            raise CannotMove("the target's epoch is older than the source's")
        held = await self._connection.fetch(
            query("lock_epochs_of_move"), move.source, fence, epoch, move.target, target_epoch
        )
        if len(held) != 2:
            raise CannotMove(f"partition {move.source} or {move.target} was opened anew, or has another worker")
        version = max(self._versions.values()) + 1
        args = (*self._where, version, *arrived, closed_ms)
        if await self._connection.fetchval(query("move_workspace"), *args) is None:
            raise CannotMove("the workspace is in another partition")

    async def _move_codes(self, after: int, pace: Pace) -> None:
        await self._connection.execute(query("move_users"), *self._where, after, timeout=LONG_S)
        last: int | None = after
        while last is not None:
            async with pace.turn():
                last = await self._connection.fetchval(query("move_codes"), *self._where, last, CODES_AT_ONCE)
