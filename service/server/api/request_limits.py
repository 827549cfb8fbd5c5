"""Count requests that have no script of their own, for callers with limits: auth.py, hot_path.py and batches.py call
this. `rates` in the request's state is what remains; request_middleware.py makes headers of it."""

from typing import Any

from litestar import Request

from service.engine.deciding import counting
from service.engine.domain.errors import Refusal
from service.engine.operations.base import Call
from service.engine.operations.caller import Caller
from service.server.api.context import Context


async def count_request(request: Request[Any, Any, Any], caller: Caller) -> None:
    """Count a request of a caller with limits. Raises Refusal `rate_limited`. While Redis is unavailable, the request
    is accepted uncounted: operators may need it just then."""
    limited = counting.make_count(_make_call(request, caller))
    context: Context = request.app.state.context
    state = request.scope["state"]
    try:
        reply = await context.decider.run(caller.partition, limited.script, limited.keys, limited.args)
    except Refusal as refusal:
        if refusal.code not in counting.UNDECIDED:
            raise
        state["rates"] = ""
    else:
        state["rates"] = reply[-1]


async def count_refused(request: Request[Any, Any, Any], refusal: Refusal) -> Refusal:
    """Count an authenticated request that is refused before its script, if nothing has counted it and its caller has
    limits. Returns its refusal."""
    caller: Caller = request.scope["state"]["caller"]
    if not caller.limits or is_counted(request):
        return refusal
    return await counting.count_refused(request.app.state.context.decider, _make_call(request, caller), refusal)


def is_counted(request: Request[Any, Any, Any]) -> bool:
    """Whether count_request has counted the request."""
    return "rates" in request.scope["state"]


def _make_call(request: Request[Any, Any, Any], caller: Caller) -> Call:
    client = request.scope.get("client")
    return Call(caller, ip=client[0] if client else None)
