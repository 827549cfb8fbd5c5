"""Reading requests: media types, bodies up to a size, queries, ids and cursors. Controllers and hot_path.py call this.
The sizes are part of the API's contract (docs)."""

from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Annotated, Any, TypeVar
from urllib.parse import parse_qsl
from uuid import UUID

import msgspec
from litestar import Request
from litestar.datastructures import Headers

from service.engine.domain import field_types
from service.engine.domain.decoding import convert_query, decode
from service.engine.domain.errors import Refusal, invalid, malformed
from service.engine.domain.field_types import Nothing
from service.engine.domain.file_kinds import find_remedy
from service.engine.domain.uuids import parse_uuid
from service.engine.operations.caller import Caller
from service.engine.record.shared_pool import check_waiting
from service.server.api.auth import get_caller
from service.server.api.bulk import PIECE
from service.server.api.context import Context
from service.server.fastlane.bounded_protocol import has_left
from service.server.requests.page_cursors import Cursor

T = TypeVar("T")
Query = TypeVar("Query", bound=msgspec.Struct)

BATCH_BYTES = 1 << 20
JSON_BYTES = 1 << 20
SMALL_BYTES = 64 << 10
UPLOAD_JSON_BYTES = 16 << 20
UPLOAD_BYTES = 1 << 30

_MAX_PARAMETERS = 64
_CSV = "text/csv"

_make_decoder = cache(msgspec.json.Decoder)


class Listing(field_types.Request):
    """The query of a list; newest first."""

    limit: Annotated[int, msgspec.Meta(ge=1, le=1000, description="The largest number of items.")] = 50
    cursor: Annotated[str | None, msgspec.Meta(description="`nextCursor` of the previous page.")] = None


def parse_media_type(headers: Headers) -> str:
    """The body's media type in lower case, without parameters. Raises Refusal `unsupported_media_type` for a charset
    other than UTF-8, or a content coding."""
    kind, *parameters = headers.get("content-type", "").split(";")
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "charset" and value.strip().strip('"').lower() not in ("utf-8", "utf8", "us-ascii"):
            raise Refusal("unsupported_media_type", "Send the body in UTF-8.")
    if (coding := headers.get("content-encoding", "identity").strip().lower()) != "identity":
        problem = f"The request has the `Content-Encoding` {coding[:100]}. " if coding.isprintable() and coding else ""
        raise Refusal("unsupported_media_type", f"{problem}Decompress the body, and send it without a content coding.")
    return kind.strip().lower()


def refuse_media_type(kind: str, accepted: str) -> Refusal:
    """The Refusal of a body of this media type."""
    content_type = f"the `Content-Type` {kind[:100]}" if kind.isprintable() and kind else "no `Content-Type`"
    remedy = find_remedy(kind) if _CSV in accepted else None
    send = f"If the body is a file, {remedy}, and send it as {_CSV}." if remedy else "Send the body in that format."
    accepts = f"this address accepts {accepted}. {send}"
    return Refusal("unsupported_media_type", f"The request has {content_type}; {accepts}")


async def read_chunks(
    request: Request[Any, Any, Any], max_bytes: int, headers: Headers | None = None
) -> AsyncIterator[bytes]:
    """The parts of the body as they arrive. Raises Refusal `too_large`, and `malformed` if the client leaves. `headers`
    saves 3 µs: Litestar makes them at each access."""
    declared = _read_length(request.headers if headers is None else headers)
    if declared is not None and declared > max_bytes:
        raise _refuse_large(f"{declared:,}", max_bytes)
    size = 0
    while True:
        event = await request.receive()
        if event["type"] != "http.request":
            raise _refuse_incomplete()
        part = event["body"]
        size += len(part)
        if size > max_bytes:
            raise _refuse_large(f"more than {max_bytes:,}", max_bytes)
        if part:
            yield part
        if not event["more_body"]:
            return


def check_client(request: Request[Any, Any, Any]) -> None:
    """Raise Refusal `malformed` if the client has gone, even if a part of the body that it sent before is not read."""
    transport = request.scope["state"].get("transport")
    if transport is not None and has_left(transport):
        raise _refuse_incomplete()


def _read_length(headers: Headers) -> int | None:
    """The length of the body, if the client has declared it."""
    declared = headers.get("content-length", "")
    return int(declared[:20]) if declared.isdecimal() else None


