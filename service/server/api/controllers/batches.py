"""Batches: many hot operations in one request. app.py registers it; roles.py has the scope of `runBatch`. What is
stored under a key (batch_answers.py) is read again by other versions."""

import asyncio
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, cast

import msgspec
from litestar import Controller, Request, Response, post

from service.engine.deciding.counting import add_count, make_count
from service.engine.deciding.recall import decide, resolve_recall
from service.engine.domain.errors import Refusal
from service.engine.domain.field_types import Answer, canonicalize_code, encode_field
from service.engine.domain.limits import make_rate_headers
from service.engine.formats.batch_answers import KeptBatch, KeptReply, OwnIds, keep_batch, read_batch, reply_of
from service.engine.hot.turns import MAX_REQUESTS
from service.engine.operations.base import Call, Command, Rendered, Reply
from service.engine.operations.batch import Batch, Records, parse_records, prepare_records, read_operation, split_batch
from service.engine.operations.document_parts import BOOK_ID, REDEMPTION
from service.engine.operations.run import begin_decoded, finish, finish_refused, needs_facts
from service.engine.operations.table import Row
from service.server.answers.problem_document import problem
from service.server.api.auth import is_session
from service.server.api.context import Context
from service.server.api.documented import describe_action
from service.server.api.durability import RECORDED, Wait, parse_preferred_wait_s
from service.server.api.hot_path import call_without_body
from service.server.api.idempotency import ActionResult, run_once
from service.server.api.reading import BATCH_BYTES, check_client, read_json_bytes, unpack_request
from service.server.api.request_limits import count_refused
from service.server.api.session_actions import NOT_IN_SESSION

_ANSWERS = ("ChangedCoupon", "Lock", "DurableRedemption", "Validation", "Problem")
AT_ONCE = MAX_REQUESTS
"""Operations between two turns of the event loop: about 1 ms to prepare or to render, and one call to Redis."""
BYTES_AT_ONCE = 16 << 10
"""Of operations that must be decoded: 16 KiB of `items` take 2 ms. An operation has at least a turn of its own."""
REFUSED_AT_ONCE = 8
"""Operations that are refused without Redis, in one turn of bulk work: to name a mistake takes longer."""

_any_of = [*({"$ref": f"#/components/schemas/{name}"} for name in _ANSWERS), {"type": "null"}]
_Body = Annotated[
    Any,
    msgspec.Meta(
        description="The body that the single request would have; null for none.",
        extra_json_schema={"anyOf": _any_of},
    ),
]

_EXAMPLE = {
    "operations": [
        {"op": "redeem", "code": "SUMMER-7QX2", "userId": "user-42", "orderId": "A-1001", "orderValue": 120},
        {"op": "assign", "bookId": BOOK_ID, "userId": "user-43"},
    ]
}
_RESULTS = {
    "results": [
        {"status": 201, "body": REDEMPTION | {"durability": "fsynced"}},
        {"status": 409, "body": msgspec.json.decode(problem(Refusal("out_of_stock"), "4f1c"))},
    ]
}


class Result(Answer):
    """The result of one operation."""

    status: Annotated[int, msgspec.Meta(description="The status that the single request would have.")]
    body: _Body


class Results(Answer):
    """The results in the order of the operations."""

    results: list[Result]


class _Operation(msgspec.Struct):
    """An operation of a batch; `reply` is its script's reply, or the refusal."""

    row: Row | None = None
    command: Command | None = None
    reply: Reply | Refusal = []
    code: str | None = None
    struct: Any = None

    @property
    def ids(self) -> OwnIds:
        """The ids in the operation's request. They are left out of the stored response."""
        user, order = getattr(self.struct, "user_id", None), getattr(self.struct, "order_id", None)
        return OwnIds(canonicalize_code(self.code or "") or "-", encode_field(user), encode_field(order))


class _BatchRun(msgspec.Struct):
    """The result of a batch."""

    entries: list[_Operation]
    results: list[Rendered]
    durability: str
    changed: bool
    """Whether an operation succeeded that may change something."""
    unknown: bool
    """Whether the result of an operation is unknown."""
    recorded: bool


