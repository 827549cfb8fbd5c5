"""Whether this process can serve requests, and which partitions it can't serve: for health.py, consistency.py, and the
port of metrics (app.py). Programs compare the reasons, which health.py explains, too: never change one."""

import asyncio
import time
from typing import Literal

from service.engine.domain.errors import Refusal
from service.engine.domain.field_types import Answer
from service.engine.record.pool import ERRORS
from service.server.api.context import Context

CHECK_S = 1.0
"""Time for each server to reply to a check."""

Fault = Literal[
    "keys_outdated",
    "redis_unavailable",
    "closed",
    "postgres_older",
    "waiting_for_old_redis",
    "scripts_missing",
    "unverified",
]
"""Why a partition is not served: health.py says what each means. decision 0074 is about `postgres_older`, 0047
about `waiting_for_old_redis`. A Redis that has lost its gate is `unverified`, too."""

_STATES: dict[str, Literal["open", "behind"]] = {"open": "open", "behind": "behind", "full": "behind"}
"""By the gate's text."""


class UnservedPartition(Answer):
    """A partition whose requests are refused with 503, and the reason."""

    partition: int
    reason: Fault


class Ready(Answer):
    """Whether the process serves at least one partition."""

    status: Literal["ready", "not_ready"]
    failing: list[str]
    partitions: list[UnservedPartition]


async def check_readiness(context: Context) -> Ready:
    """Check this process. Concurrent calls share one check, which bounds what anonymous requests cost both servers."""
    if context.readiness_check is None or context.readiness_check.done():
        context.readiness_check = asyncio.create_task(_check(context))
    return await asyncio.shield(context.readiness_check)


async def _check(context: Context) -> Ready:
    partitions = context.deciding.partitions
    is_postgres_there, states = await asyncio.gather(
        _reaches_postgres(context), asyncio.gather(*(state_of(context, partition) for partition in partitions))
    )
    unserved = [
        UnservedPartition(partition=partition, reason=state)
        for partition, state in zip(partitions, states, strict=True)
        if state not in ("open", "behind")
    ]
    is_redis_there = all(context.decider.link(partition).connected for partition in partitions or [0])
    failing = [] if is_redis_there else ["redis"]
    failing += [] if is_postgres_there else ["postgres"]
    failing += [] if partitions else ["partitions"]
    failing += [f"partition {one.partition}" for one in unserved]
    failing += [f"worker of partition {partition}" for partition in sorted(context.watch.without_worker())]
    status = "not_ready" if len(unserved) == len(partitions) else "ready"
    return Ready(status=status, failing=failing, partitions=unserved)


async def _reaches_postgres(context: Context) -> bool:
    try:
        async with asyncio.timeout(CHECK_S):
            await context.pool.fetchval("SELECT 1")
    except ERRORS:
        return False
    return True


async def state_of(context: Context, partition: int) -> Literal["open", "behind"] | Fault:
    """`behind` includes a gate that is `full`: the partition refuses some requests, and serves the others."""
    if context.keyring.is_outdated(time.monotonic()):
        return "keys_outdated"
    if not context.decider.link(partition).connected:
        return "redis_unavailable"
    if partition not in context.deciding.open:
        return context.deciding.kept_closed.get(partition, "closed")
    if partition not in context.deciding.loaded:
        return "scripts_missing"
    try:
        async with asyncio.timeout(CHECK_S):
            gate = await context.decider.read_verified_gate(partition)
    except (Refusal, TimeoutError):
        return "redis_unavailable"
    return _STATES.get(gate, "unverified")