def _refuse_incomplete() -> Refusal:
    return malformed("body", "is incomplete, since the connection broke")


def _refuse_large(size: str, max_bytes: int) -> Refusal:
    return Refusal(
        "too_large", f"The body has {size} bytes; this address accepts at most {max_bytes:,}. Send less at once."
    )


@cache
def may_be_empty(kind: Any) -> bool:
    """Whether a request may have no body, which then is `{}`: its body has no required field."""
    return issubclass(kind, msgspec.Struct) and not any(field.required for field in msgspec.structs.fields(kind))


async def read_json_bytes(
    request: Request[Any, Any, Any], kind: Any, max_bytes: int, headers: Headers | None = None
) -> bytes:
    """The bytes of a JSON body that is decoded as `kind`: `{}` for no body without a media type, if it may be empty.
    Raises Refusal `unsupported_media_type` for any other or no media type."""
    headers = request.headers if headers is None else headers
    media_type = parse_media_type(headers)
    if media_type != "application/json":
        if not media_type and may_be_empty(kind) and not await _has_body(request, headers):
            return b"{}"
        raise refuse_media_type(media_type, "application/json")
    declared = _read_length(headers)
    if max_bytes <= SMALL_BYTES or (declared is not None and declared <= SMALL_BYTES):
        slot: AbstractContextManager[None] = nullcontext()
    else:
        slot = request.app.state.context.bulk.bodies.one(get_caller(request).workspace)
    with slot:
        return b"".join([part async for part in read_chunks(request, max_bytes, headers)])


async def _has_body(request: Request[Any, Any, Any], headers: Headers) -> bool:
    async for _ in read_chunks(request, SMALL_BYTES, headers):
        return True
    return False


async def read_json_body(
    request: Request[Any, Any, Any], kind: type[T], max_bytes: int = JSON_BYTES
) -> tuple[bytes, T]:
    """The bytes of a JSON body, and the struct in it."""
    body = await read_json_bytes(request, kind, max_bytes)
    return body, decode(_make_decoder(kind), body)


def unpack_request(request: Request[Any, Any, Any], kind: "type[Query]" = Nothing) -> tuple[Caller, Context, Query]:
    """The authenticated caller, the objects of this process, and the query. Raises Refusal for a bad query, and if the
    workspace reads too many large pages already, or too many of its requests wait for Postgres."""
    caller, context, params = get_caller(request), request.app.state.context, parse_query(request, kind)
    check_waiting(context.pool, caller.workspace)
    if isinstance(params, Listing) and params.limit > PIECE:
        context.bulk.pages.check(caller.workspace)
    return caller, context, params


def parse_query(request: Request[Any, Any, Any], kind: "type[Query]" = Nothing) -> Query:
    """The query as a struct. Raises Refusal for unknown and repeated parameters, and for control characters: Postgres
    can't store NUL."""
    raw = request.scope["query_string"]
    try:
        pairs = parse_qsl(
            raw.decode("ascii"),
            keep_blank_values=True,
            strict_parsing=bool(raw),
            errors="strict",
            max_num_fields=_MAX_PARAMETERS,
        )
    except ValueError:
        raise malformed("query", "can't be decoded") from None
    values = dict(pairs)
    if len(values) != len(pairs):
        raise malformed("query", "has a parameter twice")
    params = convert_query(values, kind)
    for attribute, name in zip(kind.__struct_fields__, kind.__struct_encode_fields__, strict=True):
        value = getattr(params, attribute)
        if name in values and value is None:  # msgspec converts the text `null`
            raise invalid(name, "must not be null")
        if isinstance(value, str) and not value.isprintable() and name != "cursor":  # a bad cursor is malformed
            raise invalid(name, "must have printable characters only")
    return params


def parse_id(text: str, refusal: str, detail: str = "") -> UUID:
    """The UUID in a path. Raises the Refusal (such as `book_not_found`) if the text is not a UUID."""
    parsed = parse_uuid(text)
    if parsed is None:
        raise Refusal(refusal, detail)
    return parsed


def decode_position(listing: Listing, cursor: Cursor[int]) -> int | None:
    """The number below which the items of this page begin, in a list that is ordered by a number. None is the first
    page."""
    numbers = cursor.decode(listing.cursor)
    return None if numbers is None else numbers[0]
