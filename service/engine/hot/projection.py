"""Write configuration to Redis: scripts take rows encoded by stored_settings.py.

The API calls this for the changes that it makes, and the worker for all that Redis lacks.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any
from uuid import UUID

from service.common.pace import Pace
from service.engine.domain.configuration import BookRow, CodeRow, UserRow, WorkspaceRow
from service.engine.domain.errors import Refusal
from service.engine.domain.field_types import encode_field
from service.engine.formats import key_names
from service.engine.formats.stored_settings import (
    ConfigVersions,
    book_settings,
    closed_book_settings,
    code_settings,
    parse_versions,
    setting,
    workspace_settings,
)

Run = Callable[[int, str, Sequence[str], Sequence[Any]], Awaitable[list[Any]]]
"""(partition, script, keys, arguments) → reply; raises Refusal."""

CODES_A_RUN, RUNS_AT_ONCE = 200, 4
"""While a partition opens, and no other process uses its Redis."""
PACED_CODES, SHARE, FEW_CODES = 50, 0.5, 20
"""Beside requests: one run at a time of so many codes, which takes at most a millisecond, for that share of the time,
unless there are only so few codes."""


class RedisProjector:
    """Writes rows with scripts that check the gate and the row's version first."""

    def __init__(
        self,
        run: Run,
        on_failed_code: Callable[[CodeRow], None] | None = None,
        pace: Pace | None = None,
    ) -> None:
        """`on_failed_code` gets each code that fails, and the others are written; without it a failure raises Refusal.
        With a pace, lists of more than FEW_CODES are written one small run at a time, at its share of the time."""
        self._run, self._on_failed_code = run, on_failed_code
        self._codes_a_run, self._pace = PACED_CODES if pace else CODES_A_RUN, pace

    async def workspace(self, row: WorkspaceRow) -> None:
        w = key_names.prefix(row.partition, row.workspace)
        names = _names(row.partition, w)
        await self._run(row.partition, "put_workspace", names, (row.version, workspace_settings(row)))

    async def book(self, row: BookRow) -> None:
        w = key_names.prefix(row.partition, row.workspace)
        names = _names(row.partition, w, key_names.books(w), key_names.book(w, row.book))
        await self._run(row.partition, "put_book", names, (row.version, book_settings(row), row.book))
        if row.locks_ended:
            for lock_set in key_names.SETS_OF_LOCKS:
                await self._drop_ended_locks(row, names[:2], f"{lock_set}{row.locks_ended}")

    async def _drop_ended_locks(self, row: BookRow, names: tuple[str, ...], lock_set: str) -> None:
        """Remove the locks that lua/put_book.lua set aside: they can't be used, but still count."""
        more = True
        while more:
            async with self._pace.turn(row.workspace) if self._pace else nullcontext():
                _, _, more = await self._run(row.partition, "sweep_locks", names, (row.book, lock_set))

    async def close_book(self, partition: int, workspace: int, book: int, book_id: UUID, version: int) -> None:
        """Make a book that can't be projected permit nothing."""
        w = key_names.prefix(partition, workspace)
        names = _names(partition, w, key_names.books(w), key_names.book(w, book))
        await self._run(partition, "put_book", names, (version, closed_book_settings(book_id), book))

    async def codes(
        self, workspace: int, partition: int, version: int, rows: Sequence[CodeRow], *, whole: bool = False
    ) -> None:
        """Write at most 5,000 codes. With `whole` the pool waits for the caller's fill_pool."""
        w = key_names.prefix(partition, workspace)
        names = _names(partition, w)
        books: dict[int, list[CodeRow]] = {}
        for row in rows:
            books.setdefault(row.book, []).append(row)
        runs = [
            (book, some[start : start + self._codes_a_run])
            for book, some in books.items()
            for start in range(0, len(some), self._codes_a_run)
        ]
        head = (version, "1" if whole else "")
        at_once = RUNS_AT_ONCE if self._pace is None else 1
        for start in range(0, len(runs), at_once):
            async with nullcontext() if self._pace is None or len(rows) <= FEW_CODES else self._pace.turn(workspace):
                # These go out in one write, and one fsync covers them.
                going = [
                    self._run(partition, "put_codes", names, (book, *head, *_arguments(some)))
                    for book, some in runs[start : start + at_once]
                ]
                replies = await asyncio.gather(*going)
            for (_, some), reply in zip(runs[start : start + at_once], replies, strict=True):
                for position in reply[2:]:
                    if self._on_failed_code is None:
                        raise Refusal.temporary("outcome_unknown")
                    self._on_failed_code(some[int(position)])

    async def coupon(self, row: CodeRow) -> None:
        await self.codes(row.workspace, row.partition, row.version, [row])

    async def user(self, row: UserRow) -> None:
        w = key_names.prefix(row.partition, row.workspace)
        names = _names(row.partition, w, key_names.user(w, encode_field(row.user_id)))
        await self._run(row.partition, "put_user", names, (row.version, setting(row.max_coupons)))

    async def confirm_version(self, partition: int, version: int) -> None:
        """Record that all rows of this version are projected."""
        await self._advance(partition, version - 1, version)

    async def advance_config(self, partition: int, version: int) -> None:
        """Record that all rows up to this version are projected."""
        await self._advance(partition, 0, version)

    async def read_last_version(self, partition: int) -> int:
        """The last version that Redis has with all before it."""
        return (await self.read_versions(partition)).last

    async def read_versions(self, partition: int) -> ConfigVersions:
        return await self._advance(partition, 0, 0)

    async def _advance(self, partition: int, after: int, version: int) -> ConfigVersions:
        names = (key_names.gate(partition), key_names.config(partition), key_names.newest(partition))
        _, last, newest = await self._run(partition, "advance_config", names, (after, version))
        return parse_versions(last, newest)


def _arguments(rows: Sequence[CodeRow]) -> Iterator[Any]:
    """The arguments of put_codes."""
    for row in rows:
        yield from (key_names.bucket(row.code), row.code, code_settings(row))


def _names(partition: int, w: str, *others: str) -> tuple[str, ...]:
    return key_names.gate(partition), key_names.settings(w), *others, key_names.newest(partition)
