"""Decode the operations of a batch, map each to its single operation, and fetch the records that a stored answer of a
batch refers to: batches.py calls this. A batch whose requests are all usual (usual_requests.py) is decoded at once."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Union

import msgspec

from service.engine.domain.decoding import decode, decode_raw
from service.engine.domain.errors import malformed
from service.engine.domain.field_types import Request, UserId
from service.engine.operations import assign
from service.engine.operations.base import Command, Reply, fill_user, render_nothing, without_user
from service.engine.operations.caller import Caller
from service.engine.operations.coupon_view import Code
from service.engine.operations.table import ASSIGN_ANY, ASSIGN_CODE, ROWS, Row
from service.engine.operations.usual_requests import SPACE, count_members, may_be_usual, usual_struct

MAX_OPERATIONS = 1_000

Records = dict[str, tuple[str, str]]
"""Event or redemption id → (record, book id)."""

BookId = Annotated[str, msgspec.Meta(description="Without `code`.")]


class BatchAssign(Request, tag_field="op", tag="assign"):
    """Assign this coupon, or a free one of a book."""

    user_id: UserId
    code: Code | None = None
    book_id: BookId | None = None


def _define_operation(row: Row) -> type[msgspec.Struct]:
    """The single request's struct, with a code if it has none."""
    request = row.operation.request
    own = [] if "code" in request.__struct_fields__ else [("code", Code)]
    name = f"Batch{row.batch.title()}"
    kind = msgspec.defstruct(name, own, bases=(request,), tag_field="op", tag=row.batch, kw_only=True, module=__name__)
    kind.__doc__ = f"{row.operation.texts.summary}."
    return kind


_SINGLE = {row.batch: row for row in ROWS if row.batch}
_KINDS = (BatchAssign, *(_define_operation(row) for row in _SINGLE.values()))
if TYPE_CHECKING:
    AnyOperation = Any
    _AnyUsual = Any
    _AnyOwn = Any
else:
    AnyOperation = Union[_KINDS]  # noqa: UP007
    _AnyUsual = Union[tuple(map(usual_struct, _KINDS))]  # noqa: UP007
    _AnyOwn = Union[tuple(map(without_user, _KINDS))]  # noqa: UP007


class Batch(Request):
    """Operations, decided one by one in their order."""

    operations: Annotated[list[AnyOperation], msgspec.Meta(min_length=1, max_length=MAX_OPERATIONS)]


class _UsualBatch(Request):
    """A batch of usual requests."""

    operations: Annotated[list[_AnyUsual], msgspec.Meta(min_length=1, max_length=MAX_OPERATIONS)]


class _Unread(Request):
    """A batch with undecoded operations, so that an invalid one is refused alone."""

    operations: Annotated[list[msgspec.Raw], msgspec.Meta(min_length=1, max_length=MAX_OPERATIONS)]


_usual_batch: "msgspec.json.Decoder[_UsualBatch]" = msgspec.json.Decoder(_UsualBatch)
_batch: "msgspec.json.Decoder[_Unread]" = msgspec.json.Decoder(_Unread)
_operation: "msgspec.json.Decoder[Any]" = msgspec.json.Decoder(AnyOperation)
_own_operation: "msgspec.json.Decoder[Any]" = msgspec.json.Decoder(_AnyOwn)


def split_batch(caller: Caller, body: bytes) -> Sequence[msgspec.Raw | msgspec.Struct]:
    """The operations of a batch: in their usual form if all are usual, which takes 2 ms for 1,000 of them, else
    undecoded. Refusal if it has none or too many, or is not JSON."""
    return (_split_usual(body) if caller.user is None else None) or decode(_batch, body).operations


def _split_usual(body: bytes) -> list[msgspec.Struct] | None:
    if not may_be_usual(body):
        return None
    try:
        requests: list[msgspec.Struct] = _usual_batch.decode(body).operations
    except (msgspec.DecodeError, RecursionError):
        return None
    spaced = SPACE in body
    counts = [count_members(request, spaced) for request in requests]
    members = 1 + len(counts) + sum(counts)  # `operations`, and each one's `op`
    return requests if min(counts) > 0 and members == body.count(b'":') else None


def read_operation(caller: Caller, operation: msgspec.Raw | msgspec.Struct) -> tuple[Row, str | None, Any]:
    """The single operation, its code and its request. Raises the single request's Refusal."""
    request: Any = operation
    if isinstance(operation, msgspec.Raw):
        request = decode_raw(_operation if caller.user is None else _own_operation, operation)
    if caller.user is not None:
        request = fill_user(caller, request)
    kind = request.__struct_config__.tag
    if kind != "assign":
        return _SINGLE[kind], request.code, request
    if request.code is not None and request.book_id is None:
        return ASSIGN_CODE, request.code, assign.AssignCode(user_id=request.user_id)
    if request.book_id is not None and request.code is None:
        return ASSIGN_ANY, None, assign.AssignAny(user_id=request.user_id, book_id=request.book_id)
    raise malformed("code", "or bookId is needed, and not both")


def prepare_records(caller: Caller, names: Sequence[str]) -> Command:
    """Read at most 64 records (AT_ONCE in batches.py); `parse_records` parses the reply."""
    return Command(
        "read_records", (caller.gate, caller.keys.settings), (" ".join(dict.fromkeys(names)),), render_nothing
    )


def parse_records(reply: Reply) -> Records:
    parts = iter(reply[1:])
    return {name: (record, book_id) for name, record, book_id in zip(parts, parts, parts, strict=True)}
