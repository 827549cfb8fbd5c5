"""Many operations of the hot path in one request."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, cast

import msgspec
from litestar import Controller, Request, Response, post

from service.api import problems
from service.api.auth import caller
from service.api.context import Context
from service.api.coupons import BOOK_ID, REDEMPTION
from service.api.documented import documented
from service.api.hot import RECORDED, call_of, coupons_in, last_event, preferred_wait_s, recorded
from service.api.idempotency import Answered, once
from service.api.reading import BATCH_BYTES, json_bytes, query
from service.api.recall import recalled
from service.domain.errors import Refusal
from service.domain.limits import rate_headers
from service.domain.outcomes import RECALL
from service.domain.words import Answer
from service.operations.base import Call, Command, Operation, Rendered, Reply
from service.operations.batch import Batch, read, split
from service.operations.limiting import under_limits
from service.operations.redeem import VALIDATE, unknown_coupon
from service.record.waiting import AnswerScope

_ANSWERS = ("AssignedCoupon", "Lock", "DurableRedemption", "Validation", "Problem")
AT_ONCE = 50
"""Operations: about a millisecond of the loop's time to prepare or to answer, and of Redis's."""

_any_of = [*({"$ref": f"#/components/schemas/{name}"} for name in _ANSWERS), {"type": "null"}]


class Result(Answer):
    """What one operation was answered."""

    status: Annotated[int, msgspec.Meta(description="What the single request would be answered.")]
    body: Annotated[Any, msgspec.Meta(description="As the single request's; null for none.",
                                      extra_json_schema={"anyOf": _any_of})]  # fmt: skip


class Results(Answer):
    """The answers in the order of the operations."""

    results: list[Result]


@dataclass(slots=True)
class _One:
    """One operation on its way; `told` is its script's reply, or why there is none."""

    operation: Operation | None = None
    command: Command | None = None
    told: Reply | Refusal = field(default_factory=list)


@dataclass(slots=True)
class _Ran:
    """What a batch came to."""

    results: list[Rendered]
    changed: bool
    """Whether an operation that changes something was done."""
    unknown: bool
    """Whether nobody knows of one if it was done."""
    recorded: bool


class Batches(Controller):
    """Up to 1,000 operations at once."""

    path = "/v1"

    @post(
        "/batch",
        status_code=200,
        **documented(
            "runBatch", "Run many operations", "Coupons", body=Batch,
            example={"operations": [
                {"op": "redeem", "code": "SUMMER-7QX2", "userId": "user-42", "orderId": "A-1001", "orderValue": 120},
                {"op": "assign", "bookId": BOOK_ID, "userId": "user-43"},
            ]},
            answer={"results": [
                {"status": 201, "body": REDEMPTION | {"durability": "fsynced"}},
                {"status": 409, "body": {
                    "type": "/problems/out_of_stock", "title": "Nothing of this book is left.", "status": 409,
                    "detail": "Nothing of this book is left.", "instance": "/requests/4f1c", "code": "out_of_stock",
                    "requestId": "4f1c",
                }},
            ]},
            refusals="outcome_unknown", idempotent=True, durable=True,
        ),
    )  # fmt: skip
    async def run(self, request: Request[Any, Any, Any]) -> Response[Results]:
        """Decided in their order, each on its own: one that is refused, or can't be read, says so in its place, and the
        others stand. `assign` takes either `code` or `bookId`. Scope `checkout`.

        An `Idempotency-Key` is one for the whole batch. A batch that changed nothing isn't kept, nor one of which an
        answer is `outcome_unknown`; of a request that died, a repeat hears `request_in_progress` for up to a minute and
        runs anew then: give redemptions an `orderId`, with which they happen once."""
        headers = request.headers
        who = caller(request)
        query(request)
        body = await json_bytes(request, BATCH_BYTES, headers)
        operations = split(body)
        wait_s = preferred_wait_s(headers)
        call = call_of(request, who, headers=headers, keyed=False)
        applied, rates = False, ""

        async def act() -> Answered[msgspec.Raw]:
            nonlocal applied, rates
            ran = await _run(request, call, operations, wait_s)
            applied = ran.recorded
            rates = next((result.rates for result in reversed(ran.results) if result.rates), "")
            key = "claimed" if ran.unknown else "kept" if ran.changed else "free"
            return Answered(status=200, body=_joined(ran.results), key=key)

        response = await once(request, who, body, act)
        if applied:
            response.headers["Preference-Applied"] = RECORDED
        response.headers.update(rate_headers(rates))
        return cast("Response[Results]", response)


