"""Hot operations through Litestar, from the request's bytes to the response. hot_operations.py and coupons.py run them;
the fast lane does the same for usual requests. batches.py and histories.py make a Call. `fingerprint` is stored with an
Idempotency-Key: both ways must make the same one."""

from collections.abc import Awaitable, Callable
from typing import Any

from litestar import Request, Response
from litestar.datastructures import Headers

from service.engine.deciding.recall import decide
from service.engine.domain.errors import Refusal
from service.engine.domain.limits import make_rate_headers
from service.engine.operations import call_headers
from service.engine.operations.base import Call, Command, Rendered
from service.engine.operations.call_headers import clean_user_agent
from service.engine.operations.caller import Caller
from service.engine.operations.run import Raw, begin, begin_decoded, finish, finish_refused, make_call
from service.engine.operations.table import Row
from service.server.api.auth import get_caller, is_session
from service.server.api.context import Context
from service.server.api.durability import RECORDED, Wait, parse_preferred_wait_s
from service.server.api.reading import parse_query, read_json_bytes
from service.server.api.request_limits import count_refused, is_counted
from service.server.api.session_actions import check_action, decide_audited

_Prepared = tuple[Command, Wait | None]


async def perform(request: Request[Any, Any, Any], row: Row, name: str | None) -> Response[Any]:
    """Run an operation on a JSON body; `name` is the one in the path."""
    headers, caller = request.headers, get_caller(request)

    async def prepare() -> _Prepared:
        if request.scope["query_string"]:
            parse_query(request)  # raises Refusal: there are no parameters
        body = await read_json_bytes(request, row.operation.request, call_headers.MAX_BODY_BYTES, headers)
        wait_s = parse_preferred_wait_s(headers) if row.operation.durable else None
        wait = await Wait.begin(request.app.state.context, caller, wait_s)
        return begin(caller, row, make_raw(request, body, headers, name)), wait

    return await _run(request, row, name, caller, prepare)


async def perform_decoded(
    request: Request[Any, Any, Any], row: Row, name: str | None, read: Callable[[], Any]
) -> Response[Any]:
    """Run an operation that changes nothing, from the request struct that `read` returns."""
    caller = get_caller(request)

    async def prepare() -> _Prepared:
        struct, call = read(), call_without_body(request, caller)
        return begin_decoded(row, call, name, struct, counted=is_counted(request)), None

    return await _run(request, row, name, caller, prepare)


async def _run(
    request: Request[Any, Any, Any],
    row: Row,
    name: str | None,
    caller: Caller,
    prepare: Callable[[], Awaitable[_Prepared]],
) -> Response[Any]:
    context: Context = request.app.state.context
    try:
        try:
            command, wait = await prepare()
            acts_on = None if row.reads or not is_session(request) else check_action(row, name)
        except Refusal as refusal:
            raise await count_refused(request, refusal) from None
        if acts_on is None:
            reply = await decide(context.decider, context.pool, caller, command)
        else:
            reply = await decide_audited(context, caller, row, acts_on, command)
    except Refusal as refusal:
        if rejected := finish_refused(row, caller, refusal):
            return _response(rejected)
        raise
    rendered, applied = finish(command, reply, context.decider.durability(caller.partition)), None
    if wait and await wait.finish([rendered]):
        rendered, applied = finish(command, reply, "recorded"), RECORDED
    return _response(rendered, applied)


def call_without_body(request: Request[Any, Any, Any], caller: Caller, *, keyed: bool = True) -> Call:
    """The call of a request whose body is not the operation's. `keyed` is False if its Idempotency-Key is not the
    operation's either."""
    raw = make_raw(request, b"", request.headers)
    if not keyed:
        raw.key = None
    return make_call(caller, raw)


def make_raw(request: Request[Any, Any, Any], body: bytes, headers: Headers, name: str | None = None) -> Raw:
    """The request for service/engine/operations/run.py."""
    client, agent = request.scope.get("client"), headers.get("user-agent")
    return Raw(
        *_address(request),
        body,
        name,
        headers.get("idempotency-key"),
        client[0] if client else None,
        None if agent is None else clean_user_agent(agent),
    )


def fingerprint(request: Request[Any, Any, Any], body: bytes, user: str | None = None) -> str:
    """The fingerprint by which requests with the same Idempotency-Key are compared: method, path, query and body."""
    return call_headers.fingerprint(*_address(request), body, user)


def _address(request: Request[Any, Any, Any]) -> tuple[bytes, bytes, bytes]:
    scope = request.scope
    return scope["method"].encode(), scope["path"].encode(), scope["query_string"]


def _response(rendered: Rendered, applied: str | None = None) -> Response[Any]:
    headers = make_rate_headers(rendered.rates)
    if rendered.replayed:
        headers["Idempotency-Replayed"] = "true"
    if applied:
        headers["Preference-Applied"] = applied
    if rendered.body is None:
        return Response(b"", status_code=rendered.status, headers=headers)
    return Response(rendered.body, status_code=rendered.status, headers=headers, media_type="application/json")
