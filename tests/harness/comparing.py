"""A comparison of the partition of a service's workspace, in this process."""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack

from service.engine.formats.coupon_state import Difference
from service.server.reconcile.comparison import Outcome, reconcile
from service.server.record import comparisons as record
from tests.harness.service_fixture import Service
from tests.harness.waiting import until

Differences = Sequence[tuple[Difference, str]]
"""Each difference, and what became of it."""


async def compared(
    service: Service, *, repair: bool = False, replica_url: str | None = None
) -> tuple[Outcome, Differences]:
    """What a comparison says."""
    facts, differences = service.run.facts, list[tuple[Difference, str]]()
    async with AsyncExitStack() as pools:
        pool = await pools.enter_async_context(await record.connect(facts["databaseUrl"]))
        replica = None
        if replica_url:
            replica = await pools.enter_async_context(await record.connect_replica(replica_url))
        outcome = await reconcile(
            facts["redisUrl"],
            pool,
            service.partition,
            repair=repair,
            report=lambda difference, state: differences.append((difference, state)),
            replica=replica,
        )
        return outcome, differences


def compare(service: Service, *, repair: bool = False) -> tuple[Outcome, Differences]:
    """As compared, where there is no loop, and once no book is leaving Redis."""
    until(lambda: not asyncio.run(service.fetch("SELECT FROM books WHERE archiving")))
    return asyncio.run(compared(service, repair=repair))
