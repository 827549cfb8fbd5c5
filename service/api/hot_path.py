"""The hot path through Litestar: one way for every operation from the request's bytes to the answer's."""

import re
from typing import Any

import msgspec
from litestar import Request, Response
from litestar.datastructures import Headers

from service.access.caller import Caller
from service.api.auth import caller
from service.api.context import Context
from service.api.reading import json_bytes, query
from service.api.recall import decide
from service.api.request_limits import already_counted
from service.domain.decoding import decode
from service.domain.errors import Refusal, malformed
from service.domain.field_types import word
from service.domain.limits import rate_headers
from service.operations import call_headers
from service.operations.base import Call, Operation, Rendered
from service.operations.call_headers import make_call, shown_agent
from service.operations.limited_command import under_limits
from service.operations.redeem import VALIDATE, unknown_coupon
from service.record.facts.recorded_wait import AnswerScope

_preference = re.compile(r"\s*([A-Za-z]+)\s*(?:=\s*\"?([^\s\",;]*)\"?)?\s*(?:;[^,]*)?\Z").match
DEFAULT_WAIT_S, MAX_WAIT_S = 2, 10
RECORDED = "durability=recorded"
"""The preference that was met."""


async def perform(request: Request[Any, Any, Any], operation: Operation, code: str | None = None) -> Response[Any]:
    """Run an operation on a JSON body."""
    headers, who = request.headers, caller(request)
    if request.scope["query_string"]:
        query(request)  # refuses it, with its name
    body = await json_bytes(request, call_headers.MAX_BODY_BYTES, headers)
    call = call_of(request, who, body, headers)
    struct = decode(operation.decoder, body) if who.user is None else operation.own(who, body)
    wait_s = preferred_wait_s(headers) if operation.durable else None
    return await carry_out(request, operation, call, code, struct, wait_s)


async def carry_out(
    request: Request[Any, Any, Any],
    operation: Operation,
    call: Call,
    code: str | None,
    struct: Any,
    wait_s: int | None = None,
) -> Response[Any]:
    """Run an operation on its request struct; `wait_s` is how long it may take to be recorded, where that is wanted."""
    context: Context = request.app.state.context
    caller = call.caller
    moment = context.decider.moment(caller.partition)
    after = await last_event(context, caller) if wait_s is not None else (0, 0)
    try:
        command = operation.prepare(call, code, struct)
        if not already_counted(request):
            command = under_limits(call, command)
        reply = await decide(context.decider, context.pool, caller, command)
    except Refusal as refusal:
        if operation is VALIDATE and refusal.code == "coupon_not_found":
            return _response(unknown_coupon(caller, refusal.rates))
        raise
    durability, applied = "fsynced" if context.decider.fsynced else "accepted", None
    if wait_s is not None:
        about = AnswerScope(after, coupons_in(command.render(reply, durability).body))
        if await recorded(context, caller, moment, wait_s, about):
            durability, applied = "recorded", RECORDED
    return _response(command.render(reply, durability), applied)


def call_of(
    request: Request[Any, Any, Any],
    caller: Caller,
    body: bytes = b"",
    headers: Headers | None = None,
    *,
    keyed: bool = True,
) -> Call:
    """What the request says beyond its body; not `keyed` where its Idempotency-Key is not the operation's."""
    headers = request.headers if headers is None else headers
    client, agent = request.scope.get("client"), headers.get("user-agent")
    return make_call(
        caller,
        headers.get("idempotency-key") if keyed else None,
        *_address(request),
        body,
        client[0] if client else None,
        None if agent is None else shown_agent(agent),
    )


def fingerprint(request: Request[Any, Any, Any], body: bytes, user: str | None = None) -> str:
    """What tells a request from another under the same key: method, path, query and body."""
    return call_headers.fingerprint(*_address(request), body, user)


def _address(request: Request[Any, Any, Any]) -> tuple[bytes, bytes, bytes]:
    scope = request.scope
    return scope["method"].encode(), scope["path"].encode(), scope["query_string"]


def preferred_wait_s(headers: Headers) -> int | None:
    """Seconds to wait for the record, where the request prefers that; unknown preferences are ignored (RFC 7240)."""
    prefer = headers.getall("prefer", [])
    if not prefer:
        return None
    found: dict[str, str] = {}
    for part in ",".join(prefer).split(","):
        if match := _preference(part):
            found.setdefault(match[1].lower(), match[2] or "")
    if found.get("durability") != "recorded":
        return None
    wait = found.get("wait", str(DEFAULT_WAIT_S))
    if not wait.isdecimal() or int(wait[:9]) > MAX_WAIT_S:
        raise malformed("Prefer", f"wait must be a number of seconds, at most {MAX_WAIT_S}")
    return int(wait)


async def last_event(context: Context, caller: Caller) -> tuple[int, int]:
    """The last event of the caller's partition; before all where that can't be read."""
    try:
        return await context.decider.tail(caller.partition)
    except Refusal:
        return 0, 0


def coupons_in(body: bytes | None) -> list[tuple[str, str]]:
    """The codes that an answer names, at its top and one level below, each with its user ('' for none): a coupon, a
    redemption, a checkout's both, an order's redemptions."""
    answer = msgspec.json.decode(body) if body else {}
    below = [part for value in answer.values() for part in (value if isinstance(value, list) else [value])]
    named = [part for part in (answer, *below) if isinstance(part, dict) and isinstance(part.get("code"), str)]
    return [(part["code"], "" if part.get("userId") is None else word(part["userId"])) for part in named]


async def recorded(
    context: Context, caller: Caller, moment: tuple[int, int], wait_s: int, about: AnswerScope | None = None
) -> bool:
    """Whether what was decided just now, at this moment of the decider's, is committed in Postgres, within so many
    seconds: of an answer all of its events, else as a read has to wait."""
    try:
        tail_epoch, seq = await context.decider.tail(caller.partition)
    except Refusal:
        return False
    if (tail_epoch, context.decider.moment(caller.partition)) != (moment[0], moment):
        return False  # that Redis is gone, or has lost its end: another tail says nothing of it
    if about is None:
        return await context.recorded.wait(caller.partition, tail_epoch, seq, wait_s * 1000)
    to = tail_epoch, seq
    return await context.recorded.wait_recorded(caller.partition, to, wait_s * 1000, caller.workspace, about)


def _response(rendered: Rendered, applied: str | None = None) -> Response[Any]:
    headers = rate_headers(rendered.rates)
    if rendered.replayed:
        headers["Idempotency-Replayed"] = "true"
    if applied:
        headers["Preference-Applied"] = applied
    if rendered.body is None:
        return Response(b"", status_code=rendered.status, headers=headers)
    return Response(rendered.body, status_code=rendered.status, headers=headers, media_type="application/json")
