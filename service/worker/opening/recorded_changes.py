"""Changes of an open Redis that follow from the record: each only if the values are still as they were read."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple, TypeVar
from uuid import uuid4

import asyncpg

from service.formats.coupon_state import Write
from service.formats.event_id import START, EventId
from service.hot.inspection import ITEMS_A_LOOK, WRONG, Item, Looker
from service.record.partitions import comparisons
from service.record.partitions.partition_rows import read_partition

TURN_MS = 10_000
RENEW_S = TURN_MS / 1000 / 4
RETRY_S = 0.02
WAIT_S = 60.0
TRIES = 20

_T = TypeVar("_T")


class Cannot(Exception):
    """Redis holds something that must not be removed, or other than Postgres records."""


class Changed(Exception):
    """Values changed in Redis between reading and writing. The run is repeated."""


class NotYet(Exception):
    """Something else must happen first, or Redis changes too fast. Try again later."""


class Field(NamedTuple):
    """A place of one value: the kind for lua/look.lua and lua/repair.lua, the key, and the member."""

    kind: str
    key: str
    member: str = ""

    @property
    def item(self) -> Item:
        return Item(self.kind, self.key, self.member)

    def change(self, seen: str | None, to: str | None) -> Write:
        return Write(self.kind, self.key, self.member, seen, to)  # type: ignore[arg-type]


Seen = dict[Field, str | None]


class RecordedChanges:
    """One task's changes of one partition. No comparison runs meanwhile, nor another such task, by the same turn."""

    def __init__(self, pool: asyncpg.Pool, looker: Looker, erasing: asyncio.Lock) -> None:
        """`erasing` is held while users are deleted: both read facts and write Redis."""
        self._pool, self._looker, self._erasing = pool, looker, erasing
        self._token, self._renewed_at = uuid4(), 0.0

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[bool]:
        """Have the partition's turn; False while another process has it."""
        partition = self._looker.partition
        if not await comparisons.take_turn(self._pool, partition, self._token, TURN_MS):
            yield False
            return
        self._renewed_at = time.monotonic()
        try:
            yield True
        finally:
            with contextlib.suppress(Exception):  # the turn expires
                await comparisons.release_turn(self._pool, partition, self._token, whole=False)

    async def renew(self) -> None:
        """Renew the turn if it is time to. Raises LostTurn."""
        if (now := time.monotonic()) - self._renewed_at > RENEW_S:
            self._renewed_at = now
            await comparisons.renew_turn(self._pool, self._looker.partition, self._token, TURN_MS, 0, 0)

    async def repeat(self, run: Callable[[], Awaitable[_T]]) -> _T:
        """Make a run, again if values changed meanwhile. Raises NotYet after TRIES."""
        for _ in range(TRIES):
            await self.renew()
            try:
                async with self._erasing:
                    return await run()
            except Changed:
                await asyncio.sleep(RETRY_S)
        raise NotYet("values change too fast")

    async def look(self, fields: Sequence[Field]) -> tuple[EventId, Seen]:
        """The values of fields, and the last event before they were read. Raises Cannot."""
        at, values = START, list[str | None]()
        for start in range(0, len(fields), ITEMS_A_LOOK):
            look = await self._looker.look([field.item for field in fields[start : start + ITEMS_A_LOOK]])
            if WRONG in look.values:
                raise Cannot("a key has a wrong type")
            at = max(at, look.at)
            values += [None if value is None else str(value) for value in look.values]
        return at, dict(zip(fields, values, strict=True))

    async def repair(self, writes: Sequence[Write]) -> None:
        """Raises Changed if a value is not as it was read."""
        if writes and not await self._looker.repair(writes):
            raise Changed

    async def write(self, field: Field, to: str) -> None:
        """Set one value. Raises Changed."""
        _, seen = await self.look([field])
        await self.repair([field.change(seen[field], to)])

    async def wait_until_recorded(self, at: EventId) -> None:
        """Wait until this event is recorded. Raises NotYet after WAIT_S."""

        async def is_recorded() -> bool:
            return (await read_partition(self._pool, self._looker.partition)).cursor >= at

        await self.wait(is_recorded, "earlier events are not recorded")

    async def wait(self, is_reached: Callable[[], Awaitable[bool]], reason: str) -> None:
        """Wait for a state. Raises NotYet with the reason after WAIT_S."""
        deadline = time.monotonic() + WAIT_S
        while not await is_reached():
            await self.renew()
            if time.monotonic() > deadline:
                raise NotYet(reason)
            await asyncio.sleep(RETRY_S)
