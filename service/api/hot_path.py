"""Hot operations through Litestar, from the request's bytes to the response."""

from typing import Any

from litestar import Request, Response
from litestar.datastructures import Headers

from service.access.caller import Caller
from service.api.auth import caller
from service.api.context import Context
from service.api.durability import RECORDED, Wait, preferred_wait_s
from service.api.reading import json_bytes, query
from service.api.recall import decide
from service.api.request_limits import already_counted
from service.domain.errors import Refusal
from service.domain.limits import make_rate_headers
from service.operations import call_headers
from service.operations.base import Call, Command, Rendered
from service.operations.call_headers import shown_agent
from service.operations.run import Raw, begin, begin_decoded, call_of, finish, finish_refused
from service.operations.table import Row


async def perform(request: Request[Any, Any, Any], row: Row, name: str | None = None) -> Response[Any]:
    """Run an operation on a JSON body; `name` is the one in the path."""
    headers, who = request.headers, caller(request)
    if request.scope["query_string"]:
        query(request)  # refuses it, with its name
    body = await json_bytes(request, call_headers.MAX_BODY_BYTES, headers)
    wait_s = preferred_wait_s(headers) if row.operation.durable else None
    wait = await Wait.begin(request.app.state.context, who, wait_s)
    try:
        command = begin(who, row, raw_of(request, body, headers, name))
    except Refusal as refusal:
        return _response(_finish_refused(row, who, refusal))
    return await _run(request, row, who, command, wait)


async def perform_decoded(request: Request[Any, Any, Any], row: Row, name: str | None, struct: Any) -> Response[Any]:
    """Run an operation that changes nothing on a request struct."""
    who = caller(request)
    try:
        command = begin_decoded(row, call_without_body(request, who), name, struct, counted=already_counted(request))
    except Refusal as refusal:
        return _response(_finish_refused(row, who, refusal))
    return await _run(request, row, who, command, None)


async def _run(
    request: Request[Any, Any, Any], row: Row, who: Caller, command: Command, wait: Wait | None
) -> Response[Any]:
    context: Context = request.app.state.context
    try:
        reply = await decide(context.decider, context.pool, who, command)
    except Refusal as refusal:
        return _response(_finish_refused(row, who, refusal))
    durability, applied = context.decider.durability, None
    if wait and await wait.is_recorded([finish(command, reply, durability)]):
        durability, applied = "recorded", RECORDED
    return _response(finish(command, reply, durability), applied)


def call_without_body(request: Request[Any, Any, Any], who: Caller, *, keyed: bool = True) -> Call:
    """The call of a request without a body of the operation's; not `keyed` where its Idempotency-Key is not the
    operation's."""
    raw = raw_of(request, b"", request.headers)
    if not keyed:
        raw.key = None
    return call_of(who, raw)


def raw_of(request: Request[Any, Any, Any], body: bytes, headers: Headers, name: str | None = None) -> Raw:
    """The request as operations take it."""
    client, agent = request.scope.get("client"), headers.get("user-agent")
    return Raw(
        *_address(request),
        body,
        name,
        headers.get("idempotency-key"),
        client[0] if client else None,
        None if agent is None else shown_agent(agent),
    )


def fingerprint(request: Request[Any, Any, Any], body: bytes, user: str | None = None) -> str:
    """What tells a request from another under the same key: method, path, query and body."""
    return call_headers.fingerprint(*_address(request), body, user)


def _address(request: Request[Any, Any, Any]) -> tuple[bytes, bytes, bytes]:
    scope = request.scope
    return scope["method"].encode(), scope["path"].encode(), scope["query_string"]


def _finish_refused(row: Row, who: Caller, refusal: Refusal) -> Rendered:
    """Raises the refusal where the operation has no answer in its place."""
    rendered = finish_refused(row, who, refusal)
    if rendered is None:
        raise refusal
    return rendered


def _response(rendered: Rendered, applied: str | None = None) -> Response[Any]:
    headers = make_rate_headers(rendered.rates)
    if rendered.replayed:
        headers["Idempotency-Replayed"] = "true"
    if applied:
        headers["Preference-Applied"] = applied
    if rendered.body is None:
        return Response(b"", status_code=rendered.status, headers=headers)
    return Response(rendered.body, status_code=rendered.status, headers=headers, media_type="application/json")
