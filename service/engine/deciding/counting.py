"""Count requests that no script of their own decides, for callers with limits. request_limits.py, batches.py and the
fast lane call this."""

from service.engine.domain.errors import Refusal
from service.engine.hot.decider import Decider
from service.engine.operations.base import Call, Command, Reply, render_nothing
from service.engine.operations.run import with_limits

UNDECIDED = frozenset(("recovering", "unavailable", "outcome_unknown"))
"""Refusals that leave a request uncounted: while Redis is unavailable, no limit refuses it."""


def make_count(call: Call) -> Command:
    """The command that counts a request of a caller with limits."""
    command = Command("count_request", (call.caller.gate, call.caller.keys.settings), (), render_nothing)
    return with_limits(call, command)


def add_count(refusal: Refusal, reply: Reply | Refusal) -> Refusal:
    """The refusal of a request that was counted after it was refused: `rate_limited` comes first, as for any other."""
    if isinstance(reply, Refusal):
        return refusal if reply.code in UNDECIDED else reply
    refusal.rates = reply[-1]
    return refusal


async def count_refused(decider: Decider, call: Call, refusal: Refusal) -> Refusal:
    """Count a request of a caller with limits that is refused without a script. Returns the refusal, as add_count."""
    count = make_count(call)
    (reply,) = await decider.run_all(call.caller.partition, [(count.script, count.keys, count.args)])
    return add_count(refusal, reply)
