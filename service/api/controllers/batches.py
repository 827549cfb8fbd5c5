"""Many operations of the hot path in one request."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, cast

import msgspec
from litestar import Controller, Request, Response, post

from service.api.auth import caller
from service.api.context import Context
from service.api.documented import documented
from service.api.durability import RECORDED, Wait, preferred_wait_s
from service.api.hot_path import call_without_body
from service.api.idempotency import Answered, once
from service.api.reading import BATCH_BYTES, json_bytes, query
from service.api.recall import decide, recalled
from service.domain.errors import Refusal
from service.domain.field_types import Answer, canonicalize_code, encode_field
from service.domain.limits import make_rate_headers
from service.formats.batch_answers import KeptBatch, KeptReply, Said, is_kept_batch, keep_batch, read_batch, reply_of
from service.operations.base import Call, Command, Rendered, Reply
from service.operations.batch import Batch, read, split
from service.operations.document_parts import BOOK_ID, REDEMPTION
from service.operations.fact_lookup import Records, prepare_records, read_records
from service.operations.problem_document import problem
from service.operations.run import begin_decoded, finish, finish_refused
from service.operations.table import VALIDATE, Row

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

    row: Row | None = None
    command: Command | None = None
    told: Reply | Refusal = field(default_factory=list)
    code: str | None = None
    struct: Any = None

    @property
    def said(self) -> Said:
        """What the operation itself says, and what is kept of its answer need not."""
        user, order = getattr(self.struct, "user_id", None), getattr(self.struct, "order_id", None)
        return Said(canonicalize_code(self.code or "") or "-", encode_field(user), encode_field(order))


@dataclass(slots=True)
class _Ran:
    """What a batch came to."""

    ones: list[_One]
    results: list[Rendered]
    durability: str
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
            refusals="outcome_unknown", counted=True, idempotent=True, durable=True,
        ),
    )  # fmt: skip
    async def run(self, request: Request[Any, Any, Any]) -> Response[Results]:
        """Decided in their order, each on its own: one that is refused, or can't be read, says so in its place, and the
        others stand. `assign` takes either `code` or `bookId`. Scope `checkout`.

        An `Idempotency-Key` is one for the whole batch. Where every operation was refused, or only validated, nothing
        is kept under the key: a repeat of the batch is decided again, and may succeed. Where one was done, the repeat
        gets the same answer, its refusals included. An answer with `outcome_unknown` is not kept. After a request that
        died, a repeat is refused with `request_in_progress` for up to a minute, and decided again then: give
        redemptions an `orderId`, with which they happen once."""
        headers = request.headers
        who = caller(request)
        query(request)
        body = await json_bytes(request, BATCH_BYTES, headers)
        operations = split(body)
        wait_s = preferred_wait_s(headers)
        call = call_without_body(request, who, keyed=False)
        applied, rates = False, ""

        async def act() -> Answered[msgspec.Raw]:
            nonlocal applied, rates
            ran = await _run(request, call, operations, wait_s)
            applied = ran.recorded
            rates = next((result.rates for result in reversed(ran.results) if result.rates), "")
            if ran.unknown or not ran.changed or "idempotency-key" not in headers:
                return Answered(status=200, body=_joined(ran.results), key="claimed" if ran.unknown else "free")
            replies = ((one.said, one.told) for one in ran.ones)
            reference = keep_batch(ran.durability, request.scope["state"]["request_id"], replies)
            return Answered(status=200, body=_joined(ran.results), reference=reference)

        async def restore(kept: bytes) -> bytes:
            text = kept.decode()
            return await _restored(request, call, operations, read_batch(text)) if is_kept_batch(text) else kept

        response = await once(request, who, body, act, restore)
        if applied:
            response.headers["Preference-Applied"] = RECORDED
        response.headers.update(make_rate_headers(rates))
        return cast("Response[Results]", response)


async def _run(
    request: Request[Any, Any, Any], call: Call, operations: Sequence[msgspec.Raw], wait_s: int | None
) -> _Ran:
    """Read and prepare some, send them in one turn of the loop, and go on with the next once these are told, so that
    nobody else's request waits for a whole batch; then answer each."""
    context: Context = request.app.state.context
    decider, partition = context.decider, call.caller.partition
    wait = await Wait.begin(context, call.caller, wait_s)
    ones: list[_One] = []
    for start in range(0, len(operations), AT_ONCE):
        some = [_prepared(call, raw) for raw in operations[start : start + AT_ONCE]]
        sent = [(one, one.command) for one in some if one.command]
        replies = await decider.run_all(
            partition, [(command.script, command.keys, command.args) for _, command in sent]
        )
        for (one, command), reply in zip(sent, replies, strict=True):
            one.told = reply if isinstance(reply, Refusal) else await _recalled(context, call, command, reply)
        ones += some
    done = [one for one in ones if not isinstance(one.told, Refusal)]
    unknown = any(isinstance(one.told, Refusal) and one.told.code == "outcome_unknown" for one in ones)
    durability, in_record = decider.durability, False
    durable = [one for one in done if one.row and one.row.operation.durable]
    if wait and durable:
        in_record = await wait.is_recorded([_answer(call, one, durability, "") for one in durable])
        durability = "recorded" if in_record else durability
    results, request_id = list[Rendered](), request.scope["state"]["request_id"]
    for start in range(0, len(ones), AT_ONCE):
        results += [_answer(call, one, durability, request_id) for one in ones[start : start + AT_ONCE]]
        await asyncio.sleep(0)
    changed = any(one.row is not VALIDATE for one in done)
    return _Ran(ones, results, durability, changed, unknown, in_record)


