"""Run a script; if it needs facts that Redis no longer stores, fetch them from Postgres and run it again.

hot_path.py, batches.py, histories.py and flash_sale.py call `decide`; the fast lane and batches call `resolve_recall`.
Postgres is only read.
"""

import asyncio
import time
from collections.abc import Sequence

from asyncpg import Pool

from service.engine.domain.errors import Refusal
from service.engine.domain.outcomes import RECALL
from service.engine.hot.decider import Decider, Reply
from service.engine.operations.base import Command
from service.engine.operations.caller import Caller
from service.engine.record.facts.redemption_records import OF_ROLLBACKS, records_of
from service.engine.record.partitions.partition_rows import read_partition
from service.engine.record.pool import ERRORS, is_away
from service.engine.record.shared_pool import current_workspace

AS_OF = "as of"
"""Precedes the moment of the facts, `<nonce>:<epoch>/<erased>` (lua/includes/facts.lua), as the script's reply has it.
The script ignores facts of another moment."""
RECORDED_S, POLL_S = 2.0, 0.02
"""The longest wait for the record, and the pause between two looks."""
MAX_RUNS = 4
"""A run may need other facts than the run before: it got further with those, or something changed in between."""


async def decide(decider: Decider, pool: Pool, caller: Caller, command: Command) -> Reply:
    """Run a command and return its reply. Raises Refusal as Decider.run does, and `unavailable` if it needs facts
    while Postgres is unreachable; nothing has changed then."""
    return await resolve_recall(decider, pool, caller, command, await _run(decider, caller, command))


async def resolve_recall(decider: Decider, pool: Pool, caller: Caller, command: Command, reply: Reply) -> Reply:
    """As decide, for a command that has run once with this reply. A reply that needs facts is [RECALL, their names
    between spaces, the moment that they must be of]."""
    current_workspace.set(caller.workspace)
    as_of, facts = "", list[str]()  # all facts each time: with some of them the script may get further, and need others
    for _ in range(MAX_RUNS - 1):  # one has run already
        if reply[0] != RECALL:
            return reply
        try:
            names = reply[1].split(" ")
            if any(name.startswith(OF_ROLLBACKS) for name in names):  # Postgres has all rollbacks only then
                await _wait_recorded(decider, pool, caller.partition)
            records = await records_of(pool, caller.partition, caller.workspace, names)
        except ERRORS as error:
            if is_away(error):
                raise Refusal.temporary("unavailable") from None
            raise
        if reply[2] != as_of:
            as_of, facts = reply[2], [AS_OF, reply[2]]
        facts += [text for pair in records for text in pair]
        reply = await _run(decider, caller, command, facts)
    if reply[0] == RECALL:
        raise Refusal.temporary("unavailable")
    return reply


async def _wait_recorded(decider: Decider, pool: Pool, partition: int) -> None:
    """Wait until all events of the outbox are recorded. Raises Refusal `unavailable` after RECORDED_S."""
    tail, deadline = await decider.read_tail(partition), time.monotonic() + RECORDED_S
    while (await read_partition(pool, partition)).cursor < tail:
        if time.monotonic() >= deadline:
            raise Refusal.temporary("unavailable")
        await asyncio.sleep(POLL_S)


async def _run(decider: Decider, caller: Caller, command: Command, facts: Sequence[str] = ()) -> Reply:
    return await decider.run(caller.partition, command.script, command.keys, (*command.args, *facts))