class Batches(Controller):
    path = "/v1"

    @post(
        "/batch",
        status_code=200,
        **describe_action(
            "runBatch",
            "Run many operations",
            "Coupons",
            returns="A result for each operation, in their order.",
            body=Batch,
            example=_EXAMPLE,
            answer=_RESULTS,
            refusals="outcome_unknown",
            durable=True,
            counted=True,
        ),
    )
    async def run(self, request: Request[Any, Any, Any]) -> Response[Results]:
        """Run the operations in order, each on its own: one that is refused or malformed has a problem as its result,
        and does not affect the others. `assign` takes either `code` or `bookId`. Scope `checkout`.

        An `Idempotency-Key` is for the whole batch. If an operation succeeded that may change something, a repeat gets
        the stored response, with its refusals. If all operations were refused or only validated, nothing is stored: a
        repeat runs the batch again. A response with `outcome_unknown` is not stored. After a request that died, a
        repeat is refused with `request_in_progress` for up to a minute, and then runs again: give each redemption an
        `orderId`, so that it happens only once.

        A batch without a key whose client disconnects ends; what was decided until then stands."""
        headers = request.headers
        try:
            caller, _, _ = unpack_request(request)
            if is_session(request):
                raise Refusal("forbidden", NOT_IN_SESSION)
            body = await read_json_bytes(request, Batch, BATCH_BYTES, headers)
            operations = split_batch(caller, body)
            wait_s = parse_preferred_wait_s(headers)
            call = call_without_body(request, caller, keyed=False)
        except Refusal as refusal:
            raise await count_refused(request, refusal) from None
        applied, rates = False, ""

        async def act() -> ActionResult[msgspec.Raw]:
            nonlocal applied, rates
            batch_run = await _run(request, call, operations, wait_s)
            applied = batch_run.recorded
            rates = next((result.rates for result in reversed(batch_run.results) if result.rates), "")
            key = "claimed" if batch_run.unknown else "free"
            if batch_run.unknown or not batch_run.changed or "idempotency-key" not in headers:
                return ActionResult(status=200, body=_join_results(batch_run.results), key=key)
            replies = ((entry.ids, entry.reply) for entry in batch_run.entries)
            reference = keep_batch(batch_run.durability, request.scope["state"]["request_id"], replies)
            return ActionResult(status=200, body=_join_results(batch_run.results), reference=reference)

        async def restore(stored: bytes) -> bytes:
            return await _restore_body(request, call, operations, read_batch(stored.decode()))

        response = await run_once(request, body, act, restore)
        if applied:
            response.headers["Preference-Applied"] = RECORDED
        response.headers.update(make_rate_headers(rates))
        return cast("Response[Results]", response)


async def _run(
    request: Request[Any, Any, Any], call: Call, operations: Sequence[msgspec.Raw | msgspec.Struct], wait_s: int | None
) -> _BatchRun:
    """Decode, prepare and send AT_ONCE operations, wait for their replies, and continue with the next ones, so that no
    other request waits for a whole batch. Then render all results. An operation that is already refused is counted.

    If the client has gone, the batch ends with Refusal `malformed`. Under an Idempotency-Key it goes on once an
    operation was sent: the client comes back for its response, and must not have anything done twice."""
    context: Context = request.app.state.context
    decider, partition = context.decider, call.caller.partition
    wait = await Wait.begin(context, call.caller, wait_s)
    entries: list[_Operation] = []
    count = make_count(call) if call.caller.limits else None
    for piece in _cut(operations):
        some = await _prepare_some(context, call, operations[piece])
        sent = [(entry, command) for entry in some if (command := entry.command or count)]
        async with context.bulk.batches.one(call.caller.workspace):
            if not entries or "idempotency-key" not in request.headers:
                check_client(request)
            replies = await decider.run_all(
                partition, [(command.script, command.keys, command.args) for _, command in sent]
            )
        for (entry, command), reply in zip(sent, replies, strict=True):
            if isinstance(entry.reply, Refusal):
                entry.reply = add_count(entry.reply, reply)
                continue
            entry.reply = reply
            if not isinstance(reply, Refusal) and needs_facts(reply):
                try:
                    entry.reply = await resolve_recall(decider, context.pool, call.caller, command, reply)
                except Refusal as refusal:
                    entry.reply = refusal
        entries += some
    done = [entry for entry in entries if not isinstance(entry.reply, Refusal)]
    unknown = any(isinstance(entry.reply, Refusal) and entry.reply.code == "outcome_unknown" for entry in entries)
    durability, in_record = decider.durability(partition), False
    durable = [entry for entry in done if entry.row and entry.row.operation.durable]
    if wait and durable:
        in_record = await wait.finish(await _render(call, durable, durability, ""))
        durability = "recorded" if in_record else durability
    results = await _render(call, entries, durability, request.scope["state"]["request_id"])
    changed = any(entry.row and not entry.row.reads for entry in done)
    return _BatchRun(entries, results, durability, changed, unknown, in_record)