async def _restored(
    request: Request[Any, Any, Any], call: Call, operations: Sequence[msgspec.Raw], kept: KeptBatch
) -> msgspec.Raw:
    """The answer again, of what is kept of it. Raises Refusal `unavailable` where the outbox no longer has its
    redemptions, and Postgres is away."""
    context: Context = request.app.state.context
    results: list[Rendered] = []
    for start in range(0, len(operations), AT_ONCE):
        answers = kept.answers[start : start + AT_ONCE]
        names = [name for answer in answers if isinstance(answer, KeptReply) for name in answer.names]
        records: Records = {}
        if names:
            command = prepare_records(call.caller, names)
            records = read_records(await decide(context.decider, context.pool, call.caller, command))
        for raw, answer in zip(operations[start : start + AT_ONCE], answers, strict=True):
            one = _prepared(call, raw, counted=False)
            if isinstance(answer, Refusal):
                one.told = answer
            elif isinstance(one.told, Refusal):  # it was done once: only another version may read it otherwise
                raise one.told
            else:
                one.told = reply_of(answer, one.said, records)
            results.append(_answer(call, one, kept.durability, kept.request_id))
        await asyncio.sleep(0)
    return _joined(results)


async def _recalled(context: Context, call: Call, command: Command, reply: Reply) -> Reply | Refusal:
    try:
        return await recalled(context.decider, context.pool, call.caller, command, reply)
    except Refusal as refusal:
        return refusal


def _prepared(call: Call, raw: msgspec.Raw, *, counted: bool = True) -> _One:
    """An operation and what it runs, or why it is refused before that; not `counted` where it doesn't run."""
    one = _One()
    try:
        one.row, one.code, one.struct = read(call.caller, raw)
        one.command = begin_decoded(one.row, call, one.code, one.struct, counted=not counted)
    except Refusal as refusal:
        one.told = refusal
    return one


def _answer(call: Call, one: _One, durability: str, request_id: str) -> Rendered:
    if not isinstance(one.told, Refusal):
        assert one.command  # noqa: S101, what was told was asked
        return finish(one.command, one.told, durability)
    rendered = finish_refused(one.row, call.caller, one.told) if one.row else None
    return rendered or Rendered(one.told.outcome.status, problem(one.told, request_id), rates=one.told.rates)


def _joined(results: Sequence[Rendered]) -> msgspec.Raw:
    parts = [b'{"status":%d,"body":%b}' % (result.status, result.body or b"null") for result in results]
    return msgspec.Raw(b'{"results":[' + b",".join(parts) + b"]}")
