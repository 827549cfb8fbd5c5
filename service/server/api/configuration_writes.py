"""Changes of configuration: written to Postgres, then to Redis; the response follows after both. Controllers call this
for what Redis or the keyrings must know."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any

from service.engine.domain.errors import Refusal
from service.engine.record.pool import ERRORS
from service.engine.record.processes import read_processes
from service.server.api.context import Context
from service.server.in_postgres.key_rows import read_version

SETTLE_S = 0.9
"""After this time every process that reaches Postgres has read the keys and their limits again by itself."""
MAX_AGE_S = 3.0
"""From the beginning of a change until it is written to Redis. It is less than the time that a worker waits before it
compares Redis with a restarted Postgres (projection_catchup.py), which may be restored without it.
Later only the worker writes it, since it reads Postgres again."""
CATCH_UP_S = 30.0
"""How long a response waits until the worker has written what Redis lacks. Of 8 uploads at once to a Redis that replies
after 10 ms, most wait."""

POLL_S = 0.05
"""Between two reads of the version that is projected."""


def check_open(context: Context, partition: int) -> None:
    """Raise Refusal `recovering` or `unavailable` if Redis can't accept changes now. Call it before any write."""
    if partition not in context.deciding.open:
        raise Refusal.temporary("recovering")
    if not context.decider.link(partition).connected:
        raise Refusal.temporary("unavailable")


async def settle_keys(context: Context) -> None:
    """Wait until every API process has read the keys and limits that this one has just committed: some 10 ms, and at
    most SETTLE_S, if a process does not report it."""
    settled_at = time.monotonic() + SETTLE_S
    with contextlib.suppress(*ERRORS):  # the change is committed
        version = await read_version(context.pool)
        context.key_messages.announce_change()
        readers = await read_processes(context.pool, "api")
        if await context.key_messages.wait_until_read(version, readers, settled_at - time.monotonic()):
            return
    await asyncio.sleep(settled_at - time.monotonic())


@contextlib.contextmanager
def committed() -> Iterator[None]:
    """For what follows a committed change: a Refusal becomes `outcome_unknown`."""
    try:
        yield
    except Refusal as refusal:
        raise Refusal("outcome_unknown", retry_after_ms=refusal.retry_after_ms or 1000) from refusal


class Change:
    """One change. Create it just before the write to Postgres; raises Refusal as check_open does."""

    def __init__(self, context: Context, partition: int) -> None:
        check_open(context, partition)
        self._context, self._partition = context, partition
        self._began, self._epoch = time.monotonic(), context.decider.epoch(partition)

    async def project(self, version: int, write: Coroutine[Any, Any, None], *, all_before: bool = False) -> None:
        """Write the change of this version to Redis by running `write`. When the change is MAX_AGE_S old, leave the
        rest to the worker, and wait for it. With `all_before`, also wait until all earlier changes are in Redis: the
        API process that wrote one of them to Postgres may have died.

        Raises Refusal `outcome_unknown` if the connection to Redis breaks, if another epoch opens, or if the worker
        takes longer than CATCH_UP_S. Postgres has the change then, and the worker projects it.
        """
        with committed():
            if not await self._write(version, write) or all_before:
                await self._wait_projected(version)

    async def _write(self, version: int, write: Coroutine[Any, Any, None]) -> bool:
        """Run `write` while the change is younger than MAX_AGE_S; whether that was enough."""
        rest_s = self._began + MAX_AGE_S - time.monotonic()
        if rest_s <= 0 or not self._is_open():
            write.close()
            return False
        try:
            async with asyncio.timeout(rest_s):
                await write
                await self._context.projector.confirm_version(self._partition, version)
        except TimeoutError:
            return False
        return True

    async def _wait_projected(self, version: int) -> None:
        """Return when Redis has all changes up to this one. Raises Refusal `recovering`."""
        give_up_at = time.monotonic() + CATCH_UP_S
        while self._is_open() and time.monotonic() < give_up_at:
            if await self._context.projector.read_last_version(self._partition) >= version:
                return
            await asyncio.sleep(POLL_S)
        raise Refusal.temporary("recovering")

    async def until(self, is_done: Callable[[], Awaitable[bool]]) -> None:
        """Return when the worker has done what the change needs. Raises Refusal `outcome_unknown`: Postgres has the
        change then, and a repeat waits again."""
        with committed():
            give_up_at = time.monotonic() + CATCH_UP_S
            while not await is_done():
                if time.monotonic() > give_up_at:
                    raise Refusal.temporary("recovering")
                await asyncio.sleep(POLL_S)

    def _is_open(self) -> bool:
        """Whether Redis is the one that was open when the change began."""
        return self._context.decider.is_in_epoch(self._partition, self._epoch)
