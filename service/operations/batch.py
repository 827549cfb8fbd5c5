"""Many operations in one request: what each of them looks like, and which of the single ones it is."""

from typing import TYPE_CHECKING, Annotated, Any, Union

import msgspec

from service.access.caller import Caller
from service.domain.decoding import decode
from service.domain.errors import malformed
from service.domain.field_types import Request, UserId
from service.operations import assign
from service.operations.base import for_user, without_user
from service.operations.table import ASSIGN_ANY, ASSIGN_CODE, ROWS, Row

MAX_OPERATIONS = 1_000

Code = Annotated[str, msgspec.Meta(description="The coupon's code, in any case.", examples=["SUMMER-7QX2"])]
BookId = Annotated[str, msgspec.Meta(description="The book's id; without `code`.")]


class BatchAssign(Request, tag_field="op", tag="assign"):
    """Give a user this coupon, or a free one of a book."""

    user_id: UserId
    code: Code | None = None
    book_id: BookId | None = None


def _of(row: Row) -> type[msgspec.Struct]:
    """The single request with its code, where it does not name the code itself."""
    request = row.operation.request
    own = [] if "code" in request.__struct_fields__ else [("code", Code)]
    kind = msgspec.defstruct(
        f"Batch{row.batch.title()}", own, bases=(request,), tag_field="op", tag=row.batch, kw_only=True,
        module=__name__,
    )  # fmt: skip
    kind.__doc__ = f"{row.operation.texts.summary}."
    return kind


_SINGLE = {row.batch: row for row in ROWS if row.batch}
_KINDS = (BatchAssign, *(_of(row) for row in _SINGLE.values()))
if TYPE_CHECKING:
    AnyOperation = Any
else:
    AnyOperation = Union[_KINDS]  # noqa: UP007


class Batch(Request):
    """Operations, decided in their order, each on its own."""

    operations: Annotated[list[AnyOperation], msgspec.Meta(min_length=1, max_length=MAX_OPERATIONS)]


class _Unread(Request):
    """A batch whose operations are still to be read, so that a bad one is refused alone."""

    operations: Annotated[list[msgspec.Raw], msgspec.Meta(min_length=1, max_length=MAX_OPERATIONS)]


_batch: "msgspec.json.Decoder[_Unread]" = msgspec.json.Decoder(_Unread)
_operation: "msgspec.json.Decoder[Any]" = msgspec.json.Decoder(AnyOperation)
_own_operation: "msgspec.json.Decoder[Any]" = msgspec.json.Decoder(
    Union[tuple(without_user(kind) for kind in _KINDS)]  # noqa: UP007
)


def split(body: bytes) -> list[msgspec.Raw]:
    """The operations of a batch, as they were sent; Refusal where there is none or too many, or the JSON is broken."""
    return decode(_batch, body).operations


def read(caller: Caller, raw: msgspec.Raw) -> tuple[Row, str | None, Any]:
    """The single operation that this is, its code and its request; Refusal as the single request's."""
    if caller.user is None:
        asked = decode(_operation, bytes(raw))
    else:
        asked = for_user(caller, decode(_own_operation, bytes(raw)))
    if not isinstance(asked, BatchAssign):
        return _SINGLE[asked.__struct_config__.tag], asked.code, asked
    if asked.code is not None and asked.book_id is None:
        return ASSIGN_CODE, asked.code, assign.AssignCode(user_id=asked.user_id)
    if asked.book_id is not None and asked.code is None:
        return ASSIGN_ANY, None, assign.AssignAny(user_id=asked.user_id, book_id=asked.book_id)
    raise malformed("code", "or bookId is needed, and not both")
