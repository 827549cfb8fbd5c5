"""A change of configuration: in Postgres first, then in Redis, and answered after both."""

import asyncio
import time
from collections.abc import Coroutine
from typing import Any

from service.api.context import Context
from service.domain.errors import Refusal

SETTLE_S = 0.9
"""By then every process has read the keys again, and what limits them."""
MAX_AGE_S = 3.0
"""From a change's beginning to its way into Redis. Less than a worker waits before it compares Redis with a Postgres
that was started (service/worker/projection_catchup.py): one that was restored may not know the change."""

LOOK_S = 0.05
"""Between looks for what the worker projects in another's stead."""


def check_open(context: Context, partition: int) -> None:
    """Refusal `recovering` or `unavailable`, before anything is written, where the change couldn't be projected."""
    if partition not in context.open_partitions:
        raise Refusal.temporary("recovering")
    if not context.decider.link.connected:
        raise Refusal.temporary("unavailable")


class Change:
    """One change, made when it is about to be written to Postgres; refuses as check_open does."""

    def __init__(self, context: Context, partition: int) -> None:
        check_open(context, partition)
        self._context, self._partition = context, partition
        self._began, self._epoch = time.monotonic(), context.decider.epoch(partition)

    async def projected(self, version: int, write: Coroutine[Any, Any, None], *, all_before: bool = False) -> None:
        """The change of this version is in Redis once this returns; with `all_before` all earlier ones are, too: what
        it found in Postgres may be of one whose process died on its way.

        Where Redis breaks away just now, or it took too long to come here, the change stands all the same, and the
        worker brings it there: `outcome_unknown`.
        """
        try:
            if not self._is_fresh():
                write.close()
                raise Refusal.temporary("recovering")
            await write
            await self._context.projector.seen(self._partition, version)
            while all_before and await self._context.projector.last_seen(self._partition) < version:
                if not self._is_fresh():
                    raise Refusal.temporary("recovering")
                await asyncio.sleep(LOOK_S)
        except Refusal as refusal:
            raise Refusal("outcome_unknown", retry_after_ms=refusal.retry_after_ms or 1000) from refusal

    def _is_fresh(self) -> bool:
        epoch = self._context.decider.epoch(self._partition)
        return epoch == self._epoch and time.monotonic() - self._began < MAX_AGE_S
