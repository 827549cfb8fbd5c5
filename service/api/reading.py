"""Reading requests: bodies within bounds, queries and cursors, with refusals in the contract's words."""

from collections.abc import AsyncIterator
from typing import Annotated, Any, TypeVar
from urllib.parse import parse_qsl
from uuid import UUID

import msgspec
from litestar import Request
from litestar.datastructures import Headers

from service.domain import field_types
from service.domain.decoding import check_texts, decode, refusal_from_error
from service.domain.errors import Refusal, invalid, malformed
from service.domain.field_types import parse_uuid
from service.formats.page_cursors import Cursor

T = TypeVar("T")
Query = TypeVar("Query", bound=msgspec.Struct)

BATCH_BYTES = 1 << 20
JSON_BYTES = 16 << 20
UPLOAD_BYTES = 1 << 30

_MAX_PARAMETERS = 64


class NoQuery(field_types.Request):
    """A request without query parameters."""


class Listing(field_types.Request):
    """The query of a list; newest first."""

    limit: Annotated[int, msgspec.Meta(ge=1, le=1000, description="At most so many items.")] = 50
    cursor: Annotated[str | None, msgspec.Meta(description="`nextCursor` of the page before.")] = None


def media_type(headers: Headers) -> str:
    """The body's media type in lower case, without parameters; Refusal where its charset or coding is none of ours."""
    kind, *parameters = headers.get("content-type", "").split(";")
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "charset" and value.strip().strip('"').lower() not in ("utf-8", "utf8", "us-ascii"):
            raise Refusal("unsupported_media_type", "Bodies are read as UTF-8.")
    if headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise Refusal("unsupported_media_type", "Bodies are read without a content coding.")
    return kind.strip().lower()


async def chunks(
    request: Request[Any, Any, Any], max_bytes: int, headers: Headers | None = None
) -> AsyncIterator[bytes]:
    """The body as it arrives; Refusal `too_large` past the bound. `headers` where they are at hand: Litestar makes them
    anew each time (3 µs)."""
    declared = (request.headers if headers is None else headers).get("content-length", "")
    if declared.isdecimal() and int(declared[:20]) > max_bytes:
        raise Refusal("too_large")
    size = 0
    while True:
        event = await request.receive()
        if event["type"] != "http.request":
            raise malformed("body", "ended early, the connection broke")
        part = event["body"]
        size += len(part)
        if size > max_bytes:
            raise Refusal("too_large")
        if part:
            yield part
        if not event["more_body"]:
            return


async def json_bytes(
    request: Request[Any, Any, Any], max_bytes: int = JSON_BYTES, headers: Headers | None = None
) -> bytes:
    """A JSON body as it was sent; Refusal `unsupported_media_type` for anything else, an absent one included."""
    headers = request.headers if headers is None else headers
    if media_type(headers) != "application/json":
        raise Refusal("unsupported_media_type", "Send `Content-Type: application/json`.")
    return b"".join([part async for part in chunks(request, max_bytes, headers)])


async def json_body(
    request: Request[Any, Any, Any], decoder: "msgspec.json.Decoder[T]", max_bytes: int = JSON_BYTES
) -> T:
    """The struct that a JSON body holds."""
    return decode(decoder, await json_bytes(request, max_bytes))


def query(request: Request[Any, Any, Any], kind: "type[Query]" = NoQuery) -> Query:
    """The query as a struct; unknown and repeated parameters are refused, and so are texts with control characters:
    Postgres stores no NUL."""
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
        raise malformed("query", "can't be read") from None
    found = dict(pairs)
    if len(found) != len(pairs):
        raise malformed("query", "names a parameter twice")
    check_texts(kind, found)
    try:
        asked = msgspec.convert(found, kind, strict=False)
    except msgspec.ValidationError as error:
        raise refusal_from_error(error) from None
    for field in msgspec.structs.fields(kind):
        value = getattr(asked, field.name)
        if field.encode_name in found and value is None:  # the word "null", for msgspec
            raise invalid(field.encode_name, "must not be null")
        if isinstance(value, str) and not value.isprintable() and field.name != "cursor":  # it is malformed then
            raise invalid(field.encode_name, "must be printable, without control characters")
    return asked


def id_of(text: str, refusal: str) -> UUID:
    """An id of ours from a path; the refusal (`book_not_found`) where it can't be one."""
    found = parse_uuid(text)
    if found is None:
        raise Refusal(refusal)
    return found


def position(listing: Listing, cursor: Cursor[int]) -> int | None:
    """The number before which this page's items come, in a list by a number. None is the first page."""
    place = cursor.decode(listing.cursor)
    return None if place is None else place[0]
