"""Changes of an open Redis that follow from the record: each only if the values are still as they were read.
book_retirer.py, order_forgetter.py and workspace_mover.py call this. Letters of kinds are those of lua/look.lua and
lua/repair.lua."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import ParamSpec, TypeVar

import asyncpg

from service.formats.coupon_state import Write
from service.formats.event_id import START, EventId
from service.hot.inspection import ITEMS_A_LOOK, WRONG, Item, RedisInspector
from service.record.partitions import comparisons
from service.record.partitions.partition_rows import read_partition
from service.worker.waiting import has_recorded, wait_until

RETRY_S = 0.02
WAIT_S = 60.0
TRIES = 20

_T = TypeVar("_T")
_P = ParamSpec("_P")


class RedisDiffers(Exception):
    """Redis holds something that must not be removed, or other than Postgres records."""


class ValuesChanged(Exception):
    """Values changed in Redis between reading and writing. Read and write again."""


class NotYet(Exception):
    """Something else must happen first, or Redis changes too fast. Try again later."""


ItemValues = dict[Item, str | None]


class GuardedChanges:
    """The changes that one task of a worker makes to one partition. During its turn, no comparison and no other such
    task of this worker runs. Comparisons of other processes end without a result."""

    def __init__(
        self, pool: asyncpg.Pool, inspector: RedisInspector, fence: int, erasing: asyncio.Lock, turns: asyncio.Lock
    ) -> None:
        """`erasing` is held while users are deleted: both read facts and write Redis. `turns` is held by the task, or
        the comparison, that runs."""
        self.pool, self.inspector, self.fence, self.erasing, self._turns = pool, inspector, fence, erasing, turns
        self.partition = inspector.partition

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[bool]:
        """Have the partition's turn; False while another task has it, or a comparison runs. Raises LeaseLost."""
        if self._turns.locked():
            yield False
            return
        about = self.pool, self.partition, self.fence
        async with self._turns:
            await comparisons.begin_turn(*about)
            try:
                yield True
            finally:
                with contextlib.suppress(Exception):  # ComparisonRunner ends it then
                    await comparisons.end_turn(*about)

    async def retry_on_change(self, run: Callable[_P, Awaitable[_T]], *args: _P.args, **options: _P.kwargs) -> _T:
        """Make a run, again if values changed meanwhile. Raises NotYet after TRIES."""
        for _ in range(TRIES):
            try:
                async with self.erasing:
                    return await run(*args, **options)
            except ValuesChanged:
                await asyncio.sleep(RETRY_S)
        raise NotYet("values change too fast")

    async def look(self, items: Sequence[Item]) -> tuple[EventId, ItemValues]:
        """The values, and the last event before they were read. Raises RedisDiffers."""
        at, values = START, list[str | None]()
        for start in range(0, len(items), ITEMS_A_LOOK):
            look = await self.inspector.read_values(items[start : start + ITEMS_A_LOOK])
            if WRONG in look.values:
                raise RedisDiffers("a key has a wrong type")
            at = max(at, look.at)
            values += [None if value is None else str(value) for value in look.values]
        return at, dict(zip(items, values, strict=True))

    async def repair(self, writes: Sequence[Write]) -> None:
        """Raises ValuesChanged if a value is not as it was read."""
        if writes and not await self.inspector.repair(writes):
            raise ValuesChanged

    async def change(self, items: Sequence[Item], compute: Callable[[ItemValues], Sequence[Write]]) -> None:
        """Read values and write what follows, again if they changed meanwhile. Raises NotYet, RedisDiffers."""

        async def run() -> None:
            _, seen = await self.look(items)
            await self.repair(compute(seen))

        await self.retry_on_change(run)

    async def write(self, item: Item, to: str) -> None:
        """Set one value, as by `change`."""
        await self.change([item], lambda seen: [item.change(seen[item], to)])

    async def wait_until_recorded(self, at: EventId) -> None:
        """Wait until this event is recorded. Raises NotYet after WAIT_S."""
        late = NotYet("earlier events are not recorded")
        await wait_until(lambda: has_recorded(self.pool, self.partition, at), WAIT_S, late)

    async def wait_until_projected(self) -> None:
        """Wait until Redis has every change of configuration that was made before now. Raises NotYet after WAIT_S."""
        version = (await read_partition(self.pool, self.partition)).config_version

        async def is_projected() -> bool:
            return (await self.inspector.read_values([])).config >= version

        await wait_until(is_projected, WAIT_S, NotYet("an earlier change is not in Redis"))
