"""Facts that a script needs and Redis no longer has: fetched from Postgres, and handed to the script, which decides."""

import asyncio
import time
from collections.abc import Sequence

from service.access.caller import Caller
from service.domain.errors import Refusal
from service.domain.outcomes import RECALL
from service.hot.decider import Decider, Reply
from service.operations.base import Command
from service.record.facts.redemption_records import ORDER, records_of
from service.record.partitions.partition_rows import read_partition
from service.record.pool import ERRORS, Database, is_away

AS_OF = "as of"
"""Before the moment that facts are of, which the script said; it believes no others."""
RECORDED_S, LOOK_S = 2.0, 0.02
MOST_RUNS = 4
"""A run may need facts of what changed since the one before it; more often than so nothing changes that much."""


async def decide(decider: Decider, database: Database, caller: Caller, command: Command) -> Reply:
    """A command's reply. Raises Refusal as Decider.run does; also `unavailable`, with nothing changed, where facts
    are needed from a Postgres that is away."""
    return await recalled(decider, database, caller, command, await _run(decider, caller, command))


async def recalled(decider: Decider, database: Database, caller: Caller, command: Command, reply: Reply) -> Reply:
    """As decide, where the command was run once."""
    as_of, facts = "", list[str]()  # all of them each time: with the first a script may come to where it needs others
    for _ in range(MOST_RUNS - 1):
        if reply[0] != RECALL:
            return reply
        try:
            names = reply[1].split(" ")
            if any(name.startswith(ORDER) for name in names):
                await _recorded(decider, database, caller.partition)
            found = await records_of(database, caller.partition, caller.workspace, names)
        except ERRORS as error:
            if is_away(error):
                raise Refusal.temporary("unavailable") from None
            raise
        if reply[2] != as_of:
            as_of, facts = reply[2], [AS_OF, reply[2]]
        facts += [text for pair in found for text in pair]
        reply = await _run(decider, caller, command, facts)
    if reply[0] == RECALL:
        raise Refusal.temporary("unavailable")
    return reply


async def _recorded(decider: Decider, database: Database, partition: int) -> None:
    """Wait until everything that Redis decided is recorded: what is asked names no event. Refusal `unavailable` where
    it isn't after RECORDED_S."""
    tail, deadline = await decider.tail(partition), time.monotonic() + RECORDED_S
    while (await read_partition(database, partition)).cursor < tail:
        if time.monotonic() >= deadline:
            raise Refusal.temporary("unavailable")
        await asyncio.sleep(LOOK_S)


async def _run(decider: Decider, caller: Caller, command: Command, facts: Sequence[str] = ()) -> Reply:
    return await decider.run(caller.partition, command.script, command.keys, (*command.args, *facts))
