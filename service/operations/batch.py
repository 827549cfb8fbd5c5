"""Many operations in one request: what each of them looks like, and which of the single ones it is."""

from typing import Annotated, Any, Union, cast, get_args

import msgspec

from service.access.caller import Caller
from service.domain.decoding import decode
from service.domain.errors import malformed
from service.domain.field_types import Request, UserId
from service.operations import assign, lock, redeem
from service.operations.base import Operation, for_user, without_user

MAX_OPERATIONS = 1_000

Code = Annotated[str, msgspec.Meta(description="The coupon's code, in any case.", examples=["SUMMER-7QX2"])]
BookId = Annotated[str, msgspec.Meta(description="The book's id; without `code`.")]


class BatchAssign(Request, tag_field="op", tag="assign"):
    """Give a user this coupon, or a free one of a book."""

    user_id: UserId
    code: Code | None = None
    book_id: BookId | None = None


class BatchLock(lock.LockRequest, tag_field="op", tag="lock", kw_only=True):
    """Lock a coupon."""

    code: Code


class BatchExtend(lock.ExtendRequest, tag_field="op", tag="extend", kw_only=True):
    """Extend a lock."""

    code: Code


class BatchUnlock(lock.UnlockRequest, tag_field="op", tag="unlock", kw_only=True):
    """Release a lock."""

    code: Code


class BatchRedeem(redeem.RedeemRequest, tag_field="op", tag="redeem", kw_only=True):
    """Redeem a coupon."""

    code: Code


class BatchValidate(redeem.ValidateRequest, tag_field="op", tag="validate", kw_only=True):
    """Validate a coupon."""


AnyOperation = BatchAssign | BatchLock | BatchExtend | BatchUnlock | BatchRedeem | BatchValidate


class Batch(Request):
    """Operations, decided in their order, each on its own."""

    operations: Annotated[list[AnyOperation], msgspec.Meta(min_length=1, max_length=MAX_OPERATIONS)]


class _Unread(Request):
    """A batch whose operations are still to be read, so that a bad one is refused alone."""

    operations: Annotated[list[msgspec.Raw], msgspec.Meta(min_length=1, max_length=MAX_OPERATIONS)]


_batch: "msgspec.json.Decoder[_Unread]" = msgspec.json.Decoder(_Unread)
_operation: "msgspec.json.Decoder[AnyOperation]" = msgspec.json.Decoder(AnyOperation)
_own_kinds = tuple(without_user(kind) for kind in get_args(AnyOperation))
_own_operation: "msgspec.json.Decoder[Any]" = msgspec.json.Decoder(Union[_own_kinds])  # noqa: UP007
_SINGLE = {"lock": lock.LOCK, "extend": lock.EXTEND, "unlock": lock.UNLOCK, "redeem": redeem.REDEEM,
           "validate": redeem.VALIDATE}  # fmt: skip


def split(body: bytes) -> list[msgspec.Raw]:
    """The operations of a batch, as they were sent; Refusal where there is none or too many, or the JSON is broken."""
    return decode(_batch, body).operations


def read(caller: Caller, raw: msgspec.Raw) -> tuple[Operation, str | None, Any]:
    """The single operation that this is, its code and its request; Refusal as the single request's."""
    if caller.user is None:
        asked = decode(_operation, bytes(raw))
    else:
        asked = for_user(caller, decode(_own_operation, bytes(raw)))
    if not isinstance(asked, BatchAssign):
        return _SINGLE[cast("str", asked.__struct_config__.tag)], asked.code, asked
    if asked.code is not None and asked.book_id is None:
        return assign.ASSIGN_CODE, asked.code, assign.AssignCode(user_id=asked.user_id)
    if asked.book_id is not None and asked.code is None:
        return assign.ASSIGN_ANY, None, assign.AssignAny(user_id=asked.user_id, book_id=asked.book_id)
    raise malformed("code", "or bookId is needed, and not both")
