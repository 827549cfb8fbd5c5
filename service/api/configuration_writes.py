"""Changes of configuration: written to Postgres, then to Redis; the response follows after both. Controllers call this
for what Redis or the keyrings must know. A Change begins before the write to Postgres, which must not last longer than
MAX_AGE_S."""

import asyncio
import contextlib
import time
from collections.abc import Coroutine, Iterator
from typing import Any

from service.api.context import Context
from service.domain.errors import Refusal
from service.record.config.key_rows import read_version
from service.record.pool import ERRORS
from service.record.processes import read_processes

SETTLE_S = 0.9
"""After this time every process that reaches Postgres has read the keys and their limits again by itself."""
MAX_AGE_S = 3.0
"""From the beginning of a change until it is written to Redis. It is less than the time that a worker waits before it
compares Redis with a restarted Postgres (service/worker/projection_catchup.py), which may be restored without it."""

POLL_S = 0.05
"""Between two reads of the version that is projected."""


def check_open(context: Context, partition: int) -> None:
    """Raise Refusal `recovering` or `unavailable` if Redis can't accept changes now. Call it before any write."""
    if partition not in context.open_partitions:
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
        if await context.key_messages.until_read(version, readers, settled_at - time.monotonic()):
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
        """Write the change of this version to Redis by running `write`. With `all_before`, also wait until all earlier
        changes are in Redis: the API process that wrote one of them to Postgres may have died.

        Raises Refusal `outcome_unknown` if Redis is lost meanwhile, or the change is older than MAX_AGE_S. The change
        is committed in Postgres then, and the worker projects it.
        """
        with committed():
            if not self._is_fresh():
                write.close()
                raise Refusal.temporary("recovering")
            await write
            await self._context.projector.seen(self._partition, version)
            while all_before and await self._context.projector.last_seen(self._partition) < version:
                if not self._is_fresh():
                    raise Refusal.temporary("recovering")
                await asyncio.sleep(POLL_S)

    def _is_fresh(self) -> bool:
        is_open = self._context.decider.is_since(self._partition, self._epoch)
        return is_open and time.monotonic() - self._began < MAX_AGE_S
