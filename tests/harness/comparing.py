"""A comparison of the partition of a service's workspace, in this process."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from typing import Any

from service.engine.formats.coupon_state import Difference
from service.server.in_postgres import comparisons as record
from service.server.reconcile.comparison import Outcome, reconcile
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


def held(service: Service) -> dict[str, Any]:
    """Read all keys of Redis but the outbox, without counts of 0."""
    with service.redis() as client:
        names = [name for name in client.scan_iter(count=5000) if not name.endswith(":outbox")]
        read: dict[str, Callable[[str], Any]] = {
            "string": client.get,
            "list": lambda name: client.lrange(name, 0, -1),
            "zset": lambda name: client.zrange(name, 0, -1, withscores=True),
            "hash": lambda name: {field: value for field, value in client.hgetall(name).items() if value != "0"},
        }
        contents = {name: read[client.type(name)](name) for name in names}
        return {name: value for name, value in contents.items() if value}


def unlike(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """The names of keys that differ."""
    return sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