async def _run(
    request: Request[Any, Any, Any], call: Call, operations: Sequence[msgspec.Raw], wait_s: int | None
) -> _Ran:
    """Read and prepare some, send them in one turn of the loop, and go on with the next once these are told, so that
    nobody else's request waits for a whole batch; then answer each."""
    context: Context = request.app.state.context
    decider, partition = context.decider, call.caller.partition
    moment = decider.moment(partition)
    after = await last_event(context, call.caller) if wait_s is not None else (0, 0)
    ones: list[_One] = []
    for start in range(0, len(operations), AT_ONCE):
        some = [_prepared(call, raw) for raw in operations[start : start + AT_ONCE]]
        sent = [(one, one.command) for one in some if one.command]
        replies = await decider.run_all(
            partition, [(command.script, command.keys, command.args) for _, command in sent]
        )
        for (one, command), reply in zip(sent, replies, strict=True):
            one.told = reply
            if not isinstance(reply, Refusal) and reply[0] == RECALL:
                one.told = await _recalled(context, call, command, reply)
        ones += some
    done = {one.operation for one in ones if not isinstance(one.told, Refusal)}
    unknown = any(isinstance(one.told, Refusal) and one.told.code == "outcome_unknown" for one in ones)
    durability, in_record = "fsynced" if decider.fsynced else "accepted", False
    if wait_s is not None and any(operation and operation.durable for operation in done):
        about = AnswerScope(after, [coupon for one in ones for coupon in _coupons(one, durability)])
        in_record = await recorded(context, call.caller, moment, wait_s, about)
        durability = "recorded" if in_record else durability
    results: list[Rendered] = []
    for start in range(0, len(ones), AT_ONCE):
        results += [_answer(request, call, one, durability) for one in ones[start : start + AT_ONCE]]
        await asyncio.sleep(0)
    return _Ran(results, bool(done - {VALIDATE}), unknown, in_record)


async def _recalled(context: Context, call: Call, command: Command, reply: Reply) -> Reply | Refusal:
    try:
        return await recalled(context.decider, context.pool, call.caller, command, reply)
    except Refusal as refusal:
        return refusal


def _prepared(call: Call, raw: msgspec.Raw) -> _One:
    """An operation and what it runs, or why it is refused before that."""
    one = _One()
    try:
        one.operation, code, struct = read(call.caller, raw)
        one.command = under_limits(call, one.operation.prepare(call, code, struct))
    except Refusal as refusal:
        one.told = refusal
    return one


def _coupons(one: _One, durability: str) -> list[tuple[str, str]]:
    """What an operation's answer is about, where that has a durability."""
    if one.command is None or one.told is None or isinstance(one.told, Refusal):
        return []
    if one.operation is None or not one.operation.durable:
        return []
    return coupons_in(one.command.render(one.told, durability).body)


def _answer(request: Request[Any, Any, Any], call: Call, one: _One, durability: str) -> Rendered:
    if not isinstance(one.told, Refusal):
        assert one.command  # noqa: S101, what was told was asked
        return one.command.render(one.told, durability)
    if one.operation is VALIDATE and one.told.code == "coupon_not_found":
        return unknown_coupon(call.caller, one.told.rates)
    return Rendered(one.told.outcome.status, problems.body_of(request, one.told), rates=one.told.rates)


def _joined(results: Sequence[Rendered]) -> msgspec.Raw:
    parts = [b'{"status":%d,"body":%b}' % (result.status, result.body or b"null") for result in results]
    return msgspec.Raw(b'{"results":[' + b",".join(parts) + b"]}")
