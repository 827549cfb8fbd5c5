"""Count requests that have no script of their own, for callers with limits: auth.py and batches.py call this. `rates`
in the request's state is what remains; request_middleware.py makes headers of it."""

from typing import Any

from litestar import Request

from service.engine.domain.errors import Refusal
from service.engine.operations.base import Call, Command, Reply, render_nothing
from service.engine.operations.caller import Caller
from service.engine.operations.run import with_limits
from service.server.api.context import Context

_UNDECIDED = frozenset(("recovering", "unavailable", "outcome_unknown"))


async def count_request(request: Request[Any, Any, Any], caller: Caller) -> None:
    """Count a request of a caller with limits. Raises Refusal `rate_limited`. While Redis is unavailable, the request
    is accepted uncounted: operators may need it just then."""
    client = request.scope.get("client")
    limited = make_count(Call(caller, ip=client[0] if client else None))
    context: Context = request.app.state.context
    state = request.scope["state"]
    try:
        reply = await context.decider.run(caller.partition, limited.script, limited.keys, limited.args)
    except Refusal as refusal:
        if refusal.code not in _UNDECIDED:
            raise
        state["rates"] = ""
    else:
        state["rates"] = reply[-1]


def make_count(call: Call) -> Command:
    """The command that counts a request of a caller with limits."""
    command = Command("count", (call.caller.gate, call.caller.keys.settings), (), render_nothing)
    return with_limits(call, command)


def add_count(refusal: Refusal, reply: Reply | Refusal) -> Refusal:
    """The refusal of a request that was counted after it was refused: `rate_limited` comes first, as for any other."""
    if isinstance(reply, Refusal):
        return refusal if reply.code in _UNDECIDED else reply
    refusal.rates = reply[-1]
    return refusal


def is_counted(request: Request[Any, Any, Any]) -> bool:
    """Whether count_request has counted the request."""
    return "rates" in request.scope["state"]
