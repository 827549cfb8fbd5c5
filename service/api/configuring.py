"""A change of configuration: in Postgres first, then in Redis, and answered after both."""

from collections.abc import Awaitable

from service.api.context import Context
from service.domain.errors import Refusal
from service.domain.identity import Caller


def check_open(context: Context, caller: Caller) -> None:
    """Refusal `recovering` or `unavailable`, before anything is written, where the change couldn't be projected."""
    if caller.partition not in context.open_partitions:
        raise Refusal.passing("recovering")
    if not context.decider.link.connected:
        raise Refusal.passing("unavailable")


async def projected(context: Context, partition: int, version: int, write: Awaitable[None]) -> None:
    """The change of this version is in Redis once this returns.

    Where Redis breaks away just now the change stands all the same, and the worker brings it there: `outcome_unknown`.
    """
    try:
        await write
        await context.projector.seen(partition, version)
    except Refusal as refusal:
        raise Refusal("outcome_unknown", retry_after_ms=refusal.retry_after_ms or 1000) from refusal