async def _restore_body(
    request: Request[Any, Any, Any], call: Call, operations: Sequence[msgspec.Raw | msgspec.Struct], stored: KeptBatch
) -> msgspec.Raw:
    """Make the body again from what is stored. Raises Refusal `unavailable` if the outbox no longer has its
    redemptions and Postgres is unreachable."""
    context: Context = request.app.state.context
    results: list[Rendered] = []
    for piece in _cut(operations):
        answers = stored.answers[piece]
        names = [name for answer in answers if isinstance(answer, KeptReply) for name in answer.names]
        records: Records = {}
        if names:
            command = prepare_records(call.caller, names)
            records = parse_records(await decide(context.decider, context.pool, call.caller, command))
        entries = await _prepare_some(context, call, operations[piece], runs=False)
        for entry, answer in zip(entries, answers, strict=True):
            if isinstance(answer, Refusal):
                entry.reply = answer
            elif isinstance(entry.reply, Refusal):
                # It succeeded before: only another version of the service may reject it.
                raise entry.reply
            else:
                entry.reply = reply_of(answer, entry.ids, records)
            results.append(_answer(call, entry, stored.durability, stored.request_id))
        await asyncio.sleep(0)
    return _join_results(results)


def _cut(operations: Sequence[msgspec.Raw | msgspec.Struct]) -> Iterator[slice]:
    """The pieces of a batch: up to AT_ONCE operations each, and BYTES_AT_ONCE."""
    start = size = 0
    for at, operation in enumerate(operations):
        size += _size(operation)
        if at > start and (at - start == AT_ONCE or size > BYTES_AT_ONCE):
            yield slice(start, at)
            start, size = at, _size(operation)
    yield slice(start, len(operations))


def _size(operation: msgspec.Raw | msgspec.Struct) -> int:
    """The bytes that are still to be decoded."""
    return len(operation) if isinstance(operation, msgspec.Raw) else 0


async def _prepare_some(
    context: Context, call: Call, operations: Sequence[msgspec.Raw | msgspec.Struct], *, runs: bool = True
) -> list[_Operation]:
    """As _prepare. If they are large, or many are refused, they take turns with bulk work, so that they slow no
    other request."""
    entries: list[_Operation] = []
    refused = 0
    if len(operations) < AT_ONCE and sum(map(_size, operations)) > BYTES_AT_ONCE // 2:
        await context.bulk.turns.take(call.caller.workspace)
    for operation in operations:
        entries.append(_prepare(call, operation, runs=runs))
        refused += isinstance(entries[-1].reply, Refusal)
        if refused == REFUSED_AT_ONCE:
            refused = 0
            await context.bulk.turns.take(call.caller.workspace)
    return entries


def _prepare(call: Call, operation: msgspec.Raw | msgspec.Struct, *, runs: bool = True) -> _Operation:
    """Decode an operation and make its command, or set the refusal. One that will not run needs no limits."""
    entry = _Operation()
    try:
        entry.row, entry.code, entry.struct = read_operation(call.caller, operation)
        entry.command = begin_decoded(entry.row, call, entry.code, entry.struct, counted=not runs)
    except Refusal as refusal:
        entry.reply = refusal.drop_frames()
    return entry


async def _render(call: Call, entries: Sequence[_Operation], durability: str, request_id: str) -> list[Rendered]:
    """The results, AT_ONCE in a turn of the event loop."""
    results: list[Rendered] = []
    for start in range(0, len(entries), AT_ONCE):
        results += [_answer(call, entry, durability, request_id) for entry in entries[start : start + AT_ONCE]]
        await asyncio.sleep(0)
    return results


def _answer(call: Call, entry: _Operation, durability: str, request_id: str) -> Rendered:
    if not isinstance(entry.reply, Refusal):
        assert entry.command  # noqa: S101, only an operation with a command has a reply
        return finish(entry.command, entry.reply, durability)
    rendered = finish_refused(entry.row, call.caller, entry.reply) if entry.row else None
    return rendered or Rendered(entry.reply.outcome.status, problem(entry.reply, request_id), rates=entry.reply.rates)


def _join_results(results: Sequence[Rendered]) -> msgspec.Raw:
    parts = [b'{"status":%d,"body":%b}' % (result.status, result.body or b"null") for result in results]
    return msgspec.Raw(b'{"results":[' + b",".join(parts) + b"]}")
