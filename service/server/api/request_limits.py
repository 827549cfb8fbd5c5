"""Count requests that have no script of their own, for callers with limits: auth.py calls this. `rates` in the
request's state is what remains; request_middleware.py makes headers of it."""

from typing import Any

from litestar import Request

from service.engine.domain.errors import Refusal
from service.engine.operations.base import Call, Command, render_nothing
from service.engine.operations.caller import Caller
from service.engine.operations.run import with_limits
from service.server.api.context import Context

_UNDECIDED = frozenset(("recovering", "unavailable", "outcome_unknown"))


async def count_request(request: Request[Any, Any, Any], caller: Caller) -> None:
    """Count a request of a caller with limits. Raises Refusal `rate_limited`. While Redis is unavailable, the request
    is accepted uncounted: operators may need it just then."""
    client = request.scope.get("client")
    command = Command("count", (caller.gate, caller.keys.settings), (), render_nothing)
    limited = with_limits(Call(caller, ip=client[0] if client else None), command)
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


def is_counted(request: Request[Any, Any, Any]) -> bool:
    """Whether count_request has counted the request."""
    return "rates" in request.scope["state"]
